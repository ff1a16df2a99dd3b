"""The one object that travels through the whole workbook: frames and their rate."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MAX_SIDE = 16_384  # pixels; no H.264 file holds more
FPS = (0.1, 1000)  # what a file holds exactly and a player plays


def evenly_spaced(total: int, count: int, repeat: bool = False) -> list[int]:
    """Frame numbers spread over 0..total-1, in order, the first and the last among them.

    Args:
        total: frames that there are.
        count: numbers wanted; where there are fewer frames, all of them.
        repeat: then still `count`, some twice.

    Raises:
        ValueError: total or count is below 1.
    """
    if total < 1 or count < 1:
        raise ValueError(f"cannot take {count} of {total} frames")
    count = count if repeat else min(count, total)
    return np.linspace(0, total - 1, count).round().astype(int).tolist()


@dataclass(frozen=True, eq=False)
class Clip:
    """A piece of video in memory.

    Attributes:
        frames: uint8 [T, H, W, 3], RGB, T >= 1. Floats are refused rather than guessed at: 0..1 and
            -1..1 look alike, so say which with `Clip.from_float`.
        fps: frames per second, finite and > 0.
        meta: whatever should stay with the clip (source, prompt, ...); it is never interpreted
            here.
    """

    frames: np.ndarray
    fps: float
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        frames = self.frames
        if not isinstance(frames, np.ndarray):
            raise TypeError(
                f"Clip.frames must be a NumPy array [T, H, W, 3], not {type(frames).__name__}; "
                "np.stack a list of images, or call .numpy() on a tensor"
            )
        if frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
            raise ValueError(
                f"Clip.frames must have shape [T, H, W, 3] (time, height, width, RGB) and at least "
                f"one frame of one pixel, not {list(frames.shape)}"
            )
        if frames.dtype != np.uint8:
            raise TypeError(
                f"Clip.frames must be uint8 (0..255), not {frames.dtype}; "
                "convert with Clip.from_float(frames, fps, low=0.0) or low=-1.0"
            )
        if not (math.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"fps must be a positive number, not {self.fps}")
        object.__setattr__(self, "fps", float(self.fps))

    @classmethod
    def from_float(
        cls, frames: np.ndarray, fps: float, low: float = 0.0, meta: Mapping[str, Any] | None = None
    ) -> "Clip":
        """Build a clip from floats in low..1 (low is 0.0 or -1.0), shape [T, H, W, 3].

        Values outside the range are clipped; NaN or infinity raise ValueError, because a broken
        model should not look like a black video.
        """
        frames = np.asarray(frames, dtype=np.float32)
        if not np.isfinite(frames).all():
            raise ValueError("frames contain NaN or infinity: the model that made them is broken")
        unit = np.clip((frames - low) / (1.0 - low), 0.0, 1.0)
        return cls(np.rint(unit * 255.0).astype(np.uint8), fps, dict(meta or {}))

    @property
    def num_frames(self) -> int:
        return self.frames.shape[0]

    @property
    def height(self) -> int:
        return self.frames.shape[1]

    @property
    def width(self) -> int:
        return self.frames.shape[2]

    @property
    def duration(self) -> float:
        """Seconds: num_frames / fps."""
        return self.num_frames / self.fps

    def __len__(self) -> int:
        return self.num_frames

    def __repr__(self) -> str:
        return f"Clip({self.num_frames} frames, {self.width}x{self.height}, {self.fps:g} fps)"
