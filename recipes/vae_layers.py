"""The inside of diffusers' VAEs: as models of single frames, computed faster, with latents of unit
deviation."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, AutoencoderKLCogVideoX
from diffusers.models.autoencoders import autoencoder_kl_cogvideox as cogvideox_vae
from torch import Tensor, nn

from vidgen_lab.training.optim import has_fast_bfloat16
from vidgen_lab.video.tensors import to_model_range

VAE = AutoencoderKLCogVideoX | AutoencoderKL


def as_input(vae: VAE, video: Tensor) -> Tensor:
    """[B, C, T, H, W] as the VAE takes it: a per-frame VAE gets [B*T, C, H, W]."""
    return video.transpose(1, 2).flatten(0, 1) if isinstance(vae, AutoencoderKL) else video


def as_video(vae: VAE, output: Tensor, clips: int) -> Tensor:
    """The VAE's output as [B, C, T, H, W]."""
    if isinstance(vae, AutoencoderKL):
        return output.unflatten(0, (clips, -1)).transpose(1, 2)
    return output


def see_one_frame(part: nn.Module) -> None:
    """Give the causal convolutions of `part` a tap on the newest frame alone: a model of single
    frames, which `fast_layers` computes as such."""
    for module in part.modules():
        if isinstance(module, cogvideox_vae.CogVideoXCausalConv3d):
            with torch.no_grad():
                module.conv.weight[:, :, -1] = module.conv.weight.sum(2)
                module.conv.weight[:, :, :-1] = 0


@contextmanager
def fast_layers() -> Iterator[None]:
    """Compute the video VAE's numbers in less time.

    The decoder's spatial norm convolves before it enlarges: its two 1x1x1 convolutions act on the
    nearest-neighbour enlargement of the latents, where both orders give the same numbers. A causal
    3-D convolution that looks at no earlier frame is a 2-D one: faster on a CPU.
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
        *earlier, newest = self.conv.weight.unbind(2)
        if not earlier or any(tap.any() for tap in earlier):
            return plain(self, inputs, conv_cache)
        flat = inputs.transpose(1, 2).flatten(0, 1)  # [B*T, C, H, W]
        flat = F.conv2d(flat, newest, self.conv.bias, padding=newest.shape[-1] // 2)
        return flat.unflatten(0, (len(inputs), -1)).transpose(1, 2), None

    with (
        patch.object(cogvideox_vae.CogVideoXSpatialNorm3D, "forward", norm),
        patch.object(cogvideox_vae.CogVideoXCausalConv3d, "forward", convolve),
    ):
        yield


@contextmanager
def fastest(device: torch.device) -> Iterator[None]:
    """`fast_layers` in bfloat16, where the device has it: near enough, and as fast as it goes."""
    fast = torch.autocast(device.type, torch.bfloat16, enabled=has_fast_bfloat16(device))
    with fast, fast_layers():
        yield


@torch.no_grad()
def encode_clips(vae: VAE, pixels: Tensor) -> Tensor:
    """Posterior means [N, C, T, h, w] in float16 of uint8 clips [N, 3, T, H, W]."""
    with fastest(vae.device):
        video = as_input(vae, to_model_range(pixels).to(vae.device))
        return as_video(vae, vae.encode(video).latent_dist.mode(), len(pixels)).half().cpu()


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
