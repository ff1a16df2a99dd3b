"""The transformer blocks of Latte. A block is three statements: look, (read,) think.

x has the shape [B, T, N, D] everywhere: T frames of N patches. Frames and patches are read off the
input, so any size runs; conditions are vectors per sample, [B, 1, 1, D], so they are computed once
per sample and broadcast.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidgen_lab.latte.attention import CrossAttention, SelfAttention
from vidgen_lab.latte.conditioning import MODULATIONS, modulate, vectors
from vidgen_lab.latte.config import LatteConfig


def token_norm(dim: int) -> nn.LayerNorm:
    """The layer norm of DiT and Latte: no weights, for scale and shift come from the condition."""
    return nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)


class Mlp(nn.Module):
    """Two layers with a GELU (tanh form) between them, four times as wide inside."""

    def __init__(self, dim: int, ratio: int = 4) -> None:
        super().__init__()
        self.up = nn.Linear(dim, ratio * dim)
        self.down = nn.Linear(ratio * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [..., D] one by one -> [..., D]."""
        return self.down(F.gelu(self.up(x), approximate="tanh"))  # [..., D] -> 4D -> [..., D]


class SpatialAttentionBlock(nn.Module):
    """Patches of a frame look at one another, each reads the text, if any, and thinks for itself.

    cond is [B, D] with modulation "block" (AdaLN-Zero) and [B, 6D] with "single".
    """

    along = "space"

    def __init__(self, config: LatteConfig) -> None:
        super().__init__()
        c, dim, space = config, config.hidden_size, self.along == "space"
        self.norm = token_norm(dim)
        self.modulation = MODULATIONS[c.modulation](dim)
        causal = c.causal and not space
        self.attention = SelfAttention(dim, c.num_heads, self.along, c.qkv_bias, causal)
        self.cross = None
        if c.condition == "text" and space:
            self.cross = CrossAttention(dim, dim, c.num_heads, c.qkv_bias)
        self.mlp = Mlp(dim)

    def forward(
        self, x: Tensor, cond: Tensor, text: Tensor | None = None, text_mask: Tensor | None = None
    ) -> Tensor:
        """One pre-norm block with AdaLN (Peebles and Xie 2023, figure 3) -> [B, T, N, D].

        Args:
            x: [B, T, N, D].
            cond: [B, D] or [B, 6D], as the modulation wants it.
            text: [B, L, D], read by the spatial blocks of a model with text only.
            text_mask: [B, L] bool, True where a token of the text is real; None if all are.
        """
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(cond)  # [B, 1, 1, D]
        x = x + gate_a * self.attention(modulate(self.norm(x), shift_a, scale_a))  # [B, T, N, D]
        x = x if self.cross is None else x + self.cross(x, text, text_mask)  # [B, T, N, D]
        x = x + gate_m * self.mlp(modulate(self.norm(x), shift_m, scale_m))  # [B, T, N, D]
        return x


class TemporalAttentionBlock(SpatialAttentionBlock):
    """The same block along time: one place, all its frames (book listing 3.L03); without text."""

    along = "time"


class LatteTransformerBlock(nn.Module):
    """One spatial and one temporal block: what Latte repeats (book listing 3.L08, repaired).

    A "Latte with 28 blocks" has 14 of these.
    """

    def __init__(self, config: LatteConfig) -> None:
        super().__init__()
        self.spatial = SpatialAttentionBlock(config)
        self.temporal = TemporalAttentionBlock(config)

    def forward(
        self,
        x: Tensor,
        cond: Tensor,
        text: Tensor | None = None,
        text_mask: Tensor | None = None,
        frame_positions: Tensor | None = None,
    ) -> Tensor:
        """Space, then time (Ma et al. 2024, "Latte", variant 1) -> [B, T, N, D].

        Args:
            x: [B, T, N, D].
            cond: [B, D] or [B, 6D], as of the blocks.
            text: [B, L, D], for the spatial block.
            text_mask: [B, L] bool, True where a token of the text is real; None if all are.
            frame_positions: [T, D], added to what the temporal block reads; for the model's first
                pair, None for the others and for a single frame.
        """
        x = self.spatial(x, cond, text, text_mask)  # [B, T, N, D]
        if frame_positions is not None:
            x = x + frame_positions[:, None, :]  # [B, T, N, D] + [T, 1, D]
        return self.temporal(x, cond)  # [B, T, N, D]


class FinalLayer(nn.Module):
    """Norm, modulate, and back from tokens to patches: [B, T, N, D] -> [B, T, N, p*p*C_out].

    "block" has a matrix of its own behind a SiLU (DiT); "single" only a table added to the timestep
    embedding, with neither SiLU nor matrix (diffusers), which is why the two cannot be turned into
    one another.
    """

    def __init__(self, config: LatteConfig) -> None:
        super().__init__()
        c, dim = config, config.hidden_size
        self.single = c.modulation == "single"
        if self.single:
            self.table = nn.Parameter(torch.zeros(2, dim))
        else:
            self.linear = nn.Linear(dim, 2 * dim)
        self.norm = token_norm(dim)
        self.proj = nn.Linear(dim, c.patch_size**2 * c.out_channels)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        """Tokens x [B, T, N, D] to patches [B, T, N, p*p*C_out], pixels first, for
        `tokens.unpatchify`; cond is [B, D], the embedding of timestep and class, with either."""
        if self.single:
            both = cond.repeat(1, 2) + self.table.flatten()  # [B, 2D]
        else:
            both = self.linear(F.silu(cond))  # [B, 2D]
        shift, scale = vectors(both, 2)  # 2 x [B, 1, 1, D]
        return self.proj(modulate(self.norm(x), shift, scale))  # [B, T, N, p*p*C]
