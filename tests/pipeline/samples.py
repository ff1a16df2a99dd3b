"""Small clips with a known property each, cheap enough to be made by every test."""

from pathlib import Path

import cv2
import numpy as np

from vidgen_lab.video.clip import Clip
from vidgen_lab.video.writer import write_clip

WIDTH, HEIGHT, FPS = 96, 64, 8


def picture(seed: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Coloured rectangles on a coloured ground, uint8 [H, W, 3]; every seed another picture."""
    rng = np.random.default_rng(seed)
    image = np.empty((height, width, 3), np.uint8)
    image[:] = rng.integers(40, 210, 3)
    for _ in range(8):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        w, h = int(rng.integers(8, width // 2)), int(rng.integers(6, height // 2))
        image[y : y + h, x : x + w] = rng.integers(20, 235, 3)
    return image


def moving(seed: int = 0, num_frames: int = 16, step: int = 2, fps: float = FPS) -> Clip:
    """A bright block with an edge crosses a still picture, `step` pixels a frame."""
    ground = picture(seed)
    frames = np.repeat(ground[None], num_frames, axis=0)
    for t in range(num_frames):
        x = 4 + t * step
        frames[t, 20:44, x : x + 20] = (250, 40, 40) if seed % 2 else (30, 240, 90)
        frames[t, 26:38, x + 5 : x + 15] = (20, 20, 60)
    return Clip(frames, fps)


def blurred(clip: Clip, sigma: float = 3.0) -> Clip:
    return Clip(np.stack([cv2.GaussianBlur(f, (0, 0), sigma) for f in clip.frames]), clip.fps)


def film(seeds: tuple[int, ...] = (1, 2, 3), num_frames: int = 10) -> Clip:
    """Shots with hard cuts between them, at multiples of num_frames."""
    return Clip(np.concatenate([moving(s, num_frames).frames for s in seeds]), FPS)


def save(clip: Clip, path: Path, crf: int = 12) -> Path:
    return write_clip(clip, path, crf)
