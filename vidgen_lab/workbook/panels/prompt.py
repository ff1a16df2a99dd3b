"""A panel for prompts and the numbers beside them.

Nothing depends on a click: `PromptPanel.request` is a complete request from the moment the panel
exists, so a notebook that runs without a front-end uses the same cells. Only controls that
ipywidgets 7.7 (Colab) and 8 (JupyterLab) share are used.
"""

import html
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import ipywidgets as w

from vidgen_lab.generation.generate import (
    Generation,
    GenerationCancelled,
    Step,
    generate,
    model_name,
)
from vidgen_lab.generation.request import GenerationRequest, ModelLimits, RequestError
from vidgen_lab.generation.words import words_note
from vidgen_lab.video.show import show_video, show_videos
from vidgen_lab.workbook.panels.base import HALF, WIDE, Panel, control

if TYPE_CHECKING:
    from diffusers import CogVideoXPipeline

HISTORY = 4  # clips kept side by side


class PromptPanel(Panel):
    """Type a prompt, move the sliders, press Generate; the last clips stay side by side.

    Args:
        pipe: the loaded pipeline.
        request: the values to start from.
        ideas: prompts to pick from.

    Attributes:
        history: all finished generations, the newest last.
    """

    def __init__(
        self, pipe: "CogVideoXPipeline", request: GenerationRequest, ideas: Sequence[str] = ()
    ) -> None:
        self.pipe = pipe
        self.history: list[Generation] = []
        self._base = request
        self._cancel = threading.Event()
        self._thread: threading.Thread | None = None
        self._build(request, ideas)

    @property
    def request(self) -> GenerationRequest:
        """What the controls say now.

        Raises:
            RequestError: no such request can be made, e.g. of an empty prompt.
        """
        return self._base.with_(**{name: control.value for name, control in self.controls.items()})

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def summary(self) -> str:
        prompt, _, steps, guidance, frames, seed = (c.value for c in self.controls.values())
        settings = f"{steps} steps, guidance {guidance:g}, {frames} frames, seed {seed}"
        return f"Panel: {prompt!r}, {settings}"

    def start(self) -> None:
        """Begin to generate what the controls say, in the background; what Generate does."""
        if self.running:
            return
        try:
            request = self.request
        except RequestError as error:
            self._say(str(error), wrong=True)
            return
        self._cancel = threading.Event()
        self._set_busy(True)
        self.bar.max, self.bar.value = request.num_inference_steps, 0
        note = html.escape(words_note(request.prompt, model_name(self.pipe, request)))
        self.words.value = note.replace("\n", "<br>")
        self._say("Warming up …")
        self._thread = threading.Thread(target=self._work, args=(request, self._cancel))
        self._thread.start()

    def cancel(self) -> None:
        """Stop the generation at its next step; what Cancel does."""
        self._cancel.set()
        self._say("Stopping after this step …")

    def wait(self, timeout: float | None = None) -> None:
        """Block until the generation in the background has ended, or for `timeout` seconds."""
        if self._thread:
            self._thread.join(timeout)

    def _work(self, request: GenerationRequest, stop: threading.Event) -> None:
        watch = {"on_step": self._on_step, "should_stop": stop.is_set}
        every = max(1, request.num_inference_steps // 4)
        try:
            made = generate(self.pipe, request, preview_every=every, **watch)
        except GenerationCancelled:
            self._say("Cancelled. Nothing was kept.")
        except Exception as error:  # a thread that dies silently would leave the panel busy
            self._say(f"{type(error).__name__}: {error}", wrong=True)
        else:
            self.history.append(made)
            newest = self.history[-HISTORY:][::-1]
            titles = [f"{g.recipe['prompt']} (seed {g.recipe['seed']})" for g in newest]
            self.shelf.value = show_videos([g.clip for g in newest], titles, width=240).data
            self._say(f"Done in {made.recipe['seconds']:.1f} s.")
        finally:
            self.now.value = ""
            self._set_busy(False)

    def _on_step(self, step: Step) -> None:
        self.bar.value = step.step
        left = step.seconds / step.step * (step.total - step.step)
        self._say(f"Step {step.step} of {step.total}, about {left:.0f} s left")
        if step.preview:
            self.now.value = show_video(step.preview, width=240).data

    def _say(self, text: str, wrong: bool = False) -> None:
        colour = "#cc4b4b" if wrong else "inherit"
        self.status.value = f'<span style="color: {colour}">{html.escape(text)}</span>'

    def _set_busy(self, busy: bool) -> None:
        self.generate_button.disabled = busy
        self.cancel_button.disabled = not busy
        self.bar.layout.visibility = "visible" if busy else "hidden"

    def _build(self, request: GenerationRequest, ideas: Sequence[str]) -> None:
        limits = ModelLimits.from_pipe(self.pipe)
        shortest, step = limits.frame_step + limits.frame_offset, limits.frame_step
        frames = sorted({*range(shortest, limits.native[0] + 1, step), request.num_frames})
        steps = max(60, request.num_inference_steps)
        guidance, last_seed = max(12.0, request.guidance_scale), max(2**31 - 1, request.seed)
        kinds = {
            "prompt": (w.Textarea, "prompt", WIDE, {"rows": 2}),
            "negative_prompt": (w.Text, "negative prompt", WIDE, {}),
            "num_inference_steps": (w.IntSlider, "steps", HALF, {"min": 1, "max": steps}),
            "guidance_scale": (
                w.FloatSlider, "guidance", HALF, {"min": 1, "max": guidance, "step": 0.5}
            ),
            "num_frames": (w.Dropdown, "frames", HALF, {"options": frames}),
            "seed": (w.BoundedIntText, "seed", HALF, {"min": 0, "max": last_seed}),
        }  # fmt: skip
        self.controls = {
            name: control(kind, label, width, value=getattr(request, name), **options)
            for name, (kind, label, width, options) in kinds.items()
        }
        self.generate_button = w.Button(description="Generate", button_style="primary")
        self.cancel_button = w.Button(description="Cancel", disabled=True)
        self.generate_button.on_click(lambda _: self.start())
        self.cancel_button.on_click(lambda _: self.cancel())
        self.bar = w.IntProgress(0, 0, 1, layout=w.Layout(width="220px", visibility="hidden"))
        self.status, self.words, self.now, self.shelf = shown = [w.HTML() for _ in range(4)]
        # The first is what the panel starts from: the link sets the prompt at once.
        choices = list(dict.fromkeys([request.prompt, *ideas]))
        picker = control(w.Dropdown, "ideas", WIDE, options=choices)
        prompt, negative, *small = self.controls.values()
        w.dlink((picker, "value"), (prompt, "value"))
        buttons = [self.generate_button, self.cancel_button, self.bar]
        rows = [w.HBox(row) for row in (small[:2], small[2:], buttons)]
        self.box = w.VBox([picker, prompt, negative, *rows, *shown])
