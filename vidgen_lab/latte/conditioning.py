"""What a denoiser is told: how noisy the clip is, which class it has, what the prompt says.

And two ways of telling it through the layer norms: AdaLN-Zero and adaLN-single.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

FREQUENCIES = 256  # channels of the sinusoid in front of the timestep MLP (DiT, Latte, PixArt)


def timestep_code(t: Tensor, channels: int = FREQUENCIES) -> Tensor:
    """Sinusoid of (possibly fractional) timesteps: [B] -> [B, channels] float32, cosines first."""
    half = channels // 2
    omega = torch.exp(
        -math.log(10000) * torch.arange(half, dtype=torch.float32, device=t.device) / half
    )
    angle = t.float()[:, None] * omega  # [B, channels/2]
    return torch.cat([angle.cos(), angle.sin()], dim=-1)  # [B, channels]


class TimestepEmbedder(nn.Module):
    """Timestep to a vector: sinusoid, then a small network. [B] -> [B, D]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(FREQUENCIES, dim)
        self.linear_2 = nn.Linear(dim, dim)

    def forward(self, t: Tensor) -> Tensor:
        """t: [B] timesteps 0 .. num_timesteps, fractions allowed -> [B, D]."""
        code = timestep_code(t).to(self.linear_1.weight.dtype)  # [B, 256]
        return self.linear_2(nn.functional.silu(self.linear_1(code)))  # [B, D]


class LabelEmbedder(nn.Module):
    """Class number to a vector; the last row means "no class" (classifier-free guidance)."""

    def __init__(self, num_classes: int, dim: int) -> None:
        super().__init__()
        self.table = nn.Embedding(num_classes + 1, dim)

    def forward(self, labels: Tensor) -> Tensor:
        """labels: [B] integers 0 .. num_classes, the last for none -> [B, D]."""
        return self.table(labels)  # [B, D]


class TextProjection(nn.Module):
    """Text features to the width of the video tokens: [B, L, text_dim] -> [B, L, D]."""

    def __init__(self, text_dim: int, dim: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(text_dim, dim)
        self.linear_2 = nn.Linear(dim, dim)

    def forward(self, text: Tensor) -> Tensor:
        """text: [B, L, text_dim] -> [B, L, D]."""
        return self.linear_2(nn.functional.gelu(self.linear_1(text), approximate="tanh"))


# ----- modulation
class Modulation(NamedTuple):
    """Six vectors per sample, each [B, 1, 1, D]: they broadcast over frames and patches."""

    shift_attention: Tensor
    scale_attention: Tensor
    gate_attention: Tensor
    shift_mlp: Tensor
    scale_mlp: Tensor
    gate_mlp: Tensor


def vectors(x: Tensor, count: int) -> tuple[Tensor, ...]:
    """[B, count*D] -> count tensors [B, 1, 1, D]."""
    return x[:, None, None, :].chunk(count, dim=-1)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x [B, T, N, D] scaled and shifted by vectors per sample, [B, 1, 1, D]."""
    return x * (1 + scale) + shift


class AdaLNZero(nn.Module):
    """Shift, scale and gate for both branches, from a matrix of the block's own (DiT, Latte).

    The matrix starts at zero, hence all gates do, hence every block starts as the identity.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, 6 * dim)

    def forward(self, cond: Tensor) -> Modulation:
        """cond: [B, D], timestep and class embedded and added -> six vectors [B, 1, 1, D]."""
        return Modulation(*vectors(self.linear(nn.functional.silu(cond)), 6))  # 6 x [B, 1, 1, D]


class AdaLNSingle(nn.Module):
    """The same six vectors from one matrix of all blocks and a table per block (PixArt, diffusers).

    `cond` is the shared matrix's output [B, 6*D], computed once by the model. A third of a block's
    weights is saved.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(6, dim))

    def forward(self, cond: Tensor) -> Modulation:
        """cond: [B, 6*D], the shared matrix's output -> six vectors [B, 1, 1, D]."""
        return Modulation(*vectors(cond + self.table.flatten(), 6))  # 6 x [B, 1, 1, D]


MODULATIONS = {"block": AdaLNZero, "single": AdaLNSingle}
