"""Pre-train the per-frame VAE of chapter 3: a small AutoencoderKL on single frames of the toy
world."""

import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from vidgen_lab.progress import Progress
from vidgen_lab.toyworld import Scene
from vidgen_lab.training.checkpoints import Run
from vidgen_lab.training.loop import Numbers, moving_average, train
from vidgen_lab.training.optimizers import warmup_cosine
from vidgen_lab.training.toy_data import random_crops, render_clips, sample_scenes
from vidgen_lab.video.tensors import to_model_range


@dataclass(frozen=True)
class ToyFrameVAEConfig:
    """Recipe of the per-frame VAE: 4x4 pixels of a frame become one latent of 8 channels.

    sizes: (width, height) of the frames it learns, the toy world's usual size and the one of
    `toy-latte`. crop: side of the training crops.
    """

    block_out_channels: tuple[int, ...] = (24, 48, 64)
    latent_channels: int = 8
    sizes: tuple[tuple[int, int], ...] = ((96, 64), (72, 48))
    clips: int = 1200
    frames_per_clip: int = 3
    crop: int = 48
    batch: int = 16
    steps: int = 4500
    learning_rate: float = 2e-3
    warmup: int = 50
    kl_weight: float = 1e-4
    ema_decay: float = 0.99
    seed: int = 0


def build_frame_vae(config: ToyFrameVAEConfig) -> AutoencoderKL:
    """An untrained AutoencoderKL of the toy size.

    One group per norm keeps how much of each channel there is, which flat cartoon colours need. The
    posterior starts narrow, so that its noise does not drown the signal.
    """
    blocks = len(config.block_out_channels)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        block_out_channels=config.block_out_channels,
        layers_per_block=1,
        latent_channels=config.latent_channels,
        norm_num_groups=1,
        sample_size=max(max(size) for size in config.sizes),
        scaling_factor=1.0,
    )
    with torch.no_grad():
        vae.quant_conv.weight[config.latent_channels :] *= 0.1
        vae.quant_conv.bias[config.latent_channels :] = -6.0
    return vae


def frame_vae_loss(
    vae: AutoencoderKL, frames: torch.Tensor, kl_weight: float, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """(loss, squared error) of frames [B, 3, H, W] in [-1, 1]: |error| + error^2 + weighted KL."""
    posterior = vae.encode(frames).latent_dist
    error = vae.decode(posterior.sample(generator)).sample.float() - frames
    mean, logvar = posterior.mean.float(), posterior.logvar.float()
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    squared = error.square().mean()
    return error.abs().mean() + squared + kl_weight * kl, squared.detach()


@torch.no_grad()
def frame_psnr(vae: AutoencoderKL, frames: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB of each uint8 frame [M, 3, H, W] after a round trip."""
    values = []
    for part in frames.split(16):
        x = to_model_range(part).to(vae.device)
        made = vae.decode(vae.encode(x).latent_dist.mode()).sample.clamp(-1, 1)
        values.append(((made - x) / 2).square().flatten(1).mean(1).cpu())
    return -10 * torch.log10(torch.cat(values))


def render_frames(scenes: list[Scene], config: ToyFrameVAEConfig) -> list[torch.Tensor]:
    """A few frames of every scene, at each size: one uint8 [M, 3, H, W] per size."""
    stacks = []
    for width, height in config.sizes:
        clips = render_clips(scenes, width, height, config.frames_per_clip)
        stacks.append(clips.transpose(1, 2).flatten(0, 1).contiguous())
    return stacks


@torch.no_grad()
def encode_frames(vae: AutoencoderKL, clips: torch.Tensor) -> torch.Tensor:
    """Unscaled posterior means, fp16 [N, C, T, h, w], of uint8 clips [N, 3, T, H, W]."""
    latents = []
    for part in Progress(clips.split(4), "encode", "batch"):
        frames = to_model_range(part).transpose(1, 2).flatten(0, 1).to(vae.device)
        with torch.autocast(vae.device.type, torch.bfloat16):
            mean = vae.encode(frames).latent_dist.mode()  # [n*T, C, h, w]
        latents.append(mean.unflatten(0, (len(part), -1)).transpose(1, 2).half().cpu())
    return torch.cat(latents)


@torch.no_grad()
def standardise_latents(vae: AutoencoderKL, latents: torch.Tensor) -> torch.Tensor:
    """Fold a shift and a scale per channel into the VAE so that every latent channel has mean 0 and
    standard deviation 1; returns the latents it will give from now on.

    The two 1x1 convolutions beside the latents take it up, and what the VAE decodes stays the same.
    Its `scaling_factor` is 1 afterwards.
    """
    mean = latents.float().mean(dim=(0, 2, 3, 4))  # [C]
    std = latents.float().std(dim=(0, 2, 3, 4))  # [C]
    channels, write, read = len(mean), vae.quant_conv, vae.post_quant_conv
    shift, scale = mean.to(write.weight), std.to(write.weight)
    write.weight[:channels] /= scale[:, None, None, None]
    write.bias[:channels] = (write.bias[:channels] - shift) / scale
    write.bias[channels:] -= 2 * scale.log()
    read.bias += (read.weight[:, :, 0, 0] * shift).sum(1)
    read.weight *= scale[None, :, None, None]
    return ((latents.float() - mean[:, None, None, None]) / std[:, None, None, None]).half()


def train_frame_vae(
    config: ToyFrameVAEConfig, out: Path, device: str = "cpu", log_every: int = 50
) -> AutoencoderKL:
    """Train (or resume) the VAE; `out` gets checkpoint.pt, log.jsonl, config.json and vae/.

    vae/ holds the averaged weights in float16, with latents of mean 0 and deviation 1 per channel.
    """
    torch.manual_seed(config.seed)
    vae = build_frame_vae(config).to(device, memory_format=torch.channels_last)
    ema = moving_average(vae, config.ema_decay)
    optimizer = torch.optim.AdamW(
        vae.parameters(), lr=config.learning_rate, betas=(0.9, 0.95), weight_decay=0.0
    )
    run = Run(out, {"vae": vae, "ema": ema, "optimizer": optimizer}, config.steps, log_every)
    stacks = render_frames(sample_scenes(config.clips, config.seed + 1), config)
    held_out = render_frames(sample_scenes(16, config.seed + 2, held_out=None), config)
    factor = partial(warmup_cosine, steps=config.steps, warmup=config.warmup)

    def loss_at(step: int) -> tuple[torch.Tensor, Numbers]:
        frames, noise = _batch(stacks, config, step, device)
        loss, squared = frame_vae_loss(vae, frames, config.kl_weight, noise)
        return loss, {"psnr": -10 * torch.log10(squared / 4)}

    def at_checkpoint() -> Numbers:
        return {"psnr_held_out": frame_psnr(ema.module, held_out[0]).mean()}

    train(
        run, vae, {"optimizer": optimizer}, factor, loss_at,
        ema=ema, at_checkpoint=at_checkpoint, device=device,
    )  # fmt: skip
    return _save(config, ema.module, out)


def _batch(
    stacks: list[torch.Tensor], config: ToyFrameVAEConfig, step: int, device: str
) -> tuple[torch.Tensor, torch.Generator]:
    """Crops [B, 3, crop, crop] of frames of one size, and the posterior noise, of one step."""
    rng = np.random.default_rng((config.seed, step))
    stack = stacks[step % len(stacks)][:, :, None]  # a clip of one frame each
    crops = random_crops(stack, config.batch, 1, config.crop, config.crop, rng)[:, :, 0]
    crops = crops.to(device, memory_format=torch.channels_last)
    return crops, torch.Generator(device).manual_seed(int(rng.integers(2**62)))


def _save(config: ToyFrameVAEConfig, vae: AutoencoderKL, out: Path) -> AutoencoderKL:
    """Standardise the latents on fresh clips and write vae/ and config.json."""
    width, height = config.sizes[0]
    fresh = render_clips(sample_scenes(64, config.seed + 3), width, height, 4)
    standardise_latents(vae, encode_frames(vae, fresh))
    vae.to(memory_format=torch.contiguous_format).half().save_pretrained(out / "vae")
    (out / "config.json").write_text(json.dumps(asdict(config), indent=2) + "\n")
    return vae.float()
