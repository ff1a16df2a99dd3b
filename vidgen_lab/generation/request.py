"""What to generate, checked against what the model can do before any work starts."""

import json
import math
import operator
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidgen_lab.video.clip import FPS, MAX_SIDE

if TYPE_CHECKING:
    from diffusers import CogVideoXPipeline

    from vidgen_lab.settings.tiers import Tier

_NUMBERS = {  # name: (kind, least, most, why)
    "num_inference_steps": (int, 1, math.inf, ""),
    "num_frames": (int, 1, math.inf, ""),
    "height": (int, 1, MAX_SIDE, "; more does not fit into a video file"),
    "width": (int, 1, MAX_SIDE, "; more does not fit into a video file"),
    "seed": (int, 0, 2**63 - 1, ""),
    "fps": (float, *FPS, ""),
    "guidance_scale": (float, 1, math.inf, " (1 = no guidance)"),
}


class RequestError(ValueError):
    """The request cannot be met by the model; the message names the nearest legal values."""


@dataclass(frozen=True)
class GenerationRequest:
    """One clip to be made.

    What depends on the model is checked by `validate_request`.

    Attributes:
        prompt: what to show.
        negative_prompt: what to steer away from; it enters through the guidance and has no effect
            at guidance_scale 1.
        num_inference_steps: denoising steps, >= 1.
        guidance_scale: >= 1; 1 switches guidance off and halves the work.
        num_frames: 8N+1 for CogVideoX 1.0, 16N+1 for 1.5, 4N for the embedded model.
        height, width: pixels, multiples of 16, for the embedded model of 8.
        fps: frames per second of the clip, 0.1..1000; the model's native rate gives natural speed.
        seed: the same seed gives the same frames on the same machine and versions.
        model: name, folder or hub id; None means whichever pipeline is used.

    Raises:
        RequestError: the prompt is empty, or a number is one that no model could use.
    """

    prompt: str
    negative_prompt: str = ""
    num_inference_steps: int = 25
    guidance_scale: float = 3.0
    num_frames: int = 16
    height: int = 64
    width: int = 96
    fps: float = 8.0
    seed: int = 0
    model: str | None = None

    def __post_init__(self) -> None:
        for name in ("prompt", "negative_prompt"):
            if not isinstance(getattr(self, name), str):
                raise RequestError(f"{name} must be text, not {type(getattr(self, name)).__name__}")
            check_text(name, getattr(self, name))
        if not visible(self.prompt):
            raise RequestError(
                'The prompt is empty. Say what the video should show, e.g. "a red ball bouncing".'
            )
        for name in _NUMBERS:
            object.__setattr__(self, name, _number(name, getattr(self, name)))

    @classmethod
    def for_tier(cls, tier: "Tier", prompt: str, **changes: Any) -> "GenerationRequest":
        """A request with the tier's defaults; `changes` override single fields."""
        names = {f.name for f in fields(cls)} & {f.name for f in fields(tier)}
        defaults = {name: getattr(tier, name) for name in names}
        return cls(**(defaults | {"prompt": prompt} | changes))

    def with_(self, **changes: Any) -> "GenerationRequest":
        """A copy with some fields changed, checked again."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """All fields by name, ready for JSON."""
        return asdict(self)

    def pipeline_arguments(self, pipe: Any) -> dict[str, Any]:
        """What a diffusers pipeline is called with, to return NumPy frames.

        The noise is drawn on the CPU, so a seed means the same noise on every device.
        """
        import torch

        apart = ("fps", "seed", "model")
        return {name: value for name, value in self.to_dict().items() if name not in apart} | {
            "generator": torch.Generator("cpu").manual_seed(self.seed),
            # A 2B-type model reads a text of exactly this length.
            "max_sequence_length": pipe.transformer.config.max_text_seq_length,
            "output_type": "np",
        }


def request_of(recipe: Mapping[str, Any]) -> GenerationRequest:
    """The request in a recipe; ValueError if it has none, RequestError if a value does not fit."""
    if not isinstance(recipe, Mapping):
        raise ValueError("it should hold a JSON object")
    names = {f.name for f in fields(GenerationRequest)}
    if missing := sorted(names - set(recipe)):
        raise ValueError(f"it lacks {', '.join(missing)}")
    return GenerationRequest(**{name: recipe[name] for name in names})


def read_configs(folder: str | Path) -> list[Any]:
    """What a pipeline's folder says of its transformer, VAE and scheduler."""
    names = ("transformer/config.json", "vae/config.json", "scheduler/scheduler_config.json")
    return [json.loads((Path(folder) / name).read_text("utf-8")) for name in names]


@dataclass(frozen=True)
class ModelLimits:
    """What a model's own configuration allows. Read from a pipeline or from its folder's JSON.

    Attributes:
        frame_step, frame_offset: legal frame counts are frame_step * N + frame_offset with N >= 1.
        side_step: heights and widths are multiples of this, in pixels.
        max_text_tokens: tokens of the prompt that the transformer reads.
        max_steps: denoising steps of its noise schedule.
        native: (frames, height, width) of the configuration: what the model was trained for.
        max_height, max_width: pixels; None where any size has a position.
    """

    frame_step: int
    side_step: int
    max_text_tokens: int
    max_steps: int
    native: tuple[int, int, int]
    max_height: int | None = None
    max_width: int | None = None
    frame_offset: int = 1

    @classmethod
    def from_configs(cls, transformer: Any, vae: Any, scheduler: Any) -> "ModelLimits":
        """Work the limits out from the three configurations (mappings).

        The VAE codes `temporal_compression_ratio` frames into one latent frame and decodes two
        latent frames at a time, so that only an odd number of them comes back as it was: 8N+1
        frames at ratio 4, although 4N+1 looks legal (13 frames asked give 16). CogVideoX 1.5,
        which joins `patch_size_t` latent frames to a token, was trained on 16N+1. It also cuts
        its rotary positions out of a table of the configured size, so that larger frames fail;
        1.0 stretches the table, or builds one of the right size.
        """
        space = 2 ** (len(vae["block_out_channels"]) - 1)
        height, width = transformer["sample_height"] * space, transformer["sample_width"] * space
        time = vae["temporal_compression_ratio"]
        joined = transformer.get("patch_size_t")
        return cls(
            frame_step=int((2 * time if time > 1 else 1) * (joined or 1)),
            frame_offset=int(time > 1),
            side_step=space * transformer["patch_size"],
            max_text_tokens=transformer["max_text_seq_length"],
            max_steps=scheduler["num_train_timesteps"],
            native=(transformer["sample_frames"], height, width),
            max_height=height if joined else None,
            max_width=width if joined else None,
        )

    @classmethod
    def from_pipe(cls, pipe: "CogVideoXPipeline") -> "ModelLimits":
        """Limits of a pipeline that is loaded."""
        return cls.from_configs(pipe.transformer.config, pipe.vae.config, pipe.scheduler.config)

    @classmethod
    def from_folder(cls, folder: Path) -> "ModelLimits":
        """Limits of a pipeline folder, without weights or libraries; RequestError if damaged."""
        try:
            return cls.from_configs(*read_configs(folder))
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            said = " ".join(str(error).split())[:200]
            raise RequestError(f"the configuration in {folder} is damaged: {said}") from None

    @property
    def frame_rule(self) -> str:
        """Legal frame counts in words of one formula: "8N+1", "4N"."""
        step = self.frame_step if self.frame_step > 1 else ""
        return f"{step}N" + (f"+{self.frame_offset}" if self.frame_offset else "")

    def unfamiliar(self, request: GenerationRequest) -> str | None:
        """What of the size the model was never trained on, in one sentence; None if nothing.

        Fewer frames are the beginning of a clip, which the model knows; CogVideoX 1.5, with a
        largest size and time in compressed steps, was trained on many smaller ones.
        """
        frames, height, width = self.native
        many = self.max_height and self.frame_offset
        known = many or (request.height, request.width) == (height, width)
        odd = [] if known else [f"{request.width}x{request.height}"]
        odd += [f"{request.num_frames} frames"] if request.num_frames > frames else []
        if not odd:
            return None
        return (
            f"This model was trained on {frames} frames of {width}x{height}; "
            f"{' and '.join(odd)} may look worse than it can do"
            + ("; a smaller frame is a corner of that" if self.max_height and not known else "")
        )


def validate_request(
    request: GenerationRequest, model: "CogVideoXPipeline | ModelLimits"
) -> ModelLimits:
    """Check a request against a pipeline or its limits; returns the limits.

    The length of the prompts can only be counted with a pipeline, by its own tokenizer.

    Raises:
        RequestError: the model cannot meet it; names everything that is wrong and the nearest legal
            values.
    """
    limits = model if isinstance(model, ModelLimits) else ModelLimits.from_pipe(model)
    problems = []
    if frames := _nearest(request.num_frames, limits.frame_step, limits.frame_offset):
        problems.append(
            f"num_frames={request.num_frames} is not {limits.frame_rule}, as this model needs "
            f"(it would return another number); nearest: {frames}."
        )
    for name in ("height", "width"):
        value = getattr(request, name)
        if sides := _nearest(value, limits.side_step, 0):
            problems.append(
                f"{name}={value} is not a multiple of {limits.side_step}; nearest: {sides}."
            )
        largest = getattr(limits, f"max_{name}")
        if largest and value > largest:
            problems.append(f"{name}={value} is more than this model's largest, {largest}.")
    if request.num_inference_steps > limits.max_steps:
        problems.append(
            f"num_inference_steps={request.num_inference_steps} is more than the "
            f"{limits.max_steps} steps this model was trained with."
        )
    most, tokenizer = limits.max_text_tokens, getattr(model, "tokenizer", None)
    for name in ("prompt", "negative_prompt") if tokenizer is not None else ():
        tokens = len(tokenizer(getattr(request, name), verbose=False).input_ids)  # and the end
        if tokens > most:
            words = len(getattr(request, name).split())
            problems.append(
                f"The {name.replace('_', ' ')} has {tokens:,} tokens ({words:,} words), but this "
                f"model reads {most}; shorten it to about {words * most // tokens} words."
            )
    if problems:
        raise RequestError(" ".join(problems))
    return limits


def visible(text: str) -> bool:
    """Whether a text has a letter, digit or sign; blanks and zero-width characters are none."""
    return any(unicodedata.category(character)[0] in "LNPS" for character in text)


def check_text(name: str, text: str) -> None:
    """Refuse bytes that are no UTF-8, as a terminal hands them over, and a zero: RequestError."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RequestError(
            f"{name} holds a byte that is no text at position {error.start + 1}; type it anew"
        ) from None
    if "\0" in text:
        raise RequestError(f"{name} holds a zero byte; type it anew")


def _nearest(value: int, step: int, offset: int) -> str:
    """The legal numbers on either side of `value`, "48 or 64"; empty if it is legal itself."""
    below, smallest = (value - offset) // step * step + offset, step + offset
    if value == below and value >= smallest:
        return ""
    return " or ".join(str(n) for n in (below, below + step) if n >= smallest) or str(smallest)


def _number(name: str, value: Any) -> float:
    """A plain number within the bounds of this name; RequestError for anything else."""
    kind, least, most, why = _NUMBERS[name]
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value) if kind is int else float(value)
    except (TypeError, ValueError, OverflowError):
        whole = "whole " if kind is int else ""
        raise RequestError(f"{name} must be a {whole}number, not {value!r}") from None
    if kind is float and not math.isfinite(number):
        raise RequestError(f"{name} must be finite, not {number}")
    if number < least:
        raise RequestError(f"{name} must be at least {least:,}{why}, not {number}")
    if number > most:
        raise RequestError(f"{name} must be at most {most:,}{why}, not {number}")
    return number
