"""Latents of the toy world, encoded once and kept: what the embedded transformer learns from."""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLCogVideoX
from safetensors.torch import load_file, save_file
from tqdm.auto import tqdm

from vidgen_lab.toyworld import Scene, render
from vidgen_lab.training.toy_data import to_model_range


@torch.no_grad()
def encode_scenes(
    vae: AutoencoderKLCogVideoX, scenes: list[Scene], size: tuple[int, int, int]
) -> torch.Tensor:
    """Latents [N, C, T, H, W] (posterior means, fp16) of scenes rendered at (width, height,
    frames)."""
    latents = []
    for start in tqdm(range(0, len(scenes), 4), desc="encode", mininterval=10):
        clips = [render(scene, *size).clip.frames for scene in scenes[start : start + 4]]
        video = to_model_range(torch.from_numpy(np.stack(clips)))
        video = video.permute(0, 4, 1, 2, 3).to(vae.device)  # [B, 3, T, H, W]
        with torch.autocast(vae.device.type, torch.bfloat16):
            latents.append(vae.encode(video).latent_dist.mode().half().cpu())
    return torch.cat(latents)


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
) -> tuple[AutoencoderKLCogVideoX, torch.Tensor]:
    """The VAE with normalised latents, and those of all scenes as fp16 [N, T, C, H, W].

    They are kept in `out`; delete latents.safetensors there after a change of VAE or scenes.
    """
    file = out / "latents.safetensors"
    if not file.exists():
        out.mkdir(parents=True, exist_ok=True)
        vae = AutoencoderKLCogVideoX.from_pretrained(vae_folder).to(device)
        latents = normalise_latents(vae, encode_scenes(vae, scenes, size))
        vae.save_pretrained(out / "vae")
        save_file({"latents": latents.permute(0, 2, 1, 3, 4).contiguous()}, file)
    vae = AutoencoderKLCogVideoX.from_pretrained(out / "vae").to(device)
    latents = load_file(file)["latents"]
    if len(latents) != len(scenes):
        raise ValueError(f"{file} holds {len(latents)} clips, not {len(scenes)}: delete it")
    return vae, latents
