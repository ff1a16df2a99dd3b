"""What a denoiser is trained on: the simple loss, and Latte's hybrid one with a learned variance.

    L = mean (target - output)^2  +  L_vlb

L_vlb scores the variance channels alone: the predicted mean is detached, so the bound cannot
disturb the mean. Latte's default is the hybrid (output with 2C channels); "only MSE" is the special
case of a fixed variance.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vidgen_lab.latte.checks import require
from vidgen_lab.latte.diffusion.samplers import split_variance
from vidgen_lab.latte.diffusion.schedule import NoiseScheduler


class DiffusionLoss(NamedTuple):
    """The parts, per sample: each [B]; vlb in bits per value, None for a fixed variance."""

    mse: Tensor
    vlb: Tensor | None


def gaussian_kl(mean1: Tensor, log_var1: Tensor, mean2: Tensor, log_var2: Tensor) -> Tensor:
    """KL(N1 || N2) in nats, element by element, for means and log-variances of one shape or such as
    broadcast."""
    return 0.5 * (
        log_var2
        - log_var1
        - 1
        + (log_var1 - log_var2).exp()
        + (mean1 - mean2) ** 2 * (-log_var2).exp()
    )


def variance_bound(
    scheduler: NoiseScheduler, output: Tensor, variance: Tensor, x0: Tensor, x_t: Tensor, t: Tensor
) -> Tensor:
    """One term of the variational bound, in bits per value: [B] (Nichol and Dhariwal 2021).

    Of output and variance, the model's first and last C channels, x0, x_t [B, C, ...] and t [B].
    t > 0: KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)). t = 0: minus the log-likelihood of x_0.
    Latents are real numbers, not 8-bit pixels, so that last term is a density (the original code
    bins it as if they were pixels).
    """
    true_mean, true_log_var = scheduler.posterior(x0, x_t, t)
    mean, _ = scheduler.posterior(scheduler.to_x0(output, x_t, t), x_t, t)
    log_var = scheduler.learned_log_variance(variance, t)
    kl = gaussian_kl(true_mean, true_log_var.expand_as(mean), mean, log_var)
    nll = 0.5 * (math.log(2 * math.pi) + log_var + (x0 - mean) ** 2 * (-log_var).exp())
    first = (t == 0).view(-1, *[1] * (x0.ndim - 1))
    return torch.where(first, nll, kl).flatten(1).mean(1) / math.log(2)


def mean_square(error: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean of the squared error of each sample, [B, ...] -> [B]; `weights` [B, ...], broadcast,
    say how much an error counts where: only their ratios within a sample matter."""
    squared = error**2
    if weights is not None:
        squared = squared * weights / weights.mean(tuple(range(1, weights.ndim)), keepdim=True)
    return squared.flatten(1).mean(1)


def diffusion_loss(
    scheduler: NoiseScheduler,
    output: Tensor,
    x0: Tensor,
    noise: Tensor,
    x_t: Tensor,
    t: Tensor,
    weights: Tensor | None = None,
) -> DiffusionLoss:
    """Loss of one batch, computed in float32.

    Args:
        scheduler: noise levels, and what the model predicts.
        output: the model's answer [B, C or 2C, ...]; with 2C channels the variance is scored too.
        x0: [B, C, ...], clean.
        noise: [B, C, ...], what was mixed in.
        x_t: [B, C, ...], noisy.
        t: [B] integers.
        weights: of the squared error, see `mean_square`.
    """
    require(x0.shape == x_t.shape == noise.shape, "x0, noise and x_t", "equal shapes",
            [list(v.shape) for v in (x0, noise, x_t)])  # fmt: skip
    prediction, variance = split_variance(output.float(), x0.shape[1])
    x0, noise, x_t = x0.float(), noise.float(), x_t.float()
    mse = mean_square(scheduler.target(x0, noise, t) - prediction, weights)  # [B]
    if variance is None:
        return DiffusionLoss(mse, None)
    return DiffusionLoss(mse, variance_bound(scheduler, prediction.detach(), variance, x0, x_t, t))
