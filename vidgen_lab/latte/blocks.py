"""The transformer blocks of Latte. A block is three statements: look, (read,) think.

x has the shape [B, T, N, D] everywhere: T frames of N patches. Frames and patches are read off the
input, so any size runs; conditions are vectors per sample, [B, 1, 1, D], so they are computed once
per sample and broadcast.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .attention import CrossAttention, SelfAttention
from .checks import require
from .conditioning import MODULATIONS
from .ops import gated_add, gelu_linear, norm_modulate


class Mlp(nn.Module):
    """Two layers with a GELU (tanh form) between them, four times as wide inside."""

    def __init__(self, dim: int, ratio: int = 4) -> None:
        super().__init__()
        self.up = nn.Linear(dim, ratio * dim)
        self.down = nn.Linear(ratio * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return gelu_linear(self.up(x), self.down.weight, self.down.bias)  # [..., 4D] -> [..., D]


class SpatialAttentionBlock(nn.Module):
    """Patches of a frame look at one another; then each reads the text, if there is one; then each
    thinks for itself.

    Args:
        dim: width D of a token; num_heads: attention heads.
        modulation: "block" (AdaLN-Zero: cond is [B, D]) or "single" (cond is [B, 6D]).
        context_dim: width of the text tokens, None for a block without text.
    """

    along = "space"

    def __init__(
        self,
        dim: int,
        num_heads: int,
        modulation: str = "block",
        context_dim: int | None = None,
        qkv_bias: bool = True,
        causal: bool = False,
        implementation: str = "fused",
    ) -> None:
        super().__init__()
        require(modulation in MODULATIONS, "modulation", "'block' or 'single'", repr(modulation))
        self.modulation = MODULATIONS[modulation](dim)
        self.attention = SelfAttention(dim, num_heads, self.along, qkv_bias, causal, implementation)
        self.cross = None
        if context_dim is not None:
            self.cross = CrossAttention(dim, context_dim, num_heads, qkv_bias, implementation)
        self.mlp = Mlp(dim)

    def forward(
        self, x: Tensor, cond: Tensor, text: Tensor | None = None, text_mask: Tensor | None = None
    ) -> Tensor:
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(cond)  # [B, 1, 1, D]
        x = gated_add(x, gate_a, self.attention(norm_modulate(x, shift_a, scale_a)))  # [B, T, N, D]
        x = x if self.cross is None else x + self.cross(x, text, text_mask)  # [B, T, N, D]
        x = gated_add(x, gate_m, self.mlp(norm_modulate(x, shift_m, scale_m)))  # [B, T, N, D]
        return x


class TemporalAttentionBlock(SpatialAttentionBlock):
    """The same block looking along time: one place in the picture, all its frames (book listing
    3.L03).

    causal: a frame sees itself and earlier frames only, for generation frame after frame.
    """

    along = "time"

    def __init__(
        self,
        dim: int,
        num_heads: int,
        modulation: str = "block",
        qkv_bias: bool = True,
        causal: bool = False,
        implementation: str = "fused",
    ) -> None:
        super().__init__(dim, num_heads, modulation, None, qkv_bias, causal, implementation)


class LatteTransformerBlock(nn.Module):
    """One spatial and one temporal block: what Latte repeats (book listing 3.L08, repaired).

    A "Latte with 28 blocks" has 14 of these. In text-to-video Latte the text enters the spatial
    half only.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        modulation: str = "block",
        context_dim: int | None = None,
        qkv_bias: bool = True,
        causal: bool = False,
        implementation: str = "fused",
    ) -> None:
        super().__init__()
        self.spatial = SpatialAttentionBlock(
            dim, num_heads, modulation, context_dim, qkv_bias, implementation=implementation
        )
        self.temporal = TemporalAttentionBlock(
            dim, num_heads, modulation, qkv_bias, causal, implementation
        )

    def forward(
        self,
        x: Tensor,
        cond: Tensor,
        text: Tensor | None = None,
        text_mask: Tensor | None = None,
        frame_positions: Tensor | None = None,
    ) -> Tensor:
        x = self.spatial(x, cond, text, text_mask)  # [B, T, N, D]
        if frame_positions is not None:
            x = x + frame_positions[:, None, :]  # [B, T, N, D] + [T, 1, D]
        return self.temporal(x, cond)  # [B, T, N, D]


class FinalLayer(nn.Module):
    """Norm, modulate, and back from tokens to patches: [B, T, N, D] -> [B, T, N, p*p*C].

    "block" has a matrix of its own behind a SiLU (DiT); "single" only a table added to the timestep
    embedding, with neither SiLU nor matrix (diffusers), which is why the two cannot be turned into
    one another.
    """

    def __init__(self, dim: int, patch_values: int, modulation: str = "block") -> None:
        super().__init__()
        if modulation == "block":
            self.linear = nn.Linear(dim, 2 * dim)
        else:
            self.table = nn.Parameter(torch.zeros(2, dim))
        self.single = modulation == "single"
        self.proj = nn.Linear(dim, patch_values)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        if self.single:
            both = cond.repeat(1, 2) + self.table.flatten()  # [B, 2D]
        else:
            both = self.linear(nn.functional.silu(cond))  # [B, 2D]
        shift, scale = both[:, None, None, :].chunk(2, dim=-1)  # 2 x [B, 1, 1, D]
        return self.proj(norm_modulate(x, shift, scale))  # [B, T, N, p*p*C]
