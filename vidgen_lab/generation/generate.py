"""Text to video: a pipeline and a request make a clip and its recipe."""

import platform
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from unittest.mock import patch
from weakref import WeakKeyDictionary

import numpy as np
from PIL import Image

from vidgen_lab import __version__
from vidgen_lab.generation.lora import active_adapters
from vidgen_lab.generation.memory import peak_memory
from vidgen_lab.generation.request import GenerationRequest, validate_request
from vidgen_lab.generation.words import ignored_words
from vidgen_lab.settings.hardware import processor_name
from vidgen_lab.video.clip import Clip

if TYPE_CHECKING:
    import torch
    from diffusers import CogVideoXImageToVideoPipeline, CogVideoXPipeline

# A scheduler keeps the state of the clip it works on, so a pipeline makes one clip at a time: a
# panel's thread and the cells of its notebook take turns.
_TURNS: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


class NonFiniteError(RuntimeError):
    """The model produced NaN or infinity."""


class GenerationCancelled(Exception):
    """The user stopped the generation. Nothing was written."""


@dataclass(frozen=True)
class Step:
    """News after one denoising step.

    Attributes:
        step: 1 .. total.
        seconds: since the start, without the time of previews and of `on_step`.
        preview: the clip that the model expects, a blur that sharpens, every `preview_every` steps,
            else None.
    """

    step: int
    total: int
    seconds: float
    preview: Clip | None = None


@dataclass(frozen=True)
class Generation:
    """A clip and everything needed to make it again: `recipe` is a dict, ready for JSON."""

    clip: Clip
    recipe: dict[str, Any]


def generate(
    pipe: "CogVideoXPipeline",
    request: GenerationRequest,
    on_step: Callable[[Step], None] | None = None,
    preview_every: int = 0,
    should_stop: Callable[[], bool] | None = None,
) -> Generation:
    """Make the clip that a request describes (book listing 1.L07).

    Threads that share a pipeline take turns. The noise is drawn on the CPU, so a seed means the
    same noise on every device. Warns of a size that the model was not trained on.

    Args:
        pipe: any CogVideoXPipeline; its model, not `request.model`, goes into the recipe.
        request: checked against the pipeline first, see `validate_request`.
        on_step: called after every step.
        preview_every: decode every k-th step for it (0: never; the last step is the result itself
            and gets none).
        should_stop: asked before every step; true ends the work at once. `threading.Event().is_set`
            is a stop button that any thread or widget can press.

    Raises:
        RequestError: the model cannot meet the request; no work was done.
        GenerationCancelled: `should_stop` said so.
        NonFiniteError: the model produced NaN or infinity.
    """
    limits = validate_request(request, pipe)
    if said := limits.unfamiliar(request):
        warnings.warn(said, stacklevel=2)
    device = str(pipe._execution_device)
    with _TURNS.setdefault(pipe, threading.RLock()), peak_memory(device) as peak:
        start = time.perf_counter()
        reporter = _Reporter(pipe, request, on_step, preview_every, should_stop, start)
        reporter.stop_if_asked()
        try:
            with reporter.listening():
                arguments = request.pipeline_arguments(pipe)
                frames = pipe(**arguments, callback_on_step_end=reporter.after_step).frames[0]
        except BaseException:
            pipe.maybe_free_model_hooks()  # an interrupted call leaves offloaded parts on the GPU
            raise
        seconds = reporter.seconds()
    clip = to_clip(frames, request, pipe)
    if clip.num_frames != request.num_frames:
        raise RuntimeError(f"asked for {request.num_frames} frames, got {clip.num_frames}")
    return Generation(clip, _recipe(pipe, request, device, seconds, peak.gib))


def generate_from_image(
    pipe: "CogVideoXImageToVideoPipeline", image: Image.Image, request: GenerationRequest
) -> Clip:
    """A clip that begins with a picture, made as `generate` makes those of a text alone.

    The picture is scaled and cut as first frames are in training; the pipeline would stretch it.
    The request is not checked here, and threads do not take turns.
    """
    from vidgen_lab.video.tensors import cover

    pixels = cover(np.array(image.convert("RGB"))[None], request.height, request.width)
    picture = Image.fromarray(pixels[:, 0].permute(1, 2, 0).numpy())  # [h, w, 3]
    frames = pipe(image=picture, **request.pipeline_arguments(pipe)).frames[0]
    return to_clip(frames, request, pipe)


@dataclass
class _Reporter:
    """What happens between two denoising steps: stop, check, preview, report.

    Attributes:
        estimate: the scheduler's, of the clean latents [1, F, C, h, w].
        apart: seconds spent on previews and in the caller's code.
    """

    pipe: "CogVideoXPipeline"
    request: GenerationRequest
    on_step: Callable[[Step], None] | None
    preview_every: int
    should_stop: Callable[[], bool] | None
    start: float
    estimate: "torch.Tensor | None" = None
    apart: float = 0.0

    def seconds(self) -> float:
        return time.perf_counter() - self.start - self.apart

    def stop_if_asked(self) -> None:
        if self.should_stop and self.should_stop():
            raise GenerationCancelled("The generation was stopped; nothing was written.")

    def after_step(
        self, pipe: "CogVideoXPipeline", index: int, timestep: Any, tensors: dict[str, Any]
    ) -> dict[str, Any]:
        """diffusers' `callback_on_step_end`. Raising leaves its loop at once."""
        step, total = index + 1, pipe.num_timesteps
        if not tensors["latents"].isfinite().all():
            raise NonFiniteError(_broken(pipe, f"at step {step} of {total}"))
        if self.on_step:
            seconds = self.seconds()
            self.on_step(Step(step, total, seconds, self._preview(step)))
            self.apart += self.seconds() - seconds
        if step < total:
            self.stop_if_asked()
        return tensors

    def _preview(self, step: int) -> Clip | None:
        last = step == self.pipe.num_timesteps
        if not self.preview_every or last or step % self.preview_every:
            return None
        # CogVideoX 1.5 pads the latents at the front to whole tokens; that padding is cut off.
        real = (self.request.num_frames - 1) // self.pipe.vae_scale_factor_temporal + 1
        latents = self.estimate[:, -real:].to(self.pipe.vae.dtype)  # [1, F, C, h, w]
        video = self.pipe.decode_latents(latents)
        frames = self.pipe.video_processor.postprocess_video(video, output_type="np")[0]
        return to_clip(frames, self.request, self.pipe)

    def listening(self) -> AbstractContextManager[Any]:
        """Note the scheduler's estimate of the clean latents, which the pipeline drops."""
        original = self.pipe.scheduler.step

        @wraps(original)  # the pipeline looks at the signature
        def step(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            self.estimate = result[-1]
            return result

        return patch.object(self.pipe.scheduler, "step", step)


def to_clip(frames: Any, request: GenerationRequest, pipe: Any) -> Clip:
    """What a pipeline returned, [T, H, W, 3] floats in 0..1, as a clip; NonFiniteError for NaN."""
    if not np.isfinite(frames).all():
        raise NonFiniteError(_broken(pipe, "in the decoded frames"))
    return Clip.from_float(
        frames, request.fps, meta={"prompt": request.prompt, "seed": request.seed}
    )


def _broken(pipe: "CogVideoXPipeline", where: str) -> str:
    dtype = str(pipe.transformer.dtype).removeprefix("torch.")
    advice = "the weights are damaged or badly trained"
    if dtype == "float16":
        advice = 'float16 overflowed: load the model with dtype="bfloat16" or "float32"'
    return f"The model produced NaN or infinity {where} ({dtype}). Probably {advice}."


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
    import torch

    loaded, name = getattr(pipe, "loaded", None), model_name(pipe, request)
    cuda = device.startswith("cuda")
    return request.to_dict() | {
        "ignored_words": list(ignored_words(request.prompt, name)),
        "model": name,
        "model_revision": loaded.revision if loaded else None,
        "scheduler": type(pipe.scheduler).__name__,
        "dtype": str(pipe.transformer.dtype).removeprefix("torch."),
        "device": device,
        "device_name": torch.cuda.get_device_name(device) if cuda else processor_name(),
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
    libraries = {name: version(name) for name in ("torch", "diffusers", "transformers")}
    return {"python": platform.python_version(), **libraries, "vidgen_lab": __version__}
