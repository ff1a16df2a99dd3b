"""Three small operations that every block uses, written so that the backward pass keeps little.

Each equals its one-line formula (the tests compare outputs and gradients); what differs is what is
remembered between forward and backward. Written plainly, a block keeps the normalised tokens *and*
the modulated ones, and the inside of the MLP *before and after* the GELU. Both of the second kind
are cheap to make again, so they are: no matrix product is repeated, and about a quarter of a
block's activations is not stored.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

EPS = 1e-6  # of every layer norm in DiT and Latte


class _NormModulate(torch.autograd.Function):
    """y = LN(x) * (1 + scale) + shift, remembering x and two numbers per token."""

    @staticmethod
    def forward(ctx, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        y, mean, rstd = torch.native_layer_norm(x, x.shape[-1:], None, None, EPS)
        ctx.save_for_backward(x, mean, rstd, scale)
        return y.mul_(1 + scale).add_(shift)  # [B, T, N, D]

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, mean, rstd, scale = ctx.saved_tensors
        normed = (x - mean).mul_(rstd)  # [B, T, N, D]
        grad_scale = normed.mul_(grad).sum_to_size(scale.shape).to(scale.dtype)  # [B, 1, 1, D]
        grad_shift = grad.sum_to_size(scale.shape).to(scale.dtype)  # [B, 1, 1, D]
        grad_normed = (grad * (1 + scale)).to(x.dtype)  # [B, T, N, D]
        grad_x = torch.ops.aten.native_layer_norm_backward(
            grad_normed, x, x.shape[-1:], mean, rstd, None, None, [True, False, False]
        )[0]
        return grad_x, grad_shift, grad_scale


def norm_modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LN(x) * (1 + scale) + shift, x [B, T, N, D], shift and scale [B, 1, 1, D]. The norm has no
    weights.
    """
    return _NormModulate.apply(x, shift, scale)


class _GeluLinear(torch.autograd.Function):
    """y = W gelu(h) + b, remembering h only; gelu(h) is made again for the gradient of W."""

    @staticmethod
    def forward(ctx, h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(h, weight)
        return F.linear(F.gelu(h, approximate="tanh"), weight, bias)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h, weight = ctx.saved_tensors  # under autocast the weight is wider than h and grad
        active = F.gelu(h, approximate="tanh").to(grad.dtype)  # [..., 4D]
        rows = grad.flatten(0, -2)  # [tokens, D]
        grad_weight = (rows.t() @ active.flatten(0, -2)).to(weight.dtype)  # [D, 4D]
        grad_active = (grad @ weight.to(grad.dtype)).to(h.dtype)  # [..., 4D]
        grad_h = torch.ops.aten.gelu_backward.grad_input(
            grad_active, h, approximate="tanh", grad_input=grad_active
        )
        return grad_h, grad_weight, rows.sum(0).to(weight.dtype)


def gelu_linear(h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """F.linear(gelu(h), weight, bias) with the tanh form of GELU."""
    return _GeluLinear.apply(h, weight, bias)


def gated_add(x: Tensor, gate: Tensor, branch: Tensor) -> Tensor:
    """x + gate * branch in one pass over memory; gate [B, 1, 1, D]."""
    return torch.addcmul(x, gate, branch)
