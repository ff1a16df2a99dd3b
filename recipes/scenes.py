"""Training data straight from the toy world: clips and captions, and latents that are kept."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from recipes.vae_layers import VAE, encode_clips
from vidgen_lab.files import replacing
from vidgen_lab.journal import key_of
from vidgen_lab.progress import Progress
from vidgen_lab.toyworld import Scene, render, sample_scene
from vidgen_lab.toyworld.renderer import Rendered
from vidgen_lab.training.data.clip_encoding import vae_identity

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


def cached_latents(
    vae: VAE, folder: Path, scenes: list[Scene], size: tuple[int, int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Posterior means of all scenes, fp16 [N, T, C, h, w], and the cells among them that show the
    subject, bool [N, T, 1, h, w].

    They are kept in `folder`, in a file named by the clips and the VAE that it is of, so that no
    training learns from those of others.
    """
    file = folder / f"{key_of(vae_identity(vae), size, repr(scenes))}.safetensors"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        latents, subject = encode_scenes(vae, scenes, size)
        with replacing(file) as temporary:
            save_file({"latents": latents, "subject": subject}, temporary)
    kept = load_file(file)
    return kept["latents"], kept["subject"]


def encode_scenes(
    vae: VAE, scenes: list[Scene], size: tuple[int, int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Render scenes at (width, height, frames) and encode them: latents [N, T, C, h, w] in fp16 and
    the cells that show the subject, bool [N, T, 1, h, w]."""
    latents, subjects, drawn = [], [], rendered(scenes, size)
    batch = 4 if vae.device.type == "cpu" else 100
    for _ in Progress(range(0, len(scenes), batch), "encoding", "batch"):
        part = list(islice(drawn, batch))
        clips = torch.from_numpy(np.stack([one.clip.frames for one in part]))
        latents.append(encode_clips(vae, clips.permute(0, 4, 1, 2, 3)).transpose(1, 2))
        masks = torch.from_numpy(np.stack([one.masks for one in part])).float()
        cells = F.adaptive_max_pool2d(masks, latents[-1].shape[-2:]).bool()
        subjects.append(cells.unsqueeze(2))  # [B, T, 1, h, w]
    return torch.cat(latents).contiguous(), torch.cat(subjects)
