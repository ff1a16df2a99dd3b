"""Text to video: a pipeline and a request make a clip and its recipe."""

import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import wraps
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from vidgen_lab.generation.errors import GenerationCancelled, NonFiniteError
from vidgen_lab.generation.lora import active_adapters
from vidgen_lab.generation.memory import PeakMemory
from vidgen_lab.generation.request import GenerationRequest, request_of, validate_request
from vidgen_lab.generation.words import ignored_words
from vidgen_lab.settings.hardware import processor_name
from vidgen_lab.video.clip import Clip

if TYPE_CHECKING:
    import numpy as np
    import torch
    from diffusers import CogVideoXPipeline

PREVIEWS = ("latents", "estimate")

# A scheduler keeps the state of the clip it works on, so a pipeline makes one clip at a time: a
# panel's thread and the cells of its notebook take turns.
_TURNS: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


@dataclass(frozen=True)
class Step:
    """News after one denoising step.

    step: 1 .. total. timestep: the model's own, 999 (noise) down to 0. seconds: since the start,
    previews not counted. preview: the decoded state every `preview_every` steps, else None.
    """

    step: int
    total: int
    timestep: int
    seconds: float
    preview: Clip | None = None


@dataclass(frozen=True)
class Generation:
    """A clip and everything needed to make it again: `recipe` is a flat, JSON-ready dict."""

    clip: Clip
    recipe: dict[str, Any]

    @property
    def request(self) -> GenerationRequest:
        return request_of(self.recipe)


def generate(
    pipe: "CogVideoXPipeline",
    request: GenerationRequest,
    on_step: Callable[[Step], None] | None = None,
    preview_every: int = 0,
    preview_of: str = "latents",
    should_stop: Callable[[], bool] | None = None,
) -> Generation:
    """Make the clip that a request describes.

    pipe: any CogVideoXPipeline; its model, not `request.model`, goes into the recipe.
    on_step: called after every step. preview_every: decode every k-th step for it (0: never;
        the last step is the result itself and gets none).
    preview_of: "latents" shows the state as it is, noise that turns into a video; "estimate"
        shows the clip the model expects at that step, a blur that sharpens.
    should_stop: asked before every step; true ends the work at once. `threading.Event().is_set`
        is a stop button that any thread or widget can press.
    Raises RequestError before any work, GenerationCancelled, and NonFiniteError when the model
    produces NaN or infinity. Threads that share a pipeline take turns. The noise is drawn on the
    CPU, so a seed means the same noise on every device. (book listing 1.L07)
    """
    if preview_of not in PREVIEWS:
        raise ValueError(f"preview_of must be one of {PREVIEWS}, not {preview_of!r}")
    limits = validate_request(request, pipe)
    if said := limits.unfamiliar(request):
        warnings.warn(said, stacklevel=2)
    device = str(pipe._execution_device)
    with _TURNS.setdefault(pipe, threading.RLock()), PeakMemory(device) as peak:
        reporter = _Reporter(pipe, request, on_step, preview_every, preview_of, should_stop)
        reporter.stop_if_asked()
        frames = _sample(pipe, request, limits.max_text_tokens, reporter)
        seconds = reporter.seconds()
    clip = _to_clip(frames, request.fps, pipe)
    if clip.num_frames != request.num_frames:
        raise RuntimeError(f"asked for {request.num_frames} frames, got {clip.num_frames}")
    recipe = _recipe(pipe, request, device, seconds, peak.gib)
    return Generation(replace(clip, meta={"prompt": request.prompt, "seed": request.seed}), recipe)


def _sample(
    pipe: "CogVideoXPipeline", request: GenerationRequest, text_tokens: int, reporter: "_Reporter"
) -> "np.ndarray":
    """Call the pipeline -> [T, H, W, 3] floats in 0..1."""
    import torch

    try:
        with reporter.listening():
            return pipe(
                **request.pipeline_arguments(),
                generator=torch.Generator("cpu").manual_seed(request.seed),
                # A 2B-type model reads a text of exactly this length.
                max_sequence_length=text_tokens,
                callback_on_step_end=reporter.after_step,
                output_type="np",
            ).frames[0]
    except BaseException:
        pipe.maybe_free_model_hooks()  # an interrupted call leaves offloaded parts on the GPU
        raise


def decode(pipe: "CogVideoXPipeline", latents: "torch.Tensor", num_frames: int, fps: float) -> Clip:
    """Decode latents [1, F, C, h, w] as the pipeline holds them while it samples.

    CogVideoX 1.5 pads the latents at the front to whole tokens; that padding is cut off.
    """
    real = (num_frames - 1) // pipe.vae_scale_factor_temporal + 1
    video = pipe.decode_latents(latents[:, latents.shape[1] - real :].to(pipe.vae.dtype))
    frames = pipe.video_processor.postprocess_video(video, output_type="np")[0]
    return _to_clip(frames, fps, pipe)


class _Reporter:
    """What happens between two denoising steps: stop, check, preview, report."""

    def __init__(
        self,
        pipe: "CogVideoXPipeline",
        request: GenerationRequest,
        on_step: Callable[[Step], None] | None,
        preview_every: int,
        preview_of: str,
        should_stop: Callable[[], bool] | None,
    ) -> None:
        self.pipe, self.request = pipe, request
        self.on_step, self.should_stop = on_step, should_stop
        self.preview_every = preview_every if on_step else 0
        self.preview_of = preview_of
        self._estimate: torch.Tensor | None = None
        self._start = time.perf_counter()
        self._apart = 0.0  # seconds spent on previews and in the caller's code

    def seconds(self) -> float:
        return time.perf_counter() - self._start - self._apart

    def stop_if_asked(self) -> None:
        if self.should_stop and self.should_stop():
            raise GenerationCancelled("The generation was stopped; nothing was written.")

    def after_step(
        self, pipe: "CogVideoXPipeline", index: int, timestep: Any, tensors: dict[str, Any]
    ) -> dict[str, Any]:
        """diffusers' `callback_on_step_end`. Raising leaves its loop at once."""
        latents = tensors["latents"]  # [1, F, C, h, w]
        step, total = index + 1, pipe.num_timesteps
        if not latents.isfinite().all():
            raise NonFiniteError(_broken(pipe, f"at step {step} of {total}"))
        if self.on_step:
            seconds = self.seconds()
            self.on_step(Step(step, total, int(timestep), seconds, self._preview(step, latents)))
            self._apart += self.seconds() - seconds
        if step < total:
            self.stop_if_asked()
        return tensors

    def _preview(self, step: int, latents: "torch.Tensor") -> Clip | None:
        last = step == self.pipe.num_timesteps
        if not self.preview_every or last or step % self.preview_every:
            return None
        shown = latents if self.preview_of == "latents" else self._estimate
        return decode(self.pipe, shown, self.request.num_frames, self.request.fps)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Note the scheduler's estimate of the clean latents, which the pipeline drops."""
        if self.preview_of != "estimate" or not self.preview_every:
            yield
            return
        scheduler = self.pipe.scheduler
        original = scheduler.step

        @wraps(original)  # the pipeline looks at the signature
        def step(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            self._estimate = result[1]
            return result

        scheduler.step = step
        try:
            yield
        finally:
            del scheduler.step


def _to_clip(frames: Any, fps: float, pipe: "CogVideoXPipeline") -> Clip:
    import numpy as np

    if not np.isfinite(frames).all():
        raise NonFiniteError(_broken(pipe, "in the decoded frames"))
    return Clip.from_float(frames, fps)


def _broken(pipe: "CogVideoXPipeline", where: str) -> str:
    dtype = _dtype_name(pipe)
    advice = "the weights are damaged or badly trained"
    if dtype == "float16":
        advice = 'float16 overflowed: load the model with dtype="bfloat16" or "float32"'
    return f"The model produced NaN or infinity {where} ({dtype}). Probably {advice}."


def _dtype_name(pipe: "CogVideoXPipeline") -> str:
    return str(pipe.transformer.dtype).removeprefix("torch.")


def model_name(pipe: "CogVideoXPipeline", request: GenerationRequest) -> str:
    """The name of the model that a pipeline was loaded as, or where it came from."""
    loaded = getattr(pipe, "loaded", None)
    return str(loaded.name if loaded else request.model or pipe.config._name_or_path)


def _recipe(
    pipe: "CogVideoXPipeline",
    request: GenerationRequest,
    device: str,
    seconds: float,
    peak_memory_gib: float,
) -> dict[str, Any]:
    loaded, name = getattr(pipe, "loaded", None), model_name(pipe, request)
    return request.to_dict() | {
        "ignored_words": list(ignored_words(request.prompt, name)),
        "model": name,
        "model_revision": loaded.revision if loaded else None,
        "scheduler": type(pipe.scheduler).__name__,
        "dtype": _dtype_name(pipe),
        "device": device,
        "device_name": _device_name(device),
        "offload": loaded.offload if loaded else None,
        "vae_tiling": pipe.vae.use_tiling,
        "lora": active_adapters(pipe),
        "seconds": round(seconds, 3),
        "peak_memory_gib": round(peak_memory_gib, 3),
        "versions": versions(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def versions() -> dict[str, str]:
    """The versions that decide what a seed becomes."""
    import platform

    import vidgen_lab

    found = {name: version(name) for name in ("torch", "diffusers", "transformers")}
    return {
        "python": platform.python_version(),
        **found,
        "vidgen_lab": vidgen_lab.__version__,
    }


def _device_name(device: str) -> str:
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    return processor_name()
