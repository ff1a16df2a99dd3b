"""The one training loop of all recipes."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from vidgen_lab.training.checkpoints import Run

Numbers = dict[str, float | torch.Tensor]


def train(
    run: Run,
    model: nn.Module,
    optimizers: dict[str, Optimizer],
    factor: Callable[[int], float],
    loss_at: Callable[[int], tuple[torch.Tensor, Numbers]],
    *,
    ema: AveragedModel | None = None,
    at_checkpoint: Callable[[], Numbers] = dict,
    device: str = "cpu",
    clip: float = 1.0,
) -> None:
    """Train `model` from the checkpoint of `run`, or from the start, up to its last step.

    Every optimizer runs at the learning rate it was made with times `factor(step)`. `loss_at(step)`
    returns the loss and other numbers for the log; it is called under bfloat16 autocast and must
    depend on the step and the weights alone, so that a resumed training repeats an uninterrupted
    one. `at_checkpoint` measures or saves after each checkpoint, and returns numbers for the log
    too.
    """
    rates = {name: optimizer.param_groups[0]["lr"] for name, optimizer in optimizers.items()}
    for step in range(run.resume(device), run.total):
        for name, optimizer in optimizers.items():
            optimizer.param_groups[0]["lr"] = rates[name] * factor(step)
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=has_bf16(device)):
            loss, numbers = loss_at(step)
        loss.backward()
        norm = clip_gradients(model, clip, step)
        for optimizer in optimizers.values():
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if ema is not None:
            ema.update_parameters(model)
        done = step + 1
        if run.logs_at(done):
            row = {"loss": loss, "grad_norm": norm, **numbers}
            if run.checkpoints_at(done):
                run.save(done)
                with torch.no_grad():
                    row |= at_checkpoint()
            run.log(done, **row)


def has_bf16(device: str) -> bool:
    """True where bfloat16 is computed, not emulated: without it, a CPU is 30 times slower under
    autocast than in float32."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


def clip_gradients(module: nn.Module, limit: float, step: int) -> float:
    """Clip to a norm of `limit` and return the norm; FloatingPointError when it is not finite."""
    norm = nn.utils.clip_grad_norm_(module.parameters(), limit).item()
    if not math.isfinite(norm):
        raise FloatingPointError(
            f"the gradient is not finite at step {step}; lower the learning rate and resume"
        )
    return norm


def moving_average(module: nn.Module, decay: float) -> AveragedModel:
    """Exponential moving average of a module's weights; the copy is `.module`."""
    return AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(decay))


@contextmanager
def plain_attention(device: str) -> Iterator[None]:
    """On a CPU, let attention be two matrix products: at this length faster than the fused
    kernel, above all backwards."""

    fused = F.scaled_dot_product_attention

    def attend(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, **rest):
        if attn_mask is not None or dropout_p or is_causal or rest:  # T5's, with its bias
            return fused(query, key, value, attn_mask, dropout_p, is_causal, **rest)
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        return scores.softmax(-1) @ value

    if torch.device(device).type != "cpu":
        yield
        return
    with patch.object(F, "scaled_dot_product_attention", attend):
        yield
