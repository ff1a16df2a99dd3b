"""Attention over a sequence that is cut among processes, by trading tokens for heads (Ulysses).

A clip at full size has tens of thousands of tokens, and activations grow with them. So each process
keeps a stretch of the tokens; everything but attention works on it as it is. Attention needs all:
the processes swap, each then has all tokens of some heads, and swap back. That is two exchanges of
everything, among as many processes as heads at most.

It gives what one process gives, forwards and backwards. Parameters are the same everywhere: add
their gradients up (`dist.all_reduce`), as each process has seen its own tokens only.
(DeepSpeed-Ulysses, arXiv 2309.14509.)
"""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.nn.functional import all_to_all


def cut_sequence(x: Tensor) -> Tensor:
    """This process's stretch [B, N/P, ...] of the tokens [B, N, ...]. ValueError if they cannot be
    cut evenly."""
    world = dist.get_world_size()
    if x.shape[1] % world:
        raise ValueError(f"{x.shape[1]} tokens cannot be cut among {world} processes: pad them")
    return x.chunk(world, 1)[dist.get_rank()].contiguous()


def whole_sequence(x: Tensor) -> Tensor:
    """All stretches in order; its gradient goes back to where each came from."""
    return _Whole.apply(x)


def ulysses_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V for stretches [B, H, N/P, d] of all heads; returns the same."""
    heads, world = query.shape[1], dist.get_world_size()
    if heads % world:
        raise ValueError(f"{heads} heads cannot be shared by {world} processes")
    some = [_swapped(x, 1, 2) for x in (query, key, value)]  # [B, H/P, N, d]
    return _swapped(F.scaled_dot_product_attention(*some), 2, 1)  # [B, H, N/P, d]


def _swapped(x: Tensor, given: int, taken: int) -> Tensor:
    """Cut `given` into parts for the processes, and join what comes along `taken`."""
    parts = [part.contiguous() for part in x.chunk(dist.get_world_size(), given)]
    return torch.cat(all_to_all([torch.empty_like(part) for part in parts], parts), taken)


class _Whole(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # every process has used the whole: what each says about this stretch adds up
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        return cut_sequence(gradient)
