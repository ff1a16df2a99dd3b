"""The embedded VAEs: small ones of diffusers' own classes, trained on frames of the toy world.

toy-cogvideox has an AutoencoderKLCogVideoX. It compresses space 8x8 and leaves time alone:
CogVideoX's own encoder averages pairs of frames at its highest resolution, where a small one has
too few channels to keep fast bodies apart. toy-frame-vae is an AutoencoderKL, for chapter 3.

Both learn from single frames. Then their latents are given mean 0 and deviation 1 in every channel,
and the decoder of the video VAE goes on with short clips, to look back in time.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, AutoencoderKLCogVideoX
from diffusers.models.autoencoders import autoencoder_kl_cogvideox as cogvideox_vae
from torch import Generator, Tensor, nn

from recipes.scenes import sample_scenes
from vidgen_lab.toyworld import Scene, render
from vidgen_lab.training.config import TrainingConfig
from vidgen_lab.training.distributed import Numbers
from vidgen_lab.training.optim import OptimizerConfig, has_fast_bfloat16
from vidgen_lab.training.stream import Draw
from vidgen_lab.training.trainer import VideoModelTrainer
from vidgen_lab.video.tensors import to_model_range

VAE = AutoencoderKLCogVideoX | AutoencoderKL
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
class VAEConfig:
    """Recipe of a VAE.

    latent_noise: the decoder reads latents with noise of 0 to this many deviations, drawn anew for
        each clip, because no transformer predicts latents without error.
    centring: weight of the pull of every latent channel to mean 0 and deviation 1, so that noise of
        one size means the same in all of them and none has a constant for a transformer to learn.
    moving_weight: how much more an error counts where something moves.
    """

    family: Literal["video", "frame"] = "video"
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


def build_vae(config: VAEConfig) -> VAE:
    """An untrained VAE of the toy size: a block less than it has channels' steps of 2x2 in space.

    One group per norm keeps what many small groups would wash out of flat cartoon colours: how much
    of each channel there is. The posterior starts narrow, so that noise does not drown the signal.
    """
    blocks = len(config.block_out_channels)
    sizes = {
        "block_out_channels": config.block_out_channels,
        "latent_channels": config.latent_channels,
        "layers_per_block": 1,
        "norm_num_groups": 1,
        "scaling_factor": 1.0,
    }
    if config.family == "frame":
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * blocks,
            up_block_types=("UpDecoderBlock2D",) * blocks,
            sample_size=config.width,
            **sizes,
        )
    else:
        vae = AutoencoderKLCogVideoX(
            down_block_types=("CogVideoXDownBlock3D",) * blocks,
            up_block_types=("CogVideoXUpBlock3D",) * blocks,
            sample_height=config.height,
            sample_width=config.width,
            temporal_compression_ratio=1,
            **sizes,
        )
        see_one_frame(vae)
    writer, _ = latent_layers(vae)
    with torch.no_grad():
        writer.weight[config.latent_channels :] *= 0.1
        writer.bias[config.latent_channels :] = -4.0
    return vae


# frames and clips ---------------------------------------------------------------------------------


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
    """Compute the video VAE's numbers in less time.

    The decoder's spatial norm convolves before it enlarges: its two 1x1x1 convolutions act on the
    nearest-neighbour enlargement of the latents, where both orders give the same numbers. A causal
    3-D convolution is a sum of 2-D ones, a tap on time each: faster on a CPU. Where the taps
    on earlier frames are zero, the newest is all: in the encoder always, in the decoder until clips
    of several frames come.
    """
    plain = cogvideox_vae.CogVideoXCausalConv3d.forward

    def enlarge(latents: Tensor, like: Tensor) -> Tensor:
        flat = F.interpolate(latents.flatten(1, 2), like.shape[-2:])
        return flat.unflatten(1, latents.shape[1:3])

    def norm(self, f: Tensor, zq: Tensor, conv_cache=None):
        scale, _ = self.conv_y(zq)
        shift, _ = self.conv_b(zq)
        return self.norm_layer(f) * enlarge(scale, f) + enlarge(shift, f), {}

    def convolve(self, inputs: Tensor, conv_cache=None):
        if self.time_kernel_size == 1:
            return plain(self, inputs, conv_cache)
        kernels, frames = self.conv.weight.unbind(2), inputs.shape[2]
        if hasattr(self, "sees_one_frame"):
            return by_frame(inputs, kernels[-1], self.conv.bias), None
        first = [conv_cache] if conv_cache is not None else [inputs[:, :, :1]] * self.time_pad
        padded = torch.cat([*first, inputs], dim=2)
        parts = [padded[:, :, k : k + frames] for k in range(len(kernels))]
        out = by_frame(parts[-1], kernels[-1], self.conv.bias)
        for part, kernel in zip(parts[:-1], kernels[:-1], strict=True):
            out = out + by_frame(part, kernel)
        return out, padded[:, :, -self.time_pad :].clone()

    def by_frame(clips: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
        flat = clips.transpose(1, 2).flatten(0, 1)  # [B*T, C, H, W]
        flat = F.conv2d(flat, kernel, bias, padding=kernel.shape[-1] // 2)
        return flat.unflatten(0, (len(clips), -1)).transpose(1, 2)

    with (
        patch.object(cogvideox_vae.CogVideoXSpatialNorm3D, "forward", norm),
        patch.object(cogvideox_vae.CogVideoXCausalConv3d, "forward", convolve),
    ):
        yield


def as_input(vae: VAE, video: Tensor) -> Tensor:
    """[B, C, T, H, W] as the VAE takes it: a per-frame VAE gets [B*T, C, H, W]."""
    return video.transpose(1, 2).flatten(0, 1) if isinstance(vae, AutoencoderKL) else video


def as_video(vae: VAE, output: Tensor, clips: int) -> Tensor:
    """The VAE's output as [B, C, T, H, W]."""
    if isinstance(vae, AutoencoderKL):
        return output.unflatten(0, (clips, -1)).transpose(1, 2)
    return output


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


# latents ------------------------------------------------------------------------------------------


def latent_layers(vae: VAE) -> tuple[nn.Module, list[nn.Module]]:
    """The convolution that writes means and log variances, and those that read latents."""
    if isinstance(vae, AutoencoderKL):
        return vae.quant_conv, [vae.post_quant_conv]
    modules = vae.decoder.named_modules()
    readers = [m.conv for name, m in modules if name.endswith(("conv_y", "conv_b"))]
    return vae.encoder.conv_out.conv, [vae.decoder.conv_in.conv, *readers]


@torch.no_grad()
def standardise_latents(vae: VAE, clips: Tensor) -> None:
    """Fold into the VAE that every latent channel has mean 0 and deviation 1 on uint8 clips
    [N, 3, T, H, W]: into what writes latents, and the inverse into what reads them.

    Exact where 1x1 convolutions read; the first convolution of CogVideoX's decoder pads with zeros,
    which training gets used to afterwards.
    """
    parts = (as_input(vae, to_model_range(part).to(vae.device)) for part in clips.split(8))
    with fast_layers():
        latents = torch.cat([vae.encode(part).latent_dist.mode() for part in parts])
    channels = latents.transpose(0, 1).flatten(1)
    mean, spread = channels.mean(1), channels.std(1)
    count, (writer, readers) = len(mean), latent_layers(vae)
    across = (-1, *[1] * (writer.weight.ndim - 1))
    writer.weight[:count] /= spread.view(across)
    writer.bias[:count] = (writer.bias[:count] - mean) / spread
    writer.bias[count:] -= 2 * spread.log()
    for reader in readers:
        reader.bias += reader.weight.flatten(2).sum(2) @ mean
        reader.weight *= spread.view(1, *across[:-1])


# the training -------------------------------------------------------------------------------------


def short_clips(scenes: list[Scene], config: VAEConfig) -> Tensor:
    """Four neighbouring frames of each scene, uint8 [N, 3, 4, H, W]."""
    rng = np.random.default_rng(config.seed)
    clips = torch.empty((len(scenes), 3, 4, config.height, config.width), dtype=torch.uint8)
    for slot, scene in zip(clips, scenes, strict=True):
        start = int(rng.integers(13))
        frames = render(scene, config.width, config.height, 16).clip.frames[start : start + 4]
        slot.copy_(torch.from_numpy(frames).permute(3, 0, 1, 2))
    return clips


def train_vae(config: VAEConfig, out: Path) -> VAE:
    """Train (or resume) the VAE, stage by stage in `out`/0, `out`/1, …; `out`/vae is the result."""
    torch.manual_seed(config.seed)
    vae = build_vae(config)
    clips = short_clips(sample_scenes(config.clips, config.seed + 1, reserved=True), config)
    for number, stage in enumerate(config.stages):
        if stage.frames > 1:  # latents stay as they are from here on
            standardise_latents(vae, clips[:256])
            vae.encoder.requires_grad_(False)
            see_video(vae.decoder)
        train_stage(vae, config, stage, clips, out / str(number))
    if config.family == "frame":
        standardise_latents(vae, clips[:256])
    vae.save_pretrained(out / "vae")
    return vae


def train_stage(vae: VAE, config: VAEConfig, stage: Stage, clips: Tensor, out: Path) -> None:
    """Train (or resume) one stage in `out`; the VAE has the averaged weights afterwards."""
    held_out = sample_scenes(16, config.seed + 2, held_out=None, reserved=True)
    held_out = short_clips(held_out, config)
    moving = moving_pixels(held_out)

    def loss(vae: VAE, batch: dict[str, Tensor], draw: Draw):
        grown = min(1.0, (draw.step + 1) / max(1, stage.noise_steps))
        return vae_loss(vae, batch, draw, grown * config.latent_noise, config)

    def evaluate(vae: VAE) -> Numbers:
        clean, shaken = (squared_error(vae, held_out, noise) for noise in (0.0, 0.3))
        return {
            "psnr_held_out": psnr(clean).mean(),
            "psnr_noise_0.3": psnr(shaken).mean(),
            "psnr_moving": psnr(clean.mean(1)[moving][None])[0],
        }

    trainer = VideoModelTrainer(
        vae,
        loss,
        lambda number: crops_of(clips, config, stage, number),
        out,
        TrainingConfig(
            steps=stage.steps,
            seed=config.seed,
            ema_decay=config.ema_decay,
            log_every=50,
            validate_every=500,
            checkpoint_every=250,
            keep_last=1,
            measure=False,
            # clips of several frames crash oneDNN's backward pass in bfloat16 (PyTorch 2.13, AMX)
            precision="no" if stage.frames > 1 else "auto",
        ),
        optimizers=OptimizerConfig(
            learning_rate=stage.learning_rate,
            betas=(0.9, 0.95),
            weight_decay=0.0,
            warmup=config.warmup,
            end=0.0,
        ),
        evaluate=evaluate,
        settings={"recipe": asdict(config)},
    )
    with fast_layers():
        trainer.fit()
    trainer.ema.copy_to(vae)


def crops_of(clips: Tensor, config: VAEConfig, stage: Stage, number: int) -> dict[str, Tensor]:
    """Crops [B, 3, T, h, w] of batch `number`, and their weights [B, 1, T, h, w]."""
    rng = np.random.default_rng((config.seed, stage.frames, number))
    crops, weights = [], []
    for index in rng.integers(len(clips), size=stage.batch):
        clip = clips[index]
        _, frames, height, width = clip.shape
        limits = frames - stage.frames, height - stage.height, width - stage.width
        t, y, x = (int(rng.integers(limit + 1)) for limit in limits)
        window = slice(y, y + stage.height), slice(x, x + stage.width)
        crop = clip[:, max(0, t - 1) : t + stage.frames, *window]  # with the frame before
        moving = moving_pixels(crop[None])[0][-stage.frames :]
        crops.append(crop[:, -stage.frames :])
        weights.append(1 + config.moving_weight * moving.float())
    return {"video": to_model_range(torch.stack(crops)), "weights": torch.stack(weights)[:, None]}


@torch.no_grad()
def encode_clips(vae: VAE, pixels: Tensor) -> Tensor:
    """Posterior means [N, C, T, h, w] in float16 of uint8 clips [N, 3, T, H, W], as fast as this
    machine can."""
    if isinstance(vae, AutoencoderKLCogVideoX):
        see_one_frame(vae.encoder)
    fast = torch.autocast(vae.device.type, torch.bfloat16, enabled=has_fast_bfloat16(vae.device))
    with fast, fast_layers():
        video = as_input(vae, to_model_range(pixels).to(vae.device))
        return as_video(vae, vae.encode(video).latent_dist.mode(), len(pixels)).half().cpu()
