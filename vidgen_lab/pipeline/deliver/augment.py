"""Augmentation that keeps a clip a clip: one draw for all frames, and the input left alone (2.L16).

What is drawn depends on (seed, epoch, clip id) alone, so it is the same with any number of workers
and another one in every epoch.
"""

import math
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np

from vidgen_lab import seeds
from vidgen_lab.config import check_ranges
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
    """Ranges and chances of the draws; each of the three kinds happens with `probability`.

    Attributes:
        speed: factors, all equally likely on a logarithmic scale; above 1 is faster.
        frame_drop: share of dropped frames, in half of the clips.
        crop: share of each side that is kept.
        brightness, contrast, saturation: the factor is 1 plus or minus at most so much.
        degrees, hue: turned by at most so much, either way; hue in shares of the colour circle.
    """

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

    def __post_init__(self) -> None:
        shares = set(vars(self)) - {"speed", "crop", "degrees", "hue"}
        check_ranges(self, **dict.fromkeys(shares, (0, 1)), degrees=(0, 180), hue=(0, 0.5))
        for name in ("speed", "crop"):
            low, high = getattr(self, name)
            if not 0 < low <= high < math.inf:
                raise ValueError(f"{name} must be a range above 0, not {low}..{high}")


class Augmented(NamedTuple):
    """A new clip and, as `applied`, every draw by name: enough to do it again."""

    clip: Clip
    applied: dict[str, Any]


class VideoAugmentationPipeline:
    """Temporal, spatial and colour changes, each drawn once for the whole clip."""

    def __init__(self, settings: AugmentSettings = AugmentSettings(), seed: int = 0) -> None:
        self.settings, self.seed = settings, seed

    def augment_video(self, clip: Clip, clip_id: str, text: str = "", epoch: int = 0) -> Augmented:
        """A changed copy; the size stays, the number of frames may change with the speed.

        The `text` is the caption; it forbids what would make it wrong.
        """
        rng, applied = seeds.rng(self.seed, epoch, clip_id), {}
        for change in (self.temporal_augment, self.spatial_augment, self.color_augment):
            # Drawn always and used sometimes, so that one setting does not shift the others.
            draw, wanted = np.random.default_rng(rng.integers(2**63)), rng.random()
            if wanted < self.settings.probability:
                clip, drawn = change(clip, draw, text)
                applied |= drawn
        return Augmented(clip, applied)

    def temporal_augment(self, clip: Clip, rng: np.random.Generator, text: str = "") -> Augmented:
        """Speed, now and then backwards, now and then with frames dropped (and the rest held)."""
        s = self.settings
        speed = float(np.exp(rng.uniform(*np.log(s.speed))))
        backwards = bool(rng.random() < s.reverse) and not DIRECTED.search(text)
        some = s.frame_drop if rng.random() < 0.5 else 0.0
        drops = rng.random(clip.num_frames) < some
        drops[:1] = False  # there is nothing to hold yet
        held = np.maximum.accumulate(np.where(drops, 0, np.arange(clip.num_frames)))
        count = max(2, round(clip.num_frames / speed)) if clip.num_frames > 1 else 1
        places = held[evenly_spaced(clip.num_frames, count, repeat=True)]
        drawn = {"speed": speed, "backwards": backwards, "dropped": int(drops.sum())}
        frames = clip.frames[places[::-1] if backwards else places]
        return Augmented(Clip(frames, clip.fps, clip.meta), drawn)

    def spatial_augment(self, clip: Clip, rng: np.random.Generator, text: str = "") -> Augmented:
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
        drawn = {"crop": share, "angle": angle, "flip": flip, "matrix": matrix.tolist()}
        return Augmented(Clip(np.stack(frames), clip.fps, clip.meta), drawn)

    def color_augment(self, clip: Clip, rng: np.random.Generator, text: str = "") -> Augmented:
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
        turned = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2HSV_FULL) for frame in frames])
        turned[..., 0] += np.uint8(round(hue * 256) % 256)  # wraps around, as hues do
        turned = np.stack([cv2.cvtColor(frame, cv2.COLOR_HSV2RGB_FULL) for frame in turned])
        drawn = dict(brightness=brightness, contrast=contrast, saturation=saturation, hue=hue)
        return Augmented(Clip(turned, clip.fps, clip.meta), drawn)


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
