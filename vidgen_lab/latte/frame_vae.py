"""The VAE that production models use, from scratch: Stable Diffusion's, frame by frame.

Same layers and same weight names as diffusers' `AutoencoderKL`, so weights pass both ways without a
map and outputs are equal; what is added is the time axis: clips [B, 3, T, H, W] go through as a
stack of pictures, in chunks.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .checks import require, require_folder, require_rank
from .vae import LOGVAR_RANGE, Posterior, reparameterize

if TYPE_CHECKING:
    from diffusers import AutoencoderKL


@dataclass(frozen=True)
class FrameVAEConfig:
    """Names and defaults of diffusers' AutoencoderKL. channels[i] is the width at 1/2^i of the full
    size.
    """

    channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    latent_channels: int = 4
    norm_groups: int = 32
    mid_attention: bool = True
    scaling_factor: float = 0.18215
    sample_size: int = 256

    @property
    def spatial_factor(self) -> int:
        return 2 ** (len(self.channels) - 1)


def _norm(groups: int, channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(groups, channels, eps=1e-6)


class ResnetBlock(nn.Module):
    """Two convolutions beside a shortcut. [M, in, H, W] -> [M, out, H, W]."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.norm1 = _norm(groups, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = _norm(groups, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))  # [M, out, H, W]
        h = self.conv2(F.silu(self.norm2(h)))  # [M, out, H, W]
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class PixelAttention(nn.Module):
    """Every latent pixel looks at every other of its frame, one head. [M, C, H, W] -> same."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.group_norm = _norm(groups, channels)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.ModuleList(
            [nn.Linear(channels, channels)]
        )  # a list because diffusers has one

    def forward(self, x: Tensor) -> Tensor:
        h = self.group_norm(x).flatten(2).transpose(1, 2)[:, None]  # [M, 1, H*W, C]
        h = F.scaled_dot_product_attention(self.to_q(h), self.to_k(h), self.to_v(h))
        h = self.to_out[0](h[:, 0]).transpose(1, 2)  # [M, C, H*W]
        return x + h.reshape(x.shape)


class Resample(nn.Module):
    """Half or twice the size, then or before a convolution."""

    def __init__(self, channels: int, down: bool) -> None:
        super().__init__()
        self.down = down
        self.conv = nn.Conv2d(
            channels, channels, 3, stride=2 if down else 1, padding=0 if down else 1
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.down:
            return self.conv(
                F.pad(x, (0, 1, 0, 1))
            )  # right and bottom only, as Stable Diffusion was trained
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class MidBlock(nn.Module):
    def __init__(self, channels: int, groups: int, attention: bool) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([PixelAttention(channels, groups)] if attention else [])
        self.resnets = nn.ModuleList(ResnetBlock(channels, channels, groups) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.resnets[0](x)  # [M, C, h, w]
        for attention in self.attentions:
            x = attention(x)  # [M, C, h, w]
        return self.resnets[1](x)  # [M, C, h, w]


class Level(nn.Module):
    """The layers at one resolution, and the way to the next. `upsamplers` or `downsamplers` holds
    at most one.
    """

    def __init__(
        self, inputs: int, outputs: int, layers: int, groups: int, resample: str | None
    ) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(
            ResnetBlock(inputs if i == 0 else outputs, outputs, groups) for i in range(layers)
        )
        self.downsamplers = nn.ModuleList([Resample(outputs, True)] if resample == "down" else [])
        self.upsamplers = nn.ModuleList([Resample(outputs, False)] if resample == "up" else [])

    def forward(self, x: Tensor) -> Tensor:
        for layer in (*self.resnets, *self.downsamplers, *self.upsamplers):
            x = layer(x)
        return x


class FrameEncoder(nn.Module):
    """[M, 3, H, W] -> [M, 2*latent_channels, H/f, W/f]."""

    def __init__(self, c: FrameVAEConfig) -> None:
        super().__init__()
        widths, last = c.channels, len(c.channels) - 1
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            Level(
                widths[max(i - 1, 0)],
                w,
                c.layers_per_block,
                c.norm_groups,
                "down" if i < last else None,
            )
            for i, w in enumerate(widths)
        )
        self.mid_block = MidBlock(widths[-1], c.norm_groups, c.mid_attention)
        self.conv_norm_out = _norm(c.norm_groups, widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], 2 * c.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)  # [M, c0, H, W]
        for level in self.down_blocks:
            x = level(x)  # [M, c_i, H/2^i, W/2^i]
        x = self.mid_block(x)  # [M, c_last, H/f, W/f]
        return self.conv_out(F.silu(self.conv_norm_out(x)))  # [M, 2C, H/f, W/f]


class FrameDecoder(nn.Module):
    """[M, latent_channels, h, w] -> [M, 3, h*f, w*f]."""

    def __init__(self, c: FrameVAEConfig) -> None:
        super().__init__()
        widths, last = c.channels[::-1], len(c.channels) - 1
        self.conv_in = nn.Conv2d(c.latent_channels, widths[0], 3, padding=1)
        self.up_blocks = nn.ModuleList(
            Level(
                widths[max(i - 1, 0)],
                w,
                c.layers_per_block + 1,
                c.norm_groups,
                "up" if i < last else None,
            )
            for i, w in enumerate(widths)
        )
        self.mid_block = MidBlock(widths[0], c.norm_groups, c.mid_attention)
        self.conv_norm_out = _norm(c.norm_groups, widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.mid_block(self.conv_in(z))  # [M, c_last, h, w]
        for level in self.up_blocks:
            x = level(x)  # [M, c_i, ..]
        return self.conv_out(F.silu(self.conv_norm_out(x)))  # [M, 3, H, W]


class FrameVAE(nn.Module):
    """A video VAE that treats a clip as pictures. `encode`, `decode`, `moments` as in `VideoVAE`.

    chunk: frames that go through at once; memory grows with it, the result does not change.
    """

    def __init__(self, config: FrameVAEConfig | None = None, chunk: int = 14) -> None:
        super().__init__()
        self.config, self.chunk = config or FrameVAEConfig(), chunk
        c = 2 * self.config.latent_channels
        self.encoder = FrameEncoder(self.config)
        self.decoder = FrameDecoder(self.config)
        self.quant_conv = nn.Conv2d(c, c, 1)
        self.post_quant_conv = nn.Conv2d(c // 2, c // 2, 1)

    @property
    def spatial_factor(self) -> int:
        return self.config.spatial_factor

    def _framewise(self, function: Any, x: Tensor, what: str) -> Tensor:
        require_rank(x, "B C T H W", what)
        frames = x.transpose(1, 2).flatten(0, 1)  # [B*T, C, H, W]
        parts = [function(part) for part in frames.split(self.chunk)]
        return torch.cat(parts).unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, unscaled: 2 x [B, C, T, H/f, W/f]."""
        f, (height, width) = self.spatial_factor, x.shape[-2:]
        require(
            height % f == 0 and width % f == 0,
            "height and width of the clip",
            f"multiples of {f}",
            f"{height}x{width}",
        )
        both = self._framewise(lambda v: self.quant_conv(self.encoder(v)), x, "clip")
        mu, logvar = both.chunk(2, dim=1)
        return mu, logvar.clamp(*LOGVAR_RANGE)

    def encode(self, x: Tensor) -> Tensor:
        """Clip in -1 .. 1 -> scaled latents, deterministic."""
        return self.moments(x)[0] * self.config.scaling_factor

    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents -> clip in about -1 .. 1."""
        z = latents / self.config.scaling_factor
        return self._framewise(lambda v: self.decoder(self.post_quant_conv(v)), z, "latents")

    def forward(
        self, x: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Posterior]:
        """Training pass: reconstruction through a sampled latent, and the posterior."""
        mu, logvar = self.moments(x)
        z = reparameterize(mu, logvar, generator)
        return self.decode(z * self.config.scaling_factor), Posterior(z, mu, logvar)

    # ----- in and out
    @classmethod
    def from_diffusers(cls, model: AutoencoderKL | str | Path, chunk: int = 14) -> FrameVAE:
        """Take over an AutoencoderKL: an object, its folder, or a pipeline's folder with `vae/`
        inside.
        """
        if isinstance(model, (str, Path)):
            from diffusers import AutoencoderKL

            folder = require_folder(model, "folder of a VAE")
            folder = folder / "vae" if (folder / "vae").is_dir() else folder
            model = AutoencoderKL.from_pretrained(
                folder, use_safetensors=True, local_files_only=True
            )
        c = model.config
        for key, expected in (("act_fn", "silu"), ("in_channels", 3), ("out_channels", 3),
                              ("use_quant_conv", True), ("use_post_quant_conv", True),
                              ("shift_factor", None)):  # fmt: skip
            require(c[key] == expected, f"AutoencoderKL setting {key}", expected, c[key])
        vae = cls(
            FrameVAEConfig(
                channels=tuple(c["block_out_channels"]),
                layers_per_block=c["layers_per_block"],
                latent_channels=c["latent_channels"],
                norm_groups=c["norm_num_groups"],
                mid_attention=c["mid_block_add_attention"],
                scaling_factor=c["scaling_factor"],
                sample_size=c["sample_size"],
            ),
            chunk,
        )
        vae.load_state_dict(model.state_dict(), strict=True)
        if model.dtype != torch.float32:
            vae = vae.to(model.dtype)
        return vae.train(model.training)

    def to_diffusers(self) -> AutoencoderKL:
        """An AutoencoderKL with these weights; its save_pretrained writes the usual folder."""
        from diffusers import AutoencoderKL

        c, levels = asdict(self.config), len(self.config.channels)
        model = AutoencoderKL(
            block_out_channels=c["channels"],
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            layers_per_block=c["layers_per_block"],
            latent_channels=c["latent_channels"],
            norm_num_groups=c["norm_groups"],
            mid_block_add_attention=c["mid_attention"],
            scaling_factor=c["scaling_factor"],
            sample_size=c["sample_size"],
        )
        model.load_state_dict(self.state_dict(), strict=True)
        dtype = next(self.parameters()).dtype
        if dtype != torch.float32:
            model = model.to(dtype)
        return model.train(self.training)
