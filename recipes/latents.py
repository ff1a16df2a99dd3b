"""Latents of the toy world, encoded once and kept: what the embedded transformer learns from."""

from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from recipes.scenes import rendered
from recipes.vae_layers import VAE, encode_clips
from vidgen_lab.files import replacing
from vidgen_lab.journal import key_of
from vidgen_lab.progress import Progress
from vidgen_lab.toyworld import Scene
from vidgen_lab.training.data.clip_encoding import vae_identity

SHARD = 1000  # clips a file


def cached_latents(
    vae: VAE, folder: Path, scenes: list[Scene], size: tuple[int, int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Posterior means of all scenes, fp16 [N, T, C, h, w], and the cells among them that show the
    subject, bool [N, T, 1, h, w].

    They are kept in `folder`, a file for each thousand clips, named by the clips and the VAE that
    it is of, so that no training learns from those of others.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards, encoder = [], vae_identity(vae)
    for start in range(0, len(scenes), SHARD):
        part = scenes[start : start + SHARD]
        file = folder / f"{start:06d}-{key_of(encoder, size, repr(part))}.safetensors"
        if not file.exists():
            latents, subject = encode_scenes(vae, part, size)
            with replacing(file) as temporary:
                save_file({"latents": latents, "subject": subject}, temporary)
        shards.append(load_file(file))
    latents, subject = (torch.cat([s[name] for s in shards]) for name in ("latents", "subject"))
    return latents, subject


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
