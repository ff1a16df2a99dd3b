"""What a model costs and what it looks at: formulas beside measurements.

FLOPs: 1 multiply-add = 2. Bytes: as the autograd graph keeps them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vidgen_lab.latte.attention import SelfAttention
from vidgen_lab.latte.config import LatteConfig


@dataclass(frozen=True)
class AttentionCost:
    """Of a layer: score entries per head, FLOPs of its two products, bytes of stored scores."""

    score_entries: int
    flops: int
    score_bytes: int


def attention_cost(
    num_frames: int,
    patches: int,
    dim: int,
    heads: int,
    text_tokens: int = 120,
    bytes_per_value: int = 4,
) -> dict[str, AttentionCost]:
    """Cost of every kind of attention over `num_frames` x `patches` tokens.

    spatial T N^2, temporal N T^2, alternating their sum, full (T N)^2, cross T N L. Full over
    alternating is N T / (N + T), which never exceeds T: 15.06 for 16 frames of 256 patches.
    """
    t, n = num_frames, patches
    entries = {
        "spatial": t * n * n,
        "temporal": n * t * t,
        "alternating": t * n * n + n * t * t,
        "cross": t * n * text_tokens,
        "full": (t * n) ** 2,
    }
    # Q K^T and A V: each 2 * d FLOPs per score and head, heads * d = dim
    return {
        kind: AttentionCost(e, 4 * e * dim, e * heads * bytes_per_value)
        for kind, e in entries.items()
    }


def forward_flops(config: LatteConfig, height: int, width: int, text_tokens: int = 0) -> int:
    """FLOPs of one clip's forward pass in matrix products; height and width are the latents'."""
    h, t = config.hidden_size, config.num_frames
    n = (height // config.patch_size) * (width // config.patch_size)
    tokens, patch = t * n, config.patch_size**2
    macs = tokens * patch * config.in_channels * h  # patch embedding
    macs += config.depth * tokens * 12 * h * h  # attention projections 4, MLP 8
    macs += config.pairs * (tokens * n + tokens * t) * 2 * h  # attention itself
    macs += tokens * h * patch * config.out_channels  # out
    macs += 256 * h + h * h  # timestep
    macs += 6 * h * h if config.modulation == "single" else config.depth * 6 * h * h + 2 * h * h
    if config.condition == "text":
        macs += text_tokens * (config.text_dim + h) * h  # projection
        per_pair = tokens * 2 * h * h + text_tokens * 2 * h * h + 2 * tokens * text_tokens * h
        macs += config.pairs * per_pair
    return 2 * macs


def count_flops(function: Callable[[], object]) -> int:
    """FLOPs that PyTorch counts while `function` runs, in matrix products, convolutions and
    attention, forward and backward."""
    from torch.utils.flop_counter import (
        FlopCounterMode,
        sdpa_backward_flop_count,
        sdpa_flop_count,
    )

    aten = torch.ops.aten  # the counter knows the fused kernels of GPUs only
    cpu_kernels = {
        aten._scaled_dot_product_flash_attention_for_cpu: (
            lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v)
        ),
        aten._scaled_dot_product_flash_attention_for_cpu_backward: (
            lambda grad, q, k, v, *_, **__: sdpa_backward_flop_count(grad, q, k, v)
        ),
    }
    with FlopCounterMode(display=False, custom_mapping=cpu_kernels) as counter:
        function()
    return counter.get_total_flops()


def saved_bytes(function: Callable[[], Tensor], model: nn.Module | None = None) -> int:
    """Bytes that autograd keeps for the backward pass, without the parameters of `model`."""
    ignore = {p.untyped_storage().data_ptr() for p in model.parameters()} if model else set()
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in ignore:
            kept[storage.data_ptr()] = storage  # if freed early, it could lend its address
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        function()
    return sum(storage.nbytes() for storage in kept.values())


def attention_memory(
    num_frames: int, patches: int, dim: int, heads: int, along: str, implementation: str
) -> int:
    """Measured bytes that one self-attention layer keeps for backward, at batch 1 in float32."""
    layer = SelfAttention(dim, heads, along, implementation=implementation)
    x = torch.randn(1, num_frames, patches, dim, requires_grad=True)
    return saved_bytes(lambda: layer(x), layer)
