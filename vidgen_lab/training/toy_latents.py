"""Latents of the toy world, encoded once and kept: what the embedded transformer learns from."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLCogVideoX
from safetensors.torch import load_file, save_file

from vidgen_lab.progress import Progress
from vidgen_lab.toyworld import Scene, render
from vidgen_lab.video.tensors import to_model_range


@torch.no_grad()
def encode_scenes(
    vae: AutoencoderKLCogVideoX, scenes: list[Scene], size: tuple[int, int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scenes rendered at (width, height, frames) as latents [N, C, T, H, W] (posterior means, fp16)
    and the cells among them that show the subject, bool [N, T, H, W]."""
    latents, subjects = [], []
    for start in Progress(range(0, len(scenes), 4), "encode", "batch"):
        rendered = [render(scene, *size) for scene in scenes[start : start + 4]]
        video = to_model_range(torch.from_numpy(np.stack([r.clip.frames for r in rendered])))
        video = video.permute(0, 4, 1, 2, 3).to(vae.device)  # [B, 3, T, H, W]
        with torch.autocast(vae.device.type, torch.bfloat16):
            latents.append(vae.encode(video).latent_dist.mode().half().cpu())
        masks = torch.from_numpy(np.stack([r.masks for r in rendered]))
        subjects.append(latent_cells(masks, latents[-1].shape[2:]))
    return torch.cat(latents), torch.cat(subjects)


def latent_cells(masks: torch.Tensor, grid: tuple[int, int, int]) -> torch.Tensor:
    """Masks [N, T, H, W] on the latents' grid (t, h, w): a cell is true where any of its pixels is.

    The first frame has a latent frame of its own, as in CogVideoX's VAE.
    """
    t, h, w = grid
    first = F.adaptive_max_pool3d(masks[:, :1].float(), (1, h, w))
    rest = F.adaptive_max_pool3d(masks[:, 1:].float(), (t - 1, h, w))
    return torch.cat([first, rest], dim=1).bool()


@torch.no_grad()
def normalise_latents(vae: AutoencoderKLCogVideoX, latents: torch.Tensor) -> torch.Tensor:
    """Fold a scale per channel into the VAE so that every latent channel has unit power; returns
    the scaled latents.

    CogVideoX has one scaling factor for all channels, and channels of unequal power would learn at
    unequal noise levels. The scale commutes with the encoder's last convolution and with everything
    in the decoder that reads latents.
    """
    power = latents.float().pow(2).mean(dim=(0, 2, 3, 4)).sqrt()  # [C]
    channels = len(power)
    last = vae.encoder.conv_out.conv
    last.weight[:channels] /= power[:, None, None, None, None].to(last.weight)
    last.bias[:channels] /= power.to(last.bias)
    last.bias[channels:] -= 2 * power.log().to(last.bias)
    readers = [vae.decoder.conv_in.conv]
    readers += [
        m.conv for name, m in vae.decoder.named_modules() if name.endswith(("conv_y", "conv_b"))
    ]
    for reader in readers:
        reader.weight *= power[None, :, None, None, None].to(reader.weight)
    return (latents.float() / power[None, :, None, None, None]).half()


def cached_latents(
    vae_folder: Path, out: Path, scenes: list[Scene], size: tuple[int, int, int], device: str
) -> tuple[AutoencoderKLCogVideoX, torch.Tensor, torch.Tensor]:
    """The VAE with normalised latents, those of all scenes as fp16 [N, T, C, H, W], and the cells
    that show the subject as bool [N, T, 1, H, W].

    They are kept in `out`; delete latents.safetensors there after a change of VAE or scenes.
    """
    file = out / "latents.safetensors"
    if not file.exists():
        out.mkdir(parents=True, exist_ok=True)
        vae = AutoencoderKLCogVideoX.from_pretrained(vae_folder).to(device)
        latents, subject = encode_scenes(vae, scenes, size)
        latents = normalise_latents(vae, latents).permute(0, 2, 1, 3, 4).contiguous()
        vae.save_pretrained(out / "vae")
        save_file({"latents": latents, "subject": subject[:, :, None]}, file)
    vae = AutoencoderKLCogVideoX.from_pretrained(out / "vae").to(device)
    cached = load_file(file)
    if len(cached["latents"]) != len(scenes):
        raise ValueError(
            f"{file} holds {len(cached['latents'])} clips, not {len(scenes)}: delete it"
        )
    return vae, cached["latents"], cached["subject"]
