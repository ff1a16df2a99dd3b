"""Pre-train the embedded video VAE: a small AutoencoderKLCogVideoX on clips of the toy world."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLCogVideoX
from diffusers.models.autoencoders import autoencoder_kl_cogvideox as cogvideox_vae

from vidgen_lab.training.checkpoints import Run
from vidgen_lab.training.loop import Numbers, moving_average, train
from vidgen_lab.training.optimizers import warmup_cosine
from vidgen_lab.training.toy_data import random_crops, render_clips, sample_scenes
from vidgen_lab.video.tensors import to_model_range


@dataclass(frozen=True)
class Stage:
    """One part of the schedule: how many steps, on which crops."""

    steps: int
    batch: int
    frames: int
    height: int
    width: int


@dataclass(frozen=True)
class ToyVAEConfig:
    """Recipe of the embedded VAE.

    Single frames first: sixteen different pictures teach colour and shape many times faster than
    two clips of nearly equal frames. Then short crops of video for what moves, and whole clips
    last, because the second chunk of frames leans on the first and group norm sees other
    statistics.
    """

    block_out_channels: tuple[int, ...] = (16, 32, 64)
    latent_channels: int = 16
    width: int = 96
    height: int = 64
    num_frames: int = 17
    clips: int = 2500
    stages: tuple[Stage, ...] = (
        Stage(400, 16, 1, 48, 48),
        Stage(4200, 2, 9, 48, 64),
        Stage(250, 1, 17, 64, 96),
    )
    learning_rate: float = 1.5e-3
    warmup: int = 100
    kl_weight: float = 1e-4
    ema_decay: float = 0.995
    seed: int = 0

    @property
    def steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> Stage:
        for stage in self.stages:
            if step < stage.steps:
                return stage
            step -= stage.steps
        return self.stages[-1]


def build_vae(config: ToyVAEConfig) -> AutoencoderKLCogVideoX:
    """An untrained AutoencoderKLCogVideoX of the toy size: three blocks are 4x4 in space, 4x in
    time.

    One group per norm keeps what many small groups would wash out of flat cartoon colours: how much
    of each channel there is. The posterior starts narrow, so that noise does not drown the signal.
    """
    blocks = len(config.block_out_channels)
    vae = AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * blocks,
        up_block_types=("CogVideoXUpBlock3D",) * blocks,
        block_out_channels=config.block_out_channels,
        latent_channels=config.latent_channels,
        layers_per_block=1,
        norm_num_groups=1,
        sample_height=config.height,
        sample_width=config.width,
        temporal_compression_ratio=4,
        scaling_factor=1.0,
    )
    last = vae.encoder.conv_out.conv
    with torch.no_grad():
        last.weight[config.latent_channels :] *= 0.1
        last.bias[config.latent_channels :] = -4.0
    return vae


@torch.no_grad()
def widen_latents(narrow: AutoencoderKLCogVideoX, vae: AutoencoderKLCogVideoX) -> None:
    """Start `vae` from the weights of `narrow`, which is alike but has fewer latent channels.

    The decoder does not read the new channels yet, so that both reconstruct alike.
    """
    old, new = narrow.config.latent_channels, vae.config.latent_channels
    state = vae.state_dict()
    for name, weights in narrow.state_dict().items():
        target = state[name]
        if target.shape == weights.shape:
            target.copy_(weights)
        elif name.startswith("encoder.conv_out"):  # means, then log variances
            target[:old] = weights[:old]
            target[new : new + old] = weights[old:]
        else:  # convolutions that read latents
            target.zero_()
            target[:, :old] = weights


@contextmanager
def fast_spatial_norm() -> Iterator[None]:
    """Let the decoder's spatial norm convolve before it enlarges.

    Its two 1x1x1 convolutions act on the nearest-neighbour enlargement of the latents; both orders
    give the same numbers, and at 4x4x4 compression this one does 1/64 of the arithmetic.
    """

    def forward(self, f: torch.Tensor, zq: torch.Tensor, conv_cache=None):
        scale, _ = self.conv_y(zq)
        shift, _ = self.conv_b(zq)
        out = self.norm_layer(f) * _enlarge(scale, f) + _enlarge(shift, f)
        return out, {}

    with patch.object(cogvideox_vae.CogVideoXSpatialNorm3D, "forward", forward):
        yield


def _enlarge(latents: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Nearest-neighbour enlargement as CogVideoXSpatialNorm3D does it: an odd clip's first frame on
    its own."""
    size = like.shape[-3:]
    if size[0] > 1 and size[0] % 2 == 1:
        first = F.interpolate(latents[:, :, :1], size=(1, *size[1:]))
        rest = F.interpolate(latents[:, :, 1:], size=(size[0] - 1, *size[1:]))
        return torch.cat([first, rest], dim=2)
    return F.interpolate(latents, size=size)


def vae_loss(
    vae: AutoencoderKLCogVideoX, video: torch.Tensor, kl_weight: float, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """(loss, squared error) of video [B, 3, T, H, W] in [-1, 1]: |error| + error^2 + weighted KL
    per latent value."""
    posterior = vae.encode(video).latent_dist
    error = vae.decode(posterior.sample(generator)).sample.float() - video
    kl = (
        0.5
        * (
            posterior.mean.float() ** 2 + posterior.var.float() - 1 - posterior.logvar.float()
        ).mean()
    )
    squared = (error**2).mean()
    return error.abs().mean() + squared + kl_weight * kl, squared.detach()


@torch.no_grad()
def reconstruct(vae: AutoencoderKLCogVideoX, pixels: torch.Tensor) -> torch.Tensor:
    """Encode and decode uint8 clips [N, 3, T, H, W]; returns float in [-1, 1]."""
    outputs = []
    for clip in pixels.split(4):
        video = to_model_range(clip).to(vae.device, vae.dtype)
        outputs.append(vae.decode(vae.encode(video).latent_dist.mode()).sample.float().cpu())
    return torch.cat(outputs)


def squared_error(vae: AutoencoderKLCogVideoX, pixels: torch.Tensor) -> torch.Tensor:
    """Of a round trip of uint8 clips [N, 3, T, H, W] through the VAE; white to black counts 1."""
    return ((reconstruct(vae, pixels).clamp(-1, 1) - to_model_range(pixels)) / 2) ** 2


def psnr(squared: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB of each clip [N], from squared errors [N, ...]."""
    return -10 * torch.log10(squared.flatten(1).mean(1))


def train_vae(
    config: ToyVAEConfig,
    out: Path,
    device: str = "cpu",
    log_every: int = 50,
    init: Path | None = None,
) -> AutoencoderKLCogVideoX:
    """Train (or resume) the VAE; `out` gets checkpoint.pt, log.jsonl and the EMA weights in vae/.

    init: a folder of VAE weights to start from, which may have fewer latent channels.
    """
    torch.manual_seed(config.seed)
    vae = build_vae(config)
    if init:
        widen_latents(AutoencoderKLCogVideoX.from_pretrained(init), vae)
    vae.to(device)
    ema = moving_average(vae, config.ema_decay)
    optimizer = torch.optim.AdamW(
        vae.parameters(), lr=config.learning_rate, betas=(0.9, 0.95), weight_decay=0.0
    )
    run = Run(out, {"vae": vae, "ema": ema, "optimizer": optimizer}, config.steps, log_every)
    size = config.width, config.height, config.num_frames
    clips = render_clips(sample_scenes(config.clips, config.seed + 1), *size)
    held_out = render_clips(sample_scenes(24, config.seed + 2, held_out=None), *size)
    factor = partial(warmup_cosine, steps=config.steps, warmup=config.warmup)

    def loss_at(step: int) -> tuple[torch.Tensor, Numbers]:
        video, noise = _batch(clips, config, step, device)
        loss, squared = vae_loss(vae, video, config.kl_weight, noise)
        return loss, {"psnr": -10 * torch.log10(squared / 4)}

    def at_checkpoint() -> Numbers:
        return {"psnr_held_out": psnr(squared_error(ema.module, held_out)).mean()}

    with fast_spatial_norm():
        train(
            run, vae, {"optimizer": optimizer}, factor, loss_at,
            ema=ema, at_checkpoint=at_checkpoint, device=device,
        )  # fmt: skip
    ema.module.save_pretrained(out / "vae")
    (out / "config.json").write_text(json.dumps(asdict(config), indent=2))
    return ema.module


def _batch(
    clips: torch.Tensor, config: ToyVAEConfig, step: int, device: str
) -> tuple[torch.Tensor, torch.Generator]:
    """The crops and the posterior noise of one step."""
    rng = np.random.default_rng((config.seed, step))
    stage = config.stage_at(step)
    size = stage.batch, stage.frames, stage.height, stage.width
    video = random_crops(clips, *size, rng).to(device)
    return video, torch.Generator(device).manual_seed(int(rng.integers(2**62)))
