"""The embedded VAEs: small ones of diffusers' own classes, trained on frames of the toy world.

toy-cogvideox has an AutoencoderKLCogVideoX. It compresses space 8x8 and leaves time alone:
CogVideoX's own encoder averages pairs of frames at its highest resolution, where a small one has
too few channels to keep fast bodies apart. toy-latte's is an AutoencoderKL, of single frames.

Both learn from single frames. Then their latents are given mean 0 and deviation 1 in every channel
and stay as they are: only the decoder learns on.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, AutoencoderKLCogVideoX
from torch import Generator, Tensor

from recipes.scenes import rendered, sample_scenes
from recipes.training import Recipe, fit
from recipes.vae_layers import (
    VAE,
    as_input,
    as_video,
    fast_layers,
    latent_layers,
    see_one_frame,
    standardise_latents,
)
from vidgen_lab.toyworld import Scene
from vidgen_lab.training.distributed import Numbers
from vidgen_lab.training.stream import Draw
from vidgen_lab.video.tensors import to_model_range

MOVING = 0.15  # a pixel moves where it differs from the frame before by more than this


@dataclass(frozen=True)
class Stage:
    """One part of the training: how many steps, from which learning rate down.

    noise: the decoder reads latents with noise of 0 to this many deviations, drawn anew for each
        frame, because no transformer predicts latents without error. It grows to its full size over
        `noise_steps` steps.
    moving_weight: how much more an error counts where something moves.
    """

    steps: int
    learning_rate: float
    noise: float = 0.5
    noise_steps: int = 0
    moving_weight: float = 2.0


@dataclass(frozen=True)
class VAEConfig(Recipe):
    """Recipe of a VAE. Each stage has its own steps and learning rate. A batch is of square crops
    of so many pixels, each of another frame.

    centring: weight of the pull of every latent channel to mean 0 and deviation 1, so that noise of
        one size means the same in all of them and none has a constant for a transformer to learn.
    equivariance: weight of the error of latents averaged 2x2 against the picture averaged 2x2
        (Kouzelis et al. 2025, "EQ-VAE"); in the shipped VAE it has none.
    """

    stages: tuple[Stage, ...] = ()
    family: Literal["video", "frame"] = "video"
    width: int = 96
    height: int = 64
    clips: int = 8000
    batch: int = 16
    crop: int = 48
    kl_weight: float = 1e-4
    centring: float = 0.05
    equivariance: float = 0.0


def build_vae(config: VAEConfig) -> VAE:
    """An untrained VAE. The posterior starts narrow, so that noise does not drown the signal."""
    family = {"video": AutoencoderKLCogVideoX, "frame": AutoencoderKL}[config.family]
    vae = family(**config.model)
    if config.family == "video":
        see_one_frame(vae)
    (writer, _), means = latent_layers(vae), vae.config.latent_channels
    with torch.no_grad():
        writer.weight[means:] *= 0.1
        writer.bias[means:] = -4.0
    return vae


# the loss -----------------------------------------------------------------------------------------


def vae_loss(vae: VAE, batch: dict[str, Tensor], draw: Draw, noise: float, config: VAEConfig):
    """Loss and numbers for the log.

    batch: "video" [B, 3, T, H, W] in [-1, 1] and "weights" of its pixels [B, 1, T, H, W]. The loss
    is |error| + error^2 + half of the same on differences between neighbouring pixels; a little KL;
    and the pull to centred latents.
    """
    video, weights = batch["video"], batch["weights"]
    b, generator = len(video), draw.generator
    posterior = vae.encode(as_input(vae, video)).latent_dist
    latents = as_video(vae, posterior.sample(generator), b)
    sigma = noise * torch.rand(b, 1, 1, 1, 1, generator=generator, device=video.device)
    shaken = latents + (sigma * draw.noise(latents)).to(latents)
    made = as_video(vae, vae.decode(as_input(vae, shaken)).sample, b)
    error = made.float() - video
    size = (weights * (error.abs() + error**2)).mean() / weights.mean()
    if config.equivariance:
        halved = vae.decode(as_input(vae, F.avg_pool3d(latents, (1, 2, 2)))).sample
        off = as_video(vae, halved, b).float() - F.avg_pool3d(video, (1, 2, 2))
        size = size + config.equivariance * (off.abs() + off**2).mean()
    for axis in (-2, -1):
        slope = error.diff(dim=axis)
        size = size + 0.25 * (slope.abs() + slope**2).mean()
    mean, logvar = posterior.mean.float(), posterior.logvar.float()
    kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()
    channels = mean.transpose(0, 1).flatten(1)  # [C, B*T*h*w]
    spread = channels.var(1).clamp_min(1e-4).log() / 2
    unit = (channels.mean(1) ** 2 + spread**2).mean()
    numbers: Numbers = {"psnr": -10 * torch.log10((error**2).mean() / 4), "kl": kl, "unit": unit}
    return size + config.kl_weight * kl + config.centring * unit, numbers


def moving_pixels(pixels: Tensor) -> Tensor:
    """bool [N, T, H, W] of uint8 clips [N, 3, T, H, W]: where a pixel differs from the frame before
    by more than 0.15 of the range; nowhere in the first frame."""
    change = (pixels[:, :, 1:].int() - pixels[:, :, :-1].int()).abs().amax(1) > MOVING * 255
    return F.pad(change, (0, 0, 0, 0, 1, 0))


@torch.no_grad()
def reconstruct(vae: VAE, pixels: Tensor, noise: float = 0.0) -> Tensor:
    """Encode and decode uint8 clips [N, 3, T, H, W], with Gaussian noise of `noise` on the latents;
    returns float in [-1, 1]."""
    generator, outputs = Generator().manual_seed(0), []
    for clips in pixels.split(4):
        video = to_model_range(clips).to(vae.device, vae.dtype)
        latents = vae.encode(as_input(vae, video)).latent_dist.mode()
        latents = latents + noise * torch.randn(latents.shape, generator=generator).to(latents)
        outputs.append(as_video(vae, vae.decode(latents).sample.float().cpu(), len(clips)))
    return torch.cat(outputs)


def squared_error(vae: VAE, pixels: Tensor, noise: float = 0.0) -> Tensor:
    """Of a round trip of uint8 clips [N, 3, T, H, W] through the VAE; white to black counts 1."""
    return ((reconstruct(vae, pixels, noise).clamp(-1, 1) - to_model_range(pixels)) / 2) ** 2


def psnr(squared: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each clip [N], from squared errors [N, ...]."""
    return -10 * torch.log10(squared.flatten(1).mean(1))


def vae_quality(vae: VAE, pixels: Tensor) -> dict[str, float]:
    """PSNR in dB after a round trip of uint8 clips [N, 3, T, H, W]: mean and worst of the clips;
    mean with noise of 0.3 deviations on the latents; and, with errors pooled over all pixels, where
    something moves by more than 0.15 of the range and where nothing does."""
    squared = squared_error(vae, pixels)
    each, by_pixel, moving = psnr(squared), squared.mean(1), moving_pixels(pixels)
    return {
        "mean": float(each.mean()),
        "worst": float(each.min()),
        "noise_0.3": float(psnr(squared_error(vae, pixels, 0.3)).mean()),
        "moving": float(psnr(by_pixel[moving][None])),
        "still": float(psnr(by_pixel[~moving][None])),
    }


# the training -------------------------------------------------------------------------------------


def short_clips(scenes: list[Scene], config: VAEConfig) -> Tensor:
    """Four neighbouring frames of each scene, uint8 [N, 3, 4, H, W]."""
    rng = np.random.default_rng(config.training.seed)
    clips = torch.empty((len(scenes), 3, 4, config.height, config.width), dtype=torch.uint8)
    drawn = rendered(scenes, (config.width, config.height, 16))
    for slot, one in zip(clips, drawn, strict=True):
        start = int(rng.integers(13))
        slot.copy_(torch.from_numpy(one.clip.frames[start : start + 4]).permute(3, 0, 1, 2))
    return clips


def train_vae(config: VAEConfig, out: Path) -> VAE:
    """Train (or resume) the VAE, stage by stage in `out`/0, `out`/1, …; `out`/vae is the result."""
    torch.manual_seed(seed := config.training.seed)
    vae = build_vae(config)
    clips = short_clips(sample_scenes(config.clips, seed + 1, reserved=True), config)
    for number in range(len(config.stages)):
        train_stage(vae, config, number, clips, out / str(number))
        if number == 0:  # latents stay as they are from here on
            standardise_latents(vae, clips[:256])
            vae.encoder.requires_grad_(False)
    vae.save_pretrained(out / "vae")
    return vae


def train_stage(vae: VAE, config: VAEConfig, number: int, clips: Tensor, out: Path) -> None:
    """Train (or resume) stage `number` in `out`; the VAE has the averaged weights afterwards."""
    stage = config.stages[number]
    before = sum(stage.steps for stage in config.stages[:number])
    held_out = sample_scenes(16, config.training.seed + 2, held_out=None, reserved=True)
    held_out = short_clips(held_out, config)

    def loss(vae: VAE, batch: dict[str, Tensor], draw: Draw):
        grown = min(1.0, (draw.step + 1) / max(1, stage.noise_steps))
        return vae_loss(vae, batch, draw, grown * stage.noise, config)

    of_stage = replace(
        config,
        optimizer=replace(config.optimizer, learning_rate=stage.learning_rate),
        training=replace(config.training, steps=stage.steps),
    )
    with fast_layers():
        trainer = fit(
            vae,
            loss,
            lambda step: crops_of(clips, config, number, before + step),
            out,
            of_stage,
            evaluate=lambda vae: vae_quality(vae, held_out),
        )
    trainer.ema.copy_to(vae)


def crops_of(clips: Tensor, config: VAEConfig, number: int, step: int) -> dict[str, Tensor]:
    """Crops [B, 3, 1, h, w] of clips of four frames for one step of stage `number`, and their
    weights [B, 1, 1, h, w]."""
    rng = np.random.default_rng((config.training.seed, 1, step))
    more = config.stages[number].moving_weight
    crops, weights = [], []
    for index in rng.integers(len(clips), size=config.batch):
        _, frames, height, width = clips[index].shape
        limits = frames - 1, height - config.crop, width - config.crop
        t, y, x = (int(rng.integers(limit + 1)) for limit in limits)
        window = slice(y, y + config.crop), slice(x, x + config.crop)
        crop = clips[index][:, max(0, t - 1) : t + 1, *window]  # with the frame before
        crops.append(crop[:, -1:])
        weights.append(1 + more * moving_pixels(crop[None])[0, -1:].float())
    return {"video": to_model_range(torch.stack(crops)), "weights": torch.stack(weights)[:, None]}
