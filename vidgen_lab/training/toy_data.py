"""Training data straight from the toy world: clips, captions and crops as tensors."""

import numpy as np
import torch

from vidgen_lab.progress import Progress
from vidgen_lab.toyworld import Scene, render, sample_scene
from vidgen_lab.video.tensors import to_model_range


def sample_scenes(count: int, seed: int, held_out: bool | None = False) -> list[Scene]:
    """`count` scenes; training sets leave the held-out compositions alone."""
    rng = np.random.default_rng(seed)
    return [sample_scene(rng, held_out) for _ in range(count)]


def render_clips(scenes: list[Scene], width: int, height: int, num_frames: int) -> torch.Tensor:
    """Render scenes to uint8 [N, 3, T, H, W]."""
    clips = torch.empty((len(scenes), 3, num_frames, height, width), dtype=torch.uint8)
    for slot, scene in zip(clips, Progress(scenes, "render", "clip"), strict=True):
        frames = render(scene, width, height, num_frames).clip.frames  # [T, H, W, 3]
        slot.copy_(torch.from_numpy(frames).permute(3, 0, 1, 2))
    return clips


def random_crops(
    clips: torch.Tensor, batch: int, frames: int, height: int, width: int, rng: np.random.Generator
) -> torch.Tensor:
    """`batch` random space-time crops of clips [N, 3, T, H, W] as float [B, 3, frames, height,
    width] in [-1, 1]."""
    _, _, t, h, w = clips.shape
    crops = []
    for index in rng.integers(len(clips), size=batch):
        at = [
            int(rng.integers(full - part + 1))
            for full, part in ((t, frames), (h, height), (w, width))
        ]
        crops.append(
            clips[index, :, at[0] : at[0] + frames, at[1] : at[1] + height, at[2] : at[2] + width]
        )
    return to_model_range(torch.stack(crops))
