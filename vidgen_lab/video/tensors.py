"""Between clips of whole numbers and tensors in [-1, 1], the range of diffusers' video models."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vidgen_lab.video.clip import Clip


def to_model_range(pixels: Tensor) -> Tensor:
    """Pixels 0..255, of any shape, as float in [-1, 1]."""
    return pixels.float() / 127.5 - 1


def to_pixels(video: Tensor) -> Tensor:
    """Video in [-1, 1], of any shape, as uint8; what lies outside is clipped."""
    return ((video.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def as_tensor(clips: Sequence[Clip]) -> Tensor:
    """Clips of one size as float [B, 3, T, H, W] in [-1, 1]."""
    frames = torch.from_numpy(np.stack([clip.frames for clip in clips]))  # [B, T, H, W, 3]
    return to_model_range(frames.permute(0, 4, 1, 2, 3))


def as_clip(video: Tensor, fps: float = 8, **meta: object) -> Clip:
    """One video [3, T, H, W] in [-1, 1] as a clip; see `Clip.from_float`."""
    frames = video.detach().float().permute(1, 2, 3, 0).cpu().numpy()
    return Clip.from_float(frames, fps, low=-1.0, meta=meta)


def cover(frames: np.ndarray, height: int, width: int) -> Tensor:
    """Resize frames, uint8 [T, H, W, 3], to cover height x width, and cut out the centre.

    Returns uint8 [3, T, height, width]. Nothing is distorted; what is made smaller is smoothed.
    """
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)  # [T, 3, H, W]
    rows, columns = pixels.shape[-2:]
    scale = max(height / rows, width / columns)
    if scale != 1:
        size = max(height, round(rows * scale)), max(width, round(columns * scale))
        pixels = F.interpolate(pixels, size, mode="bilinear", antialias=True)
    top, left = (pixels.shape[-2] - height) // 2, (pixels.shape[-1] - width) // 2
    return pixels[..., top : top + height, left : left + width].transpose(0, 1)  # [3, T, h, w]
