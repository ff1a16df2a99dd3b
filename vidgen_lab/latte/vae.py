"""A VAE for video that compresses every frame by itself; the number of frames does not change.

Clips are [B, 3, T, H, W] in -1 .. 1. What the pipeline and the cache call is encode(x) -> scaled
latents, decode(latents) -> clip, and moments(x) -> (mu, logvar).
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vidgen_lab.latte.checks import load_part, require, require_multiple, require_rank

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

LOGVAR_RANGE = (-30.0, 20.0)  # as in latent diffusion: exp() stays finite


class FrameVAE(nn.Module):
    """A picture VAE as a video VAE: every frame by itself; f below is `spatial_factor`."""

    chunk = 14  # frames that go through at once: memory grows with it, the result does not change

    def __init__(self, vae: "AutoencoderKL") -> None:
        super().__init__()
        require(vae.config.shift_factor is None, "shift_factor", None, vae.config.shift_factor)
        self.vae, self.config = vae, vae.config
        self.spatial_factor = 2 ** (len(vae.config.block_out_channels) - 1)

    @classmethod
    def from_diffusers(cls, model: "AutoencoderKL | str | Path") -> "FrameVAE":
        """An AutoencoderKL: the object, its folder, or a pipeline's folder with `vae/` inside."""
        if isinstance(model, str | Path):
            from diffusers import AutoencoderKL

            model = load_part(AutoencoderKL, model, "vae", "a VAE for pictures")
        return cls(model)

    def _framewise(self, function: Callable[[Tensor], Tensor], x: Tensor, what: str) -> Tensor:
        require_rank(x, "B C T H W", what)
        frames = x.transpose(1, 2).flatten(0, 1).to(self.vae.dtype)  # [B*T, C, H, W]
        parts = [function(part) for part in frames.split(self.chunk)]
        return torch.cat(parts).unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, unscaled: 2 x [B, C, T, H/f, W/f]."""
        require_multiple(x.shape[-2:], self.spatial_factor, "clip")
        both = self._framewise(lambda part: self.vae.encode(part).latent_dist.parameters, x, "clip")
        mu, logvar = both.chunk(2, dim=1)
        return mu, logvar.clamp(*LOGVAR_RANGE)

    def encode(self, x: Tensor) -> Tensor:
        """Clip [B, 3, T, H, W] in -1 .. 1 -> scaled latents [B, C, T, H/f, W/f]: the posterior's
        mean, so the same every time. LatteInputError unless H and W are multiples of f."""
        return self.moments(x)[0] * self.config.scaling_factor

    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents [B, C, T, h, w] -> clip [B, 3, T, h*f, w*f] in about -1 .. 1."""
        z = latents / self.config.scaling_factor
        return self._framewise(lambda part: self.vae.decode(part).sample, z, "latents")
