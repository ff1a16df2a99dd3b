"""Attention over a sequence that is cut among processes: Ulysses and ring.

A clip at full size has tens of thousands of tokens, and activations grow with them. So each process
keeps a stretch of the tokens; everything but attention works on it as it is. Attention needs all:

    Ulysses   trades tokens for heads: all processes swap, each then has all tokens of some heads.
              Two exchanges of everything; as many processes as heads at most.
    ring      keeps the queries and passes keys and values around; the softmax is put together from
              what each neighbour contributes. Any number of processes, as many passes.

Both give what one process gives, forwards and backwards. Parameters are the same everywhere: add
their gradients up (`dist.all_reduce`), as each process has seen its own tokens only.
(DeepSpeed-Ulysses, arXiv 2309.14509; ring attention, arXiv 2310.01889.)
"""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.tensor import DTensor, Partial, Shard


def cut_sequence(x: Tensor, dim: int = 1) -> Tensor:
    """This process's stretch of the tokens, [.., N, ..] -> [.., N/P, ..] along `dim`, of P
    processes. ValueError if they cannot be cut evenly."""
    world = dist.get_world_size()
    if x.shape[dim] % world:
        raise ValueError(f"{x.shape[dim]} tokens cannot be cut among {world} processes: pad them")
    return x.chunk(world, dim)[dist.get_rank()].contiguous()


def whole_sequence(x: Tensor, dim: int = 1) -> Tensor:
    """All stretches in order, [.., N/P, ..] -> [.., N, ..]. Every process uses the whole, and what
    each says about a stretch adds up where that came from."""
    return _cut(x, dim).full_tensor(grad_placements=[Partial()])


def ulysses_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V for stretches [B, H, N/P, d] of all heads; returns the same.
    ValueError unless P divides H. (DeepSpeed-Ulysses, arXiv 2309.14509)"""
    heads, world = query.shape[1], dist.get_world_size()
    if heads % world:
        raise ValueError(f"{heads} heads cannot be shared by {world} processes: take the ring")
    some = [_recut(x, 2, 1) for x in (query, key, value)]  # [B, H/P, N, d]
    return _recut(F.scaled_dot_product_attention(*some), 1, 2)  # [B, H, N/P, d]


def ring_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V for stretches [B, H, N/P, d] of all heads; returns the same. (Liu
    et al. 2023, arXiv 2310.01889)"""
    return _Ring.apply(query, key, value)


def _recut(x: Tensor, dim: int, other: int) -> Tensor:
    """What is cut among the processes along `dim`, cut along `other`."""
    return _cut(x, dim).redistribute(placements=[Shard(other)]).to_local()


def _cut(x: Tensor, dim: int) -> DTensor:
    mesh = dist.init_device_mesh(x.device.type, (dist.get_world_size(),))
    return DTensor.from_local(x, mesh, [Shard(dim)])


class _Ring(torch.autograd.Function):
    """Forward keeps the log of the softmax's denominator, from which backward makes each block of
    probabilities anew: nothing of size N x N is kept."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        scale, output, log_sum = query.shape[-1] ** -0.5, None, None
        block = torch.stack([key, value])
        for turn in range(dist.get_world_size()):
            scores = scale * query @ block[0].transpose(-1, -2)  # [B, H, n, n]
            own_sum = scores.logsumexp(-1, keepdim=True)  # [B, H, n, 1]
            own = (scores - own_sum).exp() @ block[1]  # [B, H, n, d]
            if output is None:
                output, log_sum = own, own_sum
            else:  # two parts of one softmax, weighed by their denominators
                both = torch.logaddexp(log_sum, own_sum)
                output = (log_sum - both).exp() * output + (own_sum - both).exp() * own
                log_sum = both
            if turn < dist.get_world_size() - 1:
                block = _pass_on(block)
        ctx.save_for_backward(query, key, value, output, log_sum)
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value, output, log_sum = ctx.saved_tensors
        scale, to_query = query.shape[-1] ** -0.5, torch.zeros_like(query)
        mean = (gradient * output).sum(-1, keepdim=True)  # [B, H, n, 1]
        # keys and values travel with what is learnt about them, until all are at home again
        block = torch.stack([key, value, torch.zeros_like(key), torch.zeros_like(value)])
        for _ in range(dist.get_world_size()):
            scores = scale * query @ block[0].transpose(-1, -2)
            p = (scores - log_sum).exp()  # [B, H, n, n]
            to_scores = p * (gradient @ block[1].transpose(-1, -2) - mean)
            to_query = to_query + scale * to_scores @ block[0]
            block[2] += scale * to_scores.transpose(-1, -2) @ query
            block[3] += p.transpose(-1, -2) @ gradient
            block = _pass_on(block)
        return to_query, block[2], block[3]


def _pass_on(block: Tensor) -> Tensor:
    """Give a block to the next process and take the one before's."""
    rank, world = dist.get_rank(), dist.get_world_size()
    if world == 1:
        return block
    came = torch.empty_like(block)
    works = [dist.P2POp(dist.isend, block.contiguous(), (rank + 1) % world)]
    works += [dist.P2POp(dist.irecv, came, (rank - 1) % world)]
    for work in dist.batch_isend_irecv(works):
        work.wait()
    return came
