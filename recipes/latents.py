"""Latents of the toy world, encoded once and kept: what the embedded transformer learns from."""

from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file

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

    They are kept in `folder`, a file for each thousand clips, which names the clips and the VAE
    that it is of. ValueError for a file of others: a training must not quietly learn from them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    latents, subject, encoder = [], [], vae_identity(vae)
    for start in range(0, len(scenes), SHARD):
        part = scenes[start : start + SHARD]
        file = folder / f"{start:06d}.safetensors"
        made_of = key_of(encoder, size, repr(part))
        if not file.exists():
            made = dict(zip(("latents", "subject"), encode_scenes(vae, part, size), strict=True))
            with replacing(file) as temporary:
                save_file(made, temporary, {"made_of": made_of})
        with safe_open(file, "pt") as shard:
            said = (shard.metadata() or {}).get("made_of", made_of)
            latents.append(shard.get_tensor("latents"))
            subject.append(shard.get_tensor("subject"))
        if said != made_of or len(latents[-1]) != len(part):
            raise ValueError(f"{file} is of other clips or of another VAE: delete it")
    return torch.cat(latents), torch.cat(subject)


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
