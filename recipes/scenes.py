"""Training data straight from the toy world: clips, captions and crops as tensors."""

import numpy as np
import torch

from vidgen_lab.progress import Progress
from vidgen_lab.toyworld import Scene, render, sample_scene


def sample_scenes(
    count: int, seed: int, held_out: bool | None = False, reserved: bool = False
) -> list[Scene]:
    """`count` scenes; training sets leave the held-out compositions alone, and those of
    text-to-video models what is reserved."""
    rng = np.random.default_rng(seed)
    return [sample_scene(rng, held_out, reserved) for _ in range(count)]


def render_clips(scenes: list[Scene], width: int, height: int, num_frames: int) -> torch.Tensor:
    """Render scenes to uint8 [N, 3, T, H, W]."""
    clips = torch.empty((len(scenes), 3, num_frames, height, width), dtype=torch.uint8)
    for slot, scene in zip(clips, Progress(scenes, "render", "clip"), strict=True):
        frames = render(scene, width, height, num_frames).clip.frames  # [T, H, W, 3]
        slot.copy_(torch.from_numpy(frames).permute(3, 0, 1, 2))
    return clips
