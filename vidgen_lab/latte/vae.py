"""A small video VAE: the chapter's encoder, the decoder it needs, PCA as the yardstick, and
`FrameVAE`, the production form of the same idea.

Kernels are (1, k, k): they look inside a frame only, so each frame is compressed by itself, and the
number of frames does not change.

Clips are [B, 3, T, H, W] in -1 .. 1. What the pipeline and the cache call is encode(x) -> scaled
latents, decode(latents) -> clip, and moments(x) -> (mu, logvar).
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidgen_lab.latte.checks import require, require_folder, require_multiple, require_rank
from vidgen_lab.latte.tokens import patchify, unpatchify

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

LOGVAR_RANGE = (-30.0, 20.0)  # as in latent diffusion: exp() stays finite


class Posterior(NamedTuple):
    """What the encoder says about a clip: a sample z, the mean and log-variance behind it."""

    z: Tensor
    mu: Tensor
    logvar: Tensor


def reparameterize(mu: Tensor, logvar: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """z = mu + sigma * eps: chance comes in from outside, so gradients reach mu and sigma."""
    eps = torch.randn(mu.shape, generator=generator, dtype=mu.dtype, device=mu.device)
    return mu + (0.5 * logvar).exp() * eps


class FrameGroupNorm(nn.GroupNorm):
    """Group norm over one frame's pixels.

    The plain layer would average over time as well, and every frame would feel all others: the same
    frames would get other latents in a longer clip.
    """

    def forward(self, x: Tensor) -> Tensor:
        frames = x.transpose(1, 2).flatten(0, 1)  # [B, C, T, H, W] -> [B*T, C, H, W]
        y = super().forward(frames)  # [B*T, C, H, W]
        return y.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)  # [B, C, T, H, W]


def same(inputs: int, outputs: int) -> nn.Conv3d:
    """Keeps height and width."""
    return nn.Conv3d(inputs, outputs, (1, 3, 3), padding=(0, 1, 1))


def halve(inputs: int, outputs: int) -> nn.Conv3d:
    """Halves height and width. A kernel of 4 at stride 2 weighs all pixels alike; 3 would not."""
    return nn.Conv3d(inputs, outputs, (1, 4, 4), stride=(1, 2, 2), padding=(0, 1, 1))


def double(inputs: int, outputs: int) -> nn.Module:
    """Doubles height and width. (A transposed convolution would leave a checkerboard.)"""
    return nn.Sequential(nn.Upsample(scale_factor=(1, 2, 2)), same(inputs, outputs))


class VideoVAEEncoder(nn.Module):
    """Clip to latents, 8 times smaller a side (book listing 3.L01, normalised per frame).

    [B, in_channels, T, H, W] -> z, mu, logvar, each [B, latent_channels, T, H/8, W/8].
    """

    def __init__(
        self, in_channels: int = 3, latent_channels: int = 4, base_channels: int = 128
    ) -> None:
        super().__init__()
        c = base_channels
        self.conv1 = same(in_channels, c)
        self.conv2 = halve(c, 2 * c)
        self.conv3 = halve(2 * c, 4 * c)
        self.conv4 = halve(4 * c, 4 * c)
        self.norm = FrameGroupNorm(32, 4 * c)
        self.conv_mu = same(4 * c, latent_channels)
        self.conv_logvar = same(4 * c, latent_channels)

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the latents."""
        require_rank(x, "B C T H W", "clip")
        require_multiple(x.shape[-2:], 8, "clip")
        h = F.silu(self.conv1(x))  # [B, c, T, H, W]
        h = F.silu(self.conv2(h))  # [B, 2c, T, H/2, W/2]
        h = F.silu(self.conv3(h))  # [B, 4c, T, H/4, W/4]
        h = self.norm(F.silu(self.conv4(h)))  # [B, 4c, T, H/8, W/8]
        return self.conv_mu(h), self.conv_logvar(h).clamp(*LOGVAR_RANGE)

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Posterior:
        mu, logvar = self.moments(x)  # 2 x [B, C, T, H/8, W/8]
        return Posterior(reparameterize(mu, logvar, generator), mu, logvar)

    def encode_to_latent(self, x: Tensor) -> Tensor:
        """The mean alone: the same clip always gets the same latents.

        For preparing training data and for starting from an image. Text-to-video never comes here:
        there is nothing to encode, only something to decode.
        """
        return self.moments(x)[0]


class VideoVAEDecoder(nn.Module):
    """Latents back to a clip, the encoder in reverse: [B, C, T, h, w] -> [B, 3, T, 8h, 8w]."""

    def __init__(
        self, out_channels: int = 3, latent_channels: int = 4, base_channels: int = 128
    ) -> None:
        super().__init__()
        c = base_channels
        self.conv_in = same(latent_channels, 4 * c)
        self.norm = FrameGroupNorm(32, 4 * c)
        self.up1 = double(4 * c, 4 * c)
        self.up2 = double(4 * c, 2 * c)
        self.up3 = double(2 * c, c)
        self.conv_out = same(c, out_channels)

    def forward(self, z: Tensor) -> Tensor:
        h = F.silu(self.norm(self.conv_in(z)))  # [B, 4c, T, h, w]
        h = F.silu(self.up1(h))  # [B, 4c, T, 2h, 2w]
        h = F.silu(self.up2(h))  # [B, 2c, T, 4h, 4w]
        h = F.silu(self.up3(h))  # [B, c, T, 8h, 8w]
        return self.conv_out(h)  # [B, 3, T, 8h, 8w]


def kl_divergence(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, sigma^2) || N(0, 1)) in nats, mean over all latent values."""
    return 0.5 * (mu.square() + logvar.exp() - 1 - logvar).mean()


class FrameVAE(nn.Module):
    """A picture VAE as a video VAE: every frame by itself."""

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

            folder = require_folder(model, "folder of a VAE", "vae")
            model = AutoencoderKL.from_pretrained(
                folder, use_safetensors=True, local_files_only=True
            )
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
        """Clip in -1 .. 1 -> scaled latents, deterministic."""
        return self.moments(x)[0] * self.config.scaling_factor

    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents -> clip in about -1 .. 1."""
        z = latents / self.config.scaling_factor
        return self._framewise(lambda part: self.vae.decode(part).sample, z, "latents")


class PatchPCA:
    """Principal components of patches: the best that a *linear* encoder of patches can do.

    With patch 8 and 4 components it compresses exactly as much as the VAE (3*8*8 numbers to 4), so
    the two are comparable. (t-SNE draws maps but cannot encode a new picture, nor decode.)
    """

    def __init__(self, patch: int = 8, components: int = 4) -> None:
        self.patch, self.components = patch, components
        self.mean: Tensor | None = None
        self.basis: Tensor | None = None  # [p*p*3, components]

    def fit(self, x: Tensor) -> "PatchPCA":
        """Learn mean and basis from clips [B, 3, T, H, W]."""
        rows = patchify(x, self.patch).flatten(0, 2).double()  # [patches, p*p*3]
        self.mean = rows.mean(0)
        _, vectors = torch.linalg.eigh((rows - self.mean).T @ (rows - self.mean))  # ascending
        self.basis = vectors[:, -self.components :].flip(1)
        return self

    def encode(self, x: Tensor) -> Tensor:
        """[B, 3, T, H, W] -> [B, components, T, H/p, W/p]."""
        require(self.basis is not None, "PatchPCA", "fit(clips) first", "no basis")
        rows = patchify(x, self.patch).double()  # [B, T, N, p*p*3]
        codes = ((rows - self.mean) @ self.basis).to(x.dtype)  # [B, T, N, components]
        height = x.shape[-2] // self.patch
        return codes.unflatten(2, (height, -1)).permute(0, 4, 1, 2, 3)

    def decode(self, z: Tensor) -> Tensor:
        """[B, components, T, h, w] -> [B, 3, T, h*p, w*p]."""
        rows, cols = z.shape[-2:]
        codes = z.permute(0, 2, 3, 4, 1).flatten(2, 3).double()  # [B, T, N, components]
        return unpatchify((codes @ self.basis.T + self.mean).to(z.dtype), self.patch, rows, cols)
