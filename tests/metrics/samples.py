"""Clips whose motion is known, because it is put in."""

import cv2
import numpy as np

from vidgen_lab.video.clip import Clip

HEIGHT, WIDTH, FRAMES, FPS = 120, 180, 49, 24


def texture(height: int, width: int, seed: int = 0, blur: float = 3) -> np.ndarray:
    """Smooth random colours, uint8 [height, width, 3]; a smaller blur gives a finer texture."""
    noise = np.random.default_rng(seed).random((height, width, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), blur)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return (255 * smooth).astype(np.uint8)


def pan(
    pixels: int, num_frames: int = FRAMES, width: int = WIDTH, seed: int = 0, blur: float = 3
) -> np.ndarray:
    """Frames of a camera that moves `pixels` a frame over a texture, uint8 [T, H, W, 3]."""
    height = width * HEIGHT // WIDTH
    wide = texture(height, width + pixels * num_frames, seed, blur)
    return np.stack([wide[:, i * pixels : i * pixels + width] for i in range(num_frames)])


def still(num_frames: int = FRAMES) -> np.ndarray:
    return np.repeat(texture(HEIGHT, WIDTH)[None], num_frames, axis=0)


def with_noise(frames: np.ndarray, sigma: float) -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, sigma, frames.shape)
    return np.clip(frames + noise, 0, 255).astype(np.uint8)


def flickering(frames: np.ndarray, levels: int = 40) -> np.ndarray:
    step = levels * (np.arange(len(frames)) % 2)[:, None, None, None]
    return np.clip(frames + step, 0, 255).astype(np.uint8)


def clip(frames: np.ndarray, fps: float = FPS) -> Clip:
    return Clip(frames, fps)
