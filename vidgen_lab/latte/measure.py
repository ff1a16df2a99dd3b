"""What a model costs, measured: FLOPs (a multiply-add is 2) and the bytes that autograd keeps."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


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
    """Bytes that autograd keeps for the backward pass of what `function` returns, a tensor of any
    shape, without the parameters of `model`."""
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
