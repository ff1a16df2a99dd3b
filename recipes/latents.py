"""Latents of the toy world, encoded once and kept: what the embedded transformer learns from."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLCogVideoX
from safetensors.torch import load_file, save_file

from recipes.vae import encode_clips
from vidgen_lab.progress import Progress
from vidgen_lab.toyworld import Scene, render

SHARD = 1000  # clips a file


def cached_latents(
    vae: AutoencoderKLCogVideoX,
    folder: Path,
    scenes: list[Scene],
    size: tuple[int, int, int],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Posterior means of all scenes, fp16 [N, T, C, h, w], and the cells among them that show the
    subject, bool [N, T, 1, h, w]. They are kept in `folder`, a file for each thousand clips; a
    file holds the scenes that it was made of and is made anew when they differ.
    """
    folder.mkdir(parents=True, exist_ok=True)
    latents, subject = [], []
    for start in range(0, len(scenes), SHARD):
        part = scenes[start : start + SHARD]
        file = folder / f"{start:06d}.safetensors"
        if not file.exists():
            made = encode_scenes(vae, part, size)
            save_file(dict(zip(("latents", "subject"), made, strict=True)), file)
        shard = load_file(file)
        if len(shard["latents"]) != len(part):
            raise ValueError(
                f"{file} holds {len(shard['latents'])} clips, not {len(part)}: delete it"
            )
        latents.append(shard["latents"])
        subject.append(shard["subject"])
    return torch.cat(latents), torch.cat(subject)


def encode_scenes(
    vae: AutoencoderKLCogVideoX, scenes: list[Scene], size: tuple[int, int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Render scenes at (width, height, frames) and encode them: latents [N, T, C, h, w] in fp16 and
    the cells that show the subject, bool [N, T, 1, h, w]."""
    latents, subjects = [], []
    for start in Progress(range(0, len(scenes), 4), "encoding", "batch"):
        rendered = [render(scene, *size) for scene in scenes[start : start + 4]]
        clips = torch.from_numpy(np.stack([r.clip.frames for r in rendered]))
        latents.append(encode_clips(vae, clips.permute(0, 4, 1, 2, 3)).transpose(1, 2))
        masks = torch.from_numpy(np.stack([r.masks for r in rendered])).float()
        cells = F.adaptive_max_pool2d(masks, latents[-1].shape[-2:]).bool()
        subjects.append(cells.unsqueeze(2))  # [B, T, 1, h, w]
    return torch.cat(latents).contiguous(), torch.cat(subjects)
