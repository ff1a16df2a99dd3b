"""Augmentation that keeps a clip a clip: one draw for all frames, and the input left alone (2.L16).

What is drawn depends on (seed, epoch, clip id) alone, so it is the same with any number of workers
and another one in every epoch.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vidgen_lab import seeds
from vidgen_lab.video.clip import Clip, evenly_spaced

# Texts with one of these words stop being true when the picture is mirrored or played backwards.
SIDED = re.compile(r"\b(left|right|text|letters?|sign|words?|logo|clock)\b", re.I)
DIRECTED = re.compile(
    r"\b(left|right|up|down|rising|falling|growing|shrinking|opening|closing|pour\w*|walk\w*|"
    r"fall\w*|ris\w*|explo\w*|grow\w*|backwards?|forwards?)\b",
    re.I,
)


@dataclass(frozen=True)
class AugmentSettings:
    """Ranges and chances of the draws; each of the three kinds happens with `probability`."""

    probability: float = 0.5
    speed: tuple[float, float] = (0.5, 2.0)
    reverse: float = 0.1
    frame_drop: float = 0.1
    crop: tuple[float, float] = (0.8, 1.0)
    degrees: float = 15.0
    flip: float = 0.5
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.1


@dataclass(frozen=True)
class Augmented:
    """clip: the new clip. applied: every draw by name, enough to do it again."""

    clip: Clip
    applied: dict[str, Any] = field(default_factory=dict)


class VideoAugmentationPipeline:
    """Temporal, spatial and colour changes, each drawn once for the whole clip.

    synthetic: optional function from a clip to a clip (an image-to-image model, say, or
    `classical_restyle`), applied with the same probability; all frames go through it.
    """

    def __init__(
        self,
        settings: AugmentSettings = AugmentSettings(),
        seed: int = 0,
        synthetic: Callable[[Clip], Clip] | None = None,
    ) -> None:
        self.settings, self.seed, self.synthetic = settings, seed, synthetic

    def augment_video(self, clip: Clip, clip_id: str, text: str = "", epoch: int = 0) -> Augmented:
        """A changed copy; the size stays, the number of frames may change with the speed.

        text: the caption; it forbids what would make it wrong.
        """
        rng, applied = seeds.rng(self.seed, epoch, clip_id), {}
        for change in (self.temporal_augment, self.spatial_augment, self.color_augment):
            # Drawn always and used sometimes, so that one setting does not shift the others.
            draw, wanted = np.random.default_rng(rng.integers(2**63)), rng.random()
            if wanted < self.settings.probability:
                clip, drawn = change(clip, draw, text)
                applied |= drawn
        if self.synthetic is not None and rng.random() < self.settings.probability:
            clip = self.synthetic(clip)
            applied["synthetic"] = True
        return Augmented(clip, applied)

    def temporal_augment(
        self, clip: Clip, rng: np.random.Generator, text: str = ""
    ) -> tuple[Clip, dict[str, Any]]:
        """Speed, now and then backwards, now and then with frames dropped (and the rest held)."""
        s = self.settings
        speed = float(np.exp(rng.uniform(*np.log(s.speed))))
        backwards = bool(rng.random() < s.reverse) and not DIRECTED.search(text)
        drops = rng.random(clip.num_frames) < s.frame_drop if rng.random() < 0.5 else None
        count = max(2, round(clip.num_frames / speed)) if clip.num_frames > 1 else 1
        places = np.array(evenly_spaced(clip.num_frames, count, repeat=True))
        if drops is not None:
            drops[0] = False
            held = np.maximum.accumulate(np.where(drops, 0, np.arange(clip.num_frames)))
            places = held[places]
        if backwards:
            places = places[::-1]
        drawn = {
            "speed": speed,
            "backwards": backwards,
            "dropped": int((drops is not None) and drops.sum()),
        }
        return Clip(clip.frames[places], clip.fps, clip.meta), drawn

    def spatial_augment(
        self, clip: Clip, rng: np.random.Generator, text: str = ""
    ) -> tuple[Clip, dict[str, Any]]:
        """Crop, turn and mirror, the same for all frames, with no black corners."""
        s = self.settings
        share = rng.uniform(*s.crop)
        angle = rng.uniform(-s.degrees, s.degrees)
        x, y = rng.uniform(-0.5, 0.5, 2)
        flip = bool(rng.random() < s.flip) and not SIDED.search(text)
        matrix = _window(clip.width, clip.height, share, angle, (x, y), flip)
        size = clip.width, clip.height
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        frames = [
            cv2.warpAffine(f, matrix, size, flags=how, borderMode=cv2.BORDER_REFLECT_101)
            for f in clip.frames
        ]
        drawn = {
            "crop": float(share),
            "angle": float(angle),
            "flip": flip,
            "matrix": matrix.tolist(),
        }
        return Clip(np.stack(frames), clip.fps, clip.meta), drawn

    def color_augment(
        self, clip: Clip, rng: np.random.Generator, text: str = ""
    ) -> tuple[Clip, dict[str, Any]]:
        """Brightness, contrast, saturation and hue, one value each for the clip."""
        s = self.settings
        brightness, contrast, saturation = (
            1 + rng.uniform(-r, r) for r in (s.brightness, s.contrast, s.saturation)
        )
        hue = rng.uniform(-s.hue, s.hue)
        frames = clip.frames.astype(np.float32)
        frames = ((frames - 127.5) * contrast + 127.5) * brightness
        grey = frames @ np.array([0.299, 0.587, 0.114], np.float32)
        frames = (frames - grey[..., None]) * saturation + grey[..., None]
        frames = np.clip(np.rint(frames), 0, 255).astype(np.uint8)
        drawn = {
            "brightness": float(brightness), "contrast": float(contrast),
            "saturation": float(saturation), "hue": float(hue),
        }  # fmt: skip
        return Clip(np.stack([_turn_hue(f, hue) for f in frames]), clip.fps, clip.meta), drawn


def move_boxes(boxes: np.ndarray, matrix: list, width: int, height: int) -> np.ndarray:
    """Boxes [N, 4] (x0, y0, x1, y1) after `spatial_augment`, cut at the picture's edge.

    matrix: the one in `applied`, from the new picture to the old.
    """
    inverse = cv2.invertAffineTransform(np.float64(matrix))
    out = []
    for x0, y0, x1, y1 in np.asarray(boxes, float):
        corners = np.array([[x0, y0, 1], [x1, y0, 1], [x1, y1, 1], [x0, y1, 1]]) @ inverse.T
        low, high = corners.min(0), corners.max(0)
        out.append([*np.clip(low, 0, (width, height)), *np.clip(high, 0, (width, height))])
    return np.array(out).reshape(-1, 4)


def classical_restyle(clip: Clip) -> Clip:
    """A painted look without a model: edge-keeping smoothing of every frame alike.

    It stands in for an image-to-image model where none fits; it is a filter and invents nothing.
    """
    return Clip(
        np.stack([cv2.bilateralFilter(f, 7, 40, 7) for f in clip.frames]), clip.fps, clip.meta
    )


class ImageToImage:
    """Restyle a clip with a diffusers image-to-image pipeline, frame by frame.

    Every frame starts from the same noise: whatever the model invents, it invents alike in all of
    them, which keeps flicker down and does not remove it. pipe: for example
    `AutoPipelineForImage2Image.from_pretrained(...)`. strength: 0 changes nothing, 1 forgets the
    frame. inputs: handed to the pipeline with every frame (`prompt`, `guidance_scale`, ...).
    """

    def __init__(
        self, pipe: Any, strength: float = 0.35, seed: int = 0, size: tuple[int, int] | None = None,
        **inputs: Any,
    ) -> None:  # fmt: skip
        if not 0 < strength <= 1:
            raise ValueError(f"strength must lie in 0..1, not {strength}")
        self.pipe, self.strength, self.seed, self.size = pipe, strength, seed, size
        self.inputs = inputs

    @classmethod
    def load(
        cls, hub_id: str = "stabilityai/sd-turbo", download: bool = False, **options: Any
    ) -> "ImageToImage":
        """From the cache, or from the hub when `download` allows it; read the model's licence."""
        from huggingface_hub import try_to_load_from_cache

        missing = f"no weights of {hub_id} on this machine; read its licence, then download=True"
        here = Path(hub_id).is_dir() or try_to_load_from_cache(hub_id, "model_index.json")
        if not (here or download):  # told before libraries are loaded, with their warnings
            raise FileNotFoundError(missing)
        import torch
        from diffusers import AutoPipelineForImage2Image

        try:
            pipe = AutoPipelineForImage2Image.from_pretrained(
                hub_id, local_files_only=not download, use_safetensors=True
            )
        except OSError as error:
            raise FileNotFoundError(missing) from error
        return cls(pipe.to("cuda" if torch.cuda.is_available() else "cpu"), **options)

    def __call__(self, clip: Clip) -> Clip:
        """A new clip of the same size and length."""
        import torch
        from PIL import Image

        size = self.size or (clip.width, clip.height)
        frames = []
        for frame in clip.frames:
            picture = Image.fromarray(frame).resize(size, Image.LANCZOS)
            made = self.pipe(
                image=picture,
                strength=self.strength,
                generator=torch.Generator().manual_seed(self.seed),
                **self.inputs,
            ).images[0]
            frames.append(np.asarray(made.resize((clip.width, clip.height), Image.LANCZOS)))
        return Clip(np.stack(frames), clip.fps, clip.meta)


def _window(
    width: int, height: int, share: float, angle: float, offset: tuple[float, float], flip: bool
) -> np.ndarray:
    """Affine [2, 3] from the new picture to the old: a turned window that stays inside it."""
    turn = np.deg2rad(angle)
    c, s = abs(np.cos(turn)), abs(np.sin(turn))
    inside = min(width / (width * c + height * s), height / (width * s + height * c))
    scale = min(share, inside)
    matrix = cv2.getRotationMatrix2D((0, 0), angle, scale)
    matrix[:, :2] = matrix[:, :2] @ np.diag([-1 if flip else 1, 1])
    half = np.array([(width - 1) / 2, (height - 1) / 2])
    reach = scale * np.array([width * c + height * s, width * s + height * c])
    room = np.maximum([width, height] - reach, 0)
    matrix[:, 2] = half - matrix[:, :2] @ half + np.array(offset) * room
    return matrix


def _turn_hue(frame: np.ndarray, share: float) -> np.ndarray:
    """share: of the colour circle, -0.5..0.5."""
    hsv = cv2.cvtColor(frame, cv2.COLOR_RGB2HSV_FULL)
    hsv[..., 0] += np.uint8(round(share * 256) % 256)  # wraps around, as hues do
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)
