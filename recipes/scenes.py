"""Training data straight from the toy world: clips, captions and crops as tensors."""

from collections.abc import Iterator, Sequence
from functools import partial
from multiprocessing import Pool

import numpy as np
import torch

from vidgen_lab.progress import Progress
from vidgen_lab.toyworld import Scene, render, sample_scene
from vidgen_lab.toyworld.renderer import Rendered

FEW = 200  # scenes that are rendered before other processes have begun


def sample_scenes(
    count: int, seed: int, held_out: bool | None = False, reserved: bool = False
) -> list[Scene]:
    """`count` scenes; training sets leave the held-out compositions alone, and those of
    text-to-video models what is reserved."""
    rng = np.random.default_rng(seed)
    return [sample_scene(rng, held_out, reserved) for _ in range(count)]


def rendered(scenes: Sequence[Scene], size: tuple[int, int, int]) -> Iterator[Rendered]:
    """Scenes at (width, height, frames), in their order, drawn on all processors."""
    draw = partial(_draw, size)
    if len(scenes) < FEW:
        yield from map(draw, scenes)
        return
    with Pool() as pool:
        yield from pool.imap(draw, scenes, chunksize=16)


def _draw(size: tuple[int, int, int], scene: Scene) -> Rendered:
    return render(scene, *size)


def render_clips(scenes: list[Scene], width: int, height: int, num_frames: int) -> torch.Tensor:
    """Render scenes to uint8 [N, 3, T, H, W]."""
    clips = torch.empty((len(scenes), 3, num_frames, height, width), dtype=torch.uint8)
    drawn = rendered(scenes, (width, height, num_frames))
    for slot, one in zip(Progress(clips, "render", "clip"), drawn, strict=True):
        slot.copy_(torch.from_numpy(one.clip.frames).permute(3, 0, 1, 2))  # from [T, H, W, 3]
    return clips
