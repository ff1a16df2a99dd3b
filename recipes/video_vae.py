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
from torch import Generator, Tensor, nn

from vidgen_lab.toyworld import Scene, render
from vidgen_lab.training.checkpoints import Run
from vidgen_lab.training.loop import Numbers, moving_average, train
from vidgen_lab.training.optimizers import warmup_cosine
from vidgen_lab.training.toy_data import sample_scenes
from vidgen_lab.video.tensors import to_model_range

MOVING = 0.15  # a pixel moves where it differs from the frame before by more than this


@dataclass(frozen=True)
class Stage:
    """One part of the training: how many steps, on which crops, from which learning rate down, and
    over how many steps the noise on the latents grows to its full size."""

    steps: int
    batch: int
    frames: int
    height: int
    width: int
    learning_rate: float
    noise_steps: int = 0


@dataclass(frozen=True)
class ToyVAEConfig:
    """Recipe of the embedded VAE.

    It compresses space 8x8 and leaves time alone: CogVideoX's encoder averages pairs of frames at
    its highest resolution, where a small one has too few channels to keep fast bodies apart.
    Single frames come first. Then the latents are given mean 0 and deviation 1 in every channel,
    the encoder is frozen, and the decoder learns on short clips to look back in time.

    latent_noise: the decoder reads latents with noise of 0 to this many deviations, drawn anew for
    each clip, because no transformer predicts latents without error.
    """

    block_out_channels: tuple[int, ...] = (24, 48, 64, 96)
    latent_channels: int = 16
    width: int = 96
    height: int = 64
    clips: int = 8000
    stages: tuple[Stage, ...] = (
        Stage(3500, 16, 1, 48, 48, 2e-3, noise_steps=2500),
        Stage(400, 2, 4, 64, 96, 5e-4),
    )
    warmup: int = 100
    kl_weight: float = 1e-4
    centring: float = 0.05
    latent_noise: float = 0.5
    moving_weight: float = 2.0
    ema_decay: float = 0.995
    seed: int = 0


def build_vae(config: ToyVAEConfig) -> AutoencoderKLCogVideoX:
    """An untrained AutoencoderKLCogVideoX of the toy size: four blocks are 8x8 in space, and time
    stays as it is.

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
        temporal_compression_ratio=1,
        scaling_factor=1.0,
    )
    last = vae.encoder.conv_out.conv
    with torch.no_grad():
        last.weight[config.latent_channels :] *= 0.1
        last.bias[config.latent_channels :] = -4.0
    see_one_frame(vae)
    return vae


def see_one_frame(part: nn.Module) -> None:
    """Give the causal convolutions of `part` a tap on the newest frame alone: a model of single
    frames, which `fast_layers` computes as such."""
    for module in part.modules():
        if isinstance(module, cogvideox_vae.CogVideoXCausalConv3d):
            module.sees_one_frame = True
            with torch.no_grad():
                module.conv.weight[:, :, -1] = module.conv.weight.sum(2)
                module.conv.weight[:, :, :-1] = 0


def see_video(part: nn.Module) -> None:
    """Let the causal convolutions of `part` look back again."""
    for module in part.modules():
        vars(module).pop("sees_one_frame", None)


@contextmanager
def fast_layers() -> Iterator[None]:
    """Train with the same numbers in less time.

    The decoder's spatial norm convolves before it enlarges: its two 1x1x1 convolutions act on the
    nearest-neighbour enlargement of the latents, where both orders give the same numbers. And
    where the taps on earlier frames are zero, a causal 3-D convolution is a 2-D one of each frame:
    so it is in the encoder always, and in the decoder until clips of several frames come.
    """
    plain = cogvideox_vae.CogVideoXCausalConv3d.forward

    def norm(self, f: Tensor, zq: Tensor, conv_cache=None):
        scale, _ = self.conv_y(zq)
        shift, _ = self.conv_b(zq)
        return self.norm_layer(f) * _enlarge(scale, f) + _enlarge(shift, f), {}

    def convolve(self, inputs: Tensor, conv_cache=None):
        if not hasattr(self, "sees_one_frame"):
            return plain(self, inputs, conv_cache)
        kernel = self.conv.weight[:, :, -1]
        frames = inputs.transpose(1, 2).flatten(0, 1)  # [B*T, C, H, W]
        frames = F.conv2d(frames, kernel, self.conv.bias, padding=kernel.shape[-1] // 2)
        return frames.unflatten(0, (len(inputs), -1)).transpose(1, 2), None

    with (
        patch.object(cogvideox_vae.CogVideoXSpatialNorm3D, "forward", norm),
        patch.object(cogvideox_vae.CogVideoXCausalConv3d, "forward", convolve),
    ):
        yield


def _enlarge(latents: Tensor, like: Tensor) -> Tensor:
    """Nearest-neighbour enlargement in space of [B, C, T, h, w]."""
    flat = F.interpolate(latents.flatten(1, 2), like.shape[-2:])
    return flat.unflatten(1, latents.shape[1:3])


def vae_loss(
    vae: AutoencoderKLCogVideoX,
    video: Tensor,
    weights: Tensor,
    config: ToyVAEConfig,
    generator: Generator,
    noise: float,
) -> tuple[Tensor, Numbers]:
    """Loss and numbers for the log.

    video: [B, 3, T, H, W] in [-1, 1]; weights of its pixels: [B, 1, T, H, W]. The loss is
    |error| + error^2 + half of the same on differences between neighbouring pixels; a little KL;
    and a pull of every latent channel to mean 0 and deviation 1, so that noise of the same size
    means the same in all of them and none has a constant for the transformer to learn.
    """
    posterior = vae.encode(video).latent_dist
    latents = posterior.sample(generator)
    b = len(video)
    sigma = noise * torch.rand(b, 1, 1, 1, 1, generator=generator)
    shaken = sigma * torch.randn(latents.shape, generator=generator)
    error = vae.decode(latents + shaken.to(latents)).sample.float() - video
    size = (weights * (error.abs() + error**2)).mean() / weights.mean()
    for axis in (-2, -1):
        slope = error.diff(dim=axis)
        size = size + 0.25 * (slope.abs() + slope**2).mean()
    mean, logvar = posterior.mean.float(), posterior.logvar.float()
    kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()
    centre = mean.mean((0, 2, 3, 4))
    deviation = mean.var((0, 2, 3, 4)).clamp_min(1e-4).log() / 2
    unit = (centre**2 + deviation**2).mean()
    clean = (error**2).flatten(1).mean(1)
    numbers = {"psnr": -10 * torch.log10(clean.detach().mean() / 4), "kl": kl, "unit": unit}
    return size + config.kl_weight * kl + config.centring * unit, numbers


def moving_pixels(pixels: Tensor) -> Tensor:
    """bool [N, T, H, W] of uint8 clips [N, 3, T, H, W]: where a pixel differs from the frame before
    by more than 0.15 of the range; nowhere in the first frame."""
    change = (pixels[:, :, 1:].int() - pixels[:, :, :-1].int()).abs().amax(1) > MOVING * 255
    return F.pad(change, (0, 0, 0, 0, 1, 0))


@torch.no_grad()
def reconstruct(vae: AutoencoderKLCogVideoX, pixels: Tensor, noise: float = 0.0) -> Tensor:
    """Encode and decode uint8 clips [N, 3, T, H, W], with Gaussian noise of `noise` on the latents;
    returns float in [-1, 1]."""
    generator, outputs = Generator().manual_seed(0), []
    for clip in pixels.split(4):
        video = to_model_range(clip).to(vae.device, vae.dtype)
        latents = vae.encode(video).latent_dist.mode()
        shaken = torch.randn(latents.shape, generator=generator).to(latents)
        outputs.append(vae.decode(latents + noise * shaken).sample.float().cpu())
    return torch.cat(outputs)


def squared_error(vae: AutoencoderKLCogVideoX, pixels: Tensor, noise: float = 0.0) -> Tensor:
    """Of a round trip of uint8 clips [N, 3, T, H, W] through the VAE; white to black counts 1."""
    return ((reconstruct(vae, pixels, noise).clamp(-1, 1) - to_model_range(pixels)) / 2) ** 2


def psnr(squared: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each clip [N], from squared errors [N, ...]."""
    return -10 * torch.log10(squared.flatten(1).mean(1))


def short_clips(scenes: list[Scene], config: ToyVAEConfig) -> Tensor:
    """Four neighbouring frames of each scene, uint8 [N, 3, 4, H, W]."""
    rng = np.random.default_rng(config.seed)
    clips = []
    for scene in scenes:
        start = int(rng.integers(13))
        frames = render(scene, config.width, config.height, 16).clip.frames[start : start + 4]
        clips.append(torch.from_numpy(frames.copy()).permute(3, 0, 1, 2))
    return torch.stack(clips)


@torch.no_grad()
def standardise_latents(vae: AutoencoderKLCogVideoX, clips: Tensor) -> None:
    """Fold into the encoder that every latent channel has mean 0 and deviation 1 on uint8 clips
    [N, 3, T, H, W], and the inverse into the decoder's readers of latents.

    Exact but for the border of the decoder's first convolution, which pads with zeros: training
    goes on after it.
    """
    with fast_layers():
        means = [vae.encode(to_model_range(part)).latent_dist.mode() for part in clips.split(8)]
    latents = torch.cat(means)
    mean, deviation = latents.mean((0, 2, 3, 4)), latents.std((0, 2, 3, 4))
    channels = len(mean)
    last = vae.encoder.conv_out.conv
    last.weight[:channels] /= deviation.view(-1, 1, 1, 1, 1)
    last.bias[:channels] = (last.bias[:channels] - mean) / deviation
    last.bias[channels:] -= 2 * deviation.log()
    modules = dict(vae.decoder.named_modules())
    readers = [m.conv for name, m in modules.items() if name.endswith(("conv_y", "conv_b"))]
    for reader in (vae.decoder.conv_in.conv, *readers):
        reader.bias += (reader.weight.sum((2, 3, 4)) * mean).sum(1)
        reader.weight *= deviation.view(1, -1, 1, 1, 1)


def train_vae(
    config: ToyVAEConfig, out: Path, device: str = "cpu", log_every: int = 50
) -> AutoencoderKLCogVideoX:
    """Train (or resume) the VAE, stage by stage in `out`/0, `out`/1, …; `out`/vae is the result."""
    torch.manual_seed(config.seed)
    vae = build_vae(config).to(device)
    clips = short_clips(sample_scenes(config.clips, config.seed + 1, reserved=True), config)
    for number, stage in enumerate(config.stages):
        if stage.frames > 1:
            standardise_latents(vae, clips[:256].to(device))
            vae.encoder.requires_grad_(False)  # latents stay as they are from here on
            see_video(vae.decoder)
        vae = train_stage(vae, config, stage, clips, out / str(number), log_every)
    vae.save_pretrained(out / "vae")
    (out / "config.json").write_text(json.dumps(asdict(config), indent=2))
    return vae


def train_stage(
    vae: AutoencoderKLCogVideoX,
    config: ToyVAEConfig,
    stage: Stage,
    clips: Tensor,
    out: Path,
    log_every: int,
) -> AutoencoderKLCogVideoX:
    """Train (or resume) one stage in `out` and return the moving average of its weights."""
    device = str(vae.device)
    ema = moving_average(vae, config.ema_decay)
    optimizer = torch.optim.AdamW(
        [p for p in vae.parameters() if p.requires_grad],
        lr=stage.learning_rate, betas=(0.9, 0.95), weight_decay=0.0,
    )  # fmt: skip
    run = Run(out, {"vae": vae, "ema": ema, "optimizer": optimizer}, stage.steps, log_every)
    held_out = sample_scenes(16, config.seed + 2, held_out=None, reserved=True)
    held_out = short_clips(held_out, config)
    moving = moving_pixels(held_out)
    factor = partial(warmup_cosine, steps=stage.steps, warmup=config.warmup)

    def loss_at(step: int) -> tuple[Tensor, Numbers]:
        video, weights, generator = _batch(clips, config, stage, step, device)
        noise = config.latent_noise * min(1.0, (step + 1) / max(1, stage.noise_steps))
        return vae_loss(vae, video, weights, config, generator, noise)

    def at_checkpoint() -> Numbers:
        clean, shaken = (squared_error(ema.module, held_out, noise) for noise in (0.0, 0.3))
        return {
            "psnr_held_out": psnr(clean).mean(),
            "psnr_noise_0.3": psnr(shaken).mean(),
            "psnr_moving": psnr(clean.mean(1)[moving][None])[0],
        }

    with fast_layers():
        train(
            run, vae, {"optimizer": optimizer}, factor, loss_at,
            ema=ema, at_checkpoint=at_checkpoint, device=device,
        )  # fmt: skip
    return ema.module


def _batch(
    clips: Tensor, config: ToyVAEConfig, stage: Stage, step: int, device: str
) -> tuple[Tensor, Tensor, Generator]:
    """Crops [B, 3, T, h, w], their weights [B, 1, T, h, w] and the noise source of one step."""
    rng = np.random.default_rng((config.seed, stage.frames, step))
    crops, weights = [], []
    for index in rng.integers(len(clips), size=stage.batch):
        clip = clips[index]
        _, frames, height, width = clip.shape
        limits = frames - stage.frames, height - stage.height, width - stage.width
        t, y, x = (int(rng.integers(limit + 1)) for limit in limits)
        window = slice(y, y + stage.height), slice(x, x + stage.width)
        crop = clip[:, max(0, t - 1) : t + stage.frames, *window]
        moving = moving_pixels(crop[None])[0][-stage.frames :]
        crops.append(crop[:, -stage.frames :])
        weights.append(1 + config.moving_weight * moving.float())
    video = to_model_range(torch.stack(crops)).to(device)
    generator = Generator(device).manual_seed(int(rng.integers(2**62)))
    return video, torch.stack(weights)[:, None].to(device), generator
