"""Attention in a clip: tokens look at one another, and read the words of the prompt.

    A = softmax(Q K^T / sqrt(d)),  output = A V

The fused kernel never stores A; chapter 3 writes it out, and keeps it to see where a token looks.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidgen_lab.latte.checks import require_one_of


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[B, L, heads*d] -> [B, heads, L, d]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """[B, heads, L, d] -> [B, L, heads*d]. Without the transpose heads and tokens are shuffled."""
    return x.transpose(1, 2).flatten(2)


def autocast_once(x: Tensor) -> Tensor:
    """x, of any shape, in the type that autocast would turn it into in front of every matrix, each
    time anew; x itself outside of autocast."""
    kind = x.device.type
    if kind != "meta" and torch.is_autocast_enabled(kind):  # shapes alone are of no precision
        return x.to(torch.get_autocast_dtype(kind))
    return x


class SelfAttention(nn.Module):
    """Tokens of a video look at one another, along one axis of the grid.

    `along="space"`: patches of one frame; `"time"`: one place in all frames; `"both"`: everything
    at once, full three-dimensional attention. The choice is nothing but which axis joins the batch:
    the frames (space), the places (time), or neither.

    Args:
        dim: width D of a token, a multiple of num_heads.
        num_heads: heads, each d = D / num_heads wide.
        along: "space", "time" or "both", see above.
        qkv_bias: biases on query, key and value (the output always has one).
        causal: frame i sees frames 0 .. i only (needs along="time").
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        along: str = "space",
        qkv_bias: bool = True,
        causal: bool = False,
    ) -> None:
        super().__init__()
        require_one_of(
            along, ("time",) if causal else ("space", "time", "both"),
            f"along of {'causal ' * causal}attention",
        )  # fmt: skip
        self.num_heads, self.along, self.causal = num_heads, along, causal
        self.q = nn.Linear(dim, dim, bias=qkv_bias)
        self.k = nn.Linear(dim, dim, bias=qkv_bias)
        self.v = nn.Linear(dim, dim, bias=qkv_bias)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Attend along the axis chosen: [B, T, N, D], T frames of N patches -> [B, T, N, D].

        The products Q K^T and A V cost 2 B T N^2 D multiply-adds along space, 2 B N T^2 D along
        time, 2 B (T N)^2 D along both.
        """
        x = autocast_once(x)
        if self.along == "time":  # the frames of a place side by side in memory, read in one go
            x = x.transpose(1, 2).contiguous()  # [B, N, T, D]
        rows = x.flatten(1, 2) if self.along == "both" else x.flatten(0, 1)  # [seq., length, D]
        q, k, v = (split_heads(of(rows), self.num_heads) for of in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)  # [.., heads, L, d]
        y = self.out(merge_heads(y)).view(x.shape)  # [B, T, N, D] or [B, N, T, D]
        return y.transpose(1, 2).contiguous() if self.along == "time" else y


class CrossAttention(nn.Module):
    """The video asks, the text answers (book listing 3.L07, with the padding masked).

    All frames of a clip share one text, so keys and values are made once per clip and the frames'
    tokens form one long list of queries; nothing is repeated frame by frame. As in PixArt and Latte
    there is no norm in front and no gate behind.

    Args:
        dim: width D of the video tokens, a multiple of num_heads.
        context_dim: width D_text of the text tokens.
        num_heads: heads, each d = D / num_heads wide.
        qkv_bias: biases on query, key and value (the output always has one).
    """

    def __init__(self, dim: int, context_dim: int, num_heads: int, qkv_bias: bool = True) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(dim, dim, bias=qkv_bias)
        self.kv = nn.Linear(context_dim, 2 * dim, bias=qkv_bias)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, text: Tensor, text_mask: Tensor | None = None) -> Tensor:
        """Video tokens x [B, ..., D] read text [B, L, D_text], whose text_mask [B, L] bool is False
        where a token is padding (None: none is). Returns [B, ..., D], to be added to x."""
        q = split_heads(self.q(x.flatten(1, -2)), self.num_heads)  # [B, heads, T*N, d]
        k, v = self.kv(text).chunk(2, dim=-1)  # 2 x [B, L, D]
        k, v = split_heads(k, self.num_heads), split_heads(v, self.num_heads)  # [B, heads, L, d]
        mask = None if text_mask is None else text_mask[:, None, None, :]  # [B, 1, 1, L]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # [B, heads, T*N, d]
        return self.out(merge_heads(y)).view(x.shape)  # [B, ..., D]
