"""What a diffusion model is trained on: which target, at which noise levels, with which weight.

    objective = ObjectiveConfig(prediction="v", weighting="min_snr").build()
    trainer = VideoModelTrainer(latte, objective, loader, ...)

A batch is a mapping with "latents" [B, C, T, h, w], as the model is to learn them (scaled), and
what the model is told besides; "weights" [B, 1, T, h, w], if it has them, say how much an error
counts where. A noise level u lies in 0 .. 1; a discrete schedule has timestep floor(u N), a flow
has s = u. Losses are one per sample [B], so that the log can tell noise levels apart.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vidgen_lab.config import check_ranges
from vidgen_lab.latte.diffusion.losses import DiffusionLoss, diffusion_loss, mean_square
from vidgen_lab.latte.diffusion.samplers import (
    DDIMSampler,
    FlowEulerSampler,
    Sampler,
    split_variance,
)
from vidgen_lab.latte.diffusion.schedule import FlowMatchingPath, NoiseScheduler
from vidgen_lab.training import distributed
from vidgen_lab.training.stream import Draw, isolated_rng

Predict = Callable[[nn.Module, Tensor, Tensor, Mapping[str, Any]], Tensor]


@dataclass(frozen=True)
class ObjectiveConfig:
    """A loss in words.

    Attributes:
        prediction: "epsilon", "x0", "v", or "flow": the velocity noise - x0 on a straight line.
        weighting: "none"; "min_snr" (arXiv 2303.09556, with min_snr_gamma); "cogvideox": the
            squared error of x0 over 1 - abar, as CogVideoX's code has it, which is "none" on v.
        levels: "uniform", or "logit_normal" (more of the middle; Stable Diffusion 3).
        shift: > 1 moves the levels of a flow towards noise, as larger videos need.
        schedule, beta_start, beta_end, zero_terminal_snr: of `NoiseScheduler`; unused by a flow.
        num_timesteps: levels of a discrete schedule; a flow tells the model s * num_timesteps.
        vlb_weight: of the bound that teaches a model with twice the channels its variance.
        frame_difference: weight of the error in the differences between neighbouring frames.
        alignment: weight of 1 - cosine between features of prediction and truth.
        expert_boundary: from this level up one of `TwoExperts` works, below it the other; 0: one.
    """

    prediction: Literal["epsilon", "x0", "v", "flow"] = "v"
    weighting: Literal["none", "min_snr", "cogvideox"] = "none"
    min_snr_gamma: float = 5.0
    levels: Literal["uniform", "logit_normal"] = "uniform"
    shift: float = 1.0
    schedule: Literal["linear", "scaled_linear", "cosine", "sigmoid"] = "linear"
    num_timesteps: int = 1000
    beta_start: float = 1e-4
    beta_end: float = 0.02
    zero_terminal_snr: bool = False
    vlb_weight: float = 1.0
    frame_difference: float = 0.0
    alignment: float = 0.0
    expert_boundary: float = 0.0

    def __post_init__(self) -> None:
        check_ranges(self, expert_boundary=(0, 1), min_snr_gamma=(0, math.inf))

    def scheduler(self) -> NoiseScheduler:
        """The noise levels of training, and of sampling after it. ValueError for a flow."""
        if self.prediction == "flow":
            raise ValueError("a flow has no noise schedule: use path()")
        return NoiseScheduler(
            self.num_timesteps, self.schedule, self.beta_start, self.beta_end, self.prediction,
            self.zero_terminal_snr,
        )  # fmt: skip

    def path(self) -> FlowMatchingPath:
        """The straight line of a flow, from clip to noise."""
        return FlowMatchingPath(self.num_timesteps, self.shift)

    def sampler(self, num_steps: int) -> Sampler:
        """The way back, from the noisiest level on, where the training ends."""
        if self.prediction == "flow":
            return FlowEulerSampler(self.path(), num_steps)
        return DDIMSampler(self.scheduler(), num_steps, spacing="trailing")

    def build(
        self, predict: "Predict | None" = None, features: Callable[[Tensor], Tensor] | None = None
    ) -> "DiffusionObjective":
        """The loss of these settings; ValueError if they do not go together.

        Args:
            predict: how the model is called; None is Latte's way.
            features: latents [B, C, T, h, w] -> [B, D], differentiable; needed for `alignment`.
        """
        if self.prediction == "flow" and self.weighting != "none":
            raise ValueError("min_snr and cogvideox weigh discrete schedules, not a flow")
        if self.weighting == "cogvideox" and self.prediction != "v":
            raise ValueError("the weighting of CogVideoX belongs to prediction=v")
        if self.alignment and features is None:
            raise ValueError("alignment needs features: pass those of a judge")
        return DiffusionObjective(self, predict or predict_latte, features)


def predict_latte(model: nn.Module, noisy: Tensor, t: Tensor, batch: Mapping[str, Any]) -> Tensor:
    """Latte's forward pass: with class labels [B], or text [B, L, D] and its mask [B, L], if the
    batch has them. noisy: [B, C, T, h, w]; t: [B]."""
    told = {name: batch[name] for name in ("labels", "text", "text_mask") if name in batch}
    return model(noisy, t, **told)


class DiffusionObjective:
    """The loss of a discrete schedule, or of a straight line from clip to noise (rectified flow):
    a function of (model, batch, draw)."""

    def __init__(self, config: ObjectiveConfig, predict: Predict, features: Callable | None):
        self.config, self.predict, self.features = config, predict, features
        self.flow = config.prediction == "flow"
        self.path = config.path() if self.flow else config.scheduler()

    def __call__(
        self, model: nn.Module, batch: Mapping[str, Any], draw: Draw
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(loss per sample [B], its parts for the log)."""
        config, path, clean = self.config, self.path, batch["latents"].float()
        weights = batch.get("weights")
        levels, noise = self.draw_levels(len(clean), draw), draw.noise(clean)
        if self.flow:
            if draw.level is None:
                draw.levels = levels = path.warp(levels)
            t, told, signal = levels, path.timestep(levels), 1 - levels  # each [B]
        else:
            path.to(clean.device)
            t = told = (levels * path.num_timesteps).long().clamp(max=path.num_timesteps - 1)
            signal = path.alphas_cumprod[t]
        noisy = path.add_noise(clean, noise, t)
        output = self.predict(model, noisy, told, batch).float()
        prediction, _ = split_variance(output, clean.shape[1])
        if self.flow:
            error = prediction - path.target(clean, noise)
            parts = DiffusionLoss(mean_square(error, weights), None)
        else:
            parts = diffusion_loss(path, output, clean, noise, noisy, t, weights)
        loss, numbers = parts.mse, {"mse": parts.mse}  # the weighting "cogvideox" equals it
        if config.weighting == "min_snr":
            loss = loss * min_snr_weight(path.snr(t), config.prediction, config.min_snr_gamma)
        if parts.vlb is not None:
            loss = loss + config.vlb_weight * parts.vlb
            numbers["vlb"] = parts.vlb
        # weighed by how much of the clip is left: in nothing but noise, the estimate says nothing
        estimate = path.to_x0(prediction, noisy, t)
        if config.frame_difference:
            numbers["frame_difference"] = frame_difference_loss(estimate, clean)
            loss = loss + config.frame_difference * signal * numbers["frame_difference"]
        if config.alignment:
            numbers["alignment"] = alignment_loss(self.features, estimate, clean)
            loss = loss + config.alignment * signal * numbers["alignment"]
        return loss, numbers

    def draw_levels(self, count: int, draw: Draw) -> Tensor:
        """Noise levels [count] as the configuration distributes them; measured ones stay."""
        uniform = draw.uniform(count)
        if draw.level is None and self.config.levels == "logit_normal":
            # through the inverse of the normal distribution: one from each part, as before
            draw.levels = torch.special.ndtri(uniform.clamp(1e-6, 1 - 1e-6)).sigmoid()
        return draw.levels


def min_snr_weight(snr: Tensor, prediction: str, gamma: float = 5.0) -> Tensor:
    """min(SNR, gamma) on the error of x0, said for each target: what it is over SNR for epsilon,
    over SNR + 1 for v. snr: [B] -> [B]. Finite where no signal is left (SNR 0).

    It takes weight from the least noisy levels, where epsilon's error is hardest (Hang et al. 2023,
    arXiv 2303.09556): no cure for missing detail.
    """
    if prediction == "epsilon":
        return gamma / snr.clamp(min=gamma)
    clipped = snr.clamp(max=gamma)
    return clipped if prediction == "x0" else clipped / (snr + 1)


def frame_difference_loss(estimate: Tensor, clean: Tensor) -> Tensor:
    """Squared error of the differences between neighbouring frames, per sample [B]; clips are
    [B, C, T, h, w]; 0 for a single frame. Against the truth: penalising the differences themselves
    would reward a frozen video."""
    error = (estimate.diff(dim=2) - clean.diff(dim=2)).square().flatten(1)
    return error.sum(1) / max(1, error.shape[1])


def alignment_loss(features: Callable[[Tensor], Tensor], estimate: Tensor, clean: Tensor) -> Tensor:
    """1 - cosine between the features [B, D] of what is predicted and of the truth, per sample [B];
    clips are [B, C, T, h, w]. The gradient goes through `features`, on the estimate alone."""
    with torch.no_grad():
        wanted = features(clean)
    return 1 - nn.functional.cosine_similarity(features(estimate), wanted, dim=-1)


class TwoExperts(nn.Module):
    """Two denoisers of one shape, of which each sample uses one, by its noise level (Wan 2.2).

    Twice the parameters, the same arithmetic: `high` lays out the scene in the noise, `low` works
    on detail.

    Args:
        boundary: in 0 .. 1, of num_timesteps; from there up `high` works.
    """

    leaves_out = True  # the gradients of an expert without a sample are missing, and not zero

    def __init__(
        self, high: nn.Module, low: nn.Module, boundary: float = 0.875, num_timesteps: int = 1000
    ) -> None:
        super().__init__()
        self.high, self.low = high, low
        self.boundary = boundary * num_timesteps

    @property
    def config(self) -> Any:
        """The experts' own, for whoever samples."""
        return self.low.config

    def forward(self, noisy: Tensor, t: Tensor, **told: Tensor) -> Tensor:
        """As the experts' own: noisy [B, ...] and t [B] -> [B, ...]; every tensor in `told` begins
        with the batch."""
        t = torch.as_tensor(t, device=noisy.device).expand(len(noisy))
        chosen, output = torch.stack([t >= self.boundary, t < self.boundary]), None  # [2, B]
        used = chosen.any(1).tolist()
        if self.training:  # all processes go through an expert, or none: shards are put together
            used = map(any, zip(*distributed.gathered(used), strict=True))
        for expert, own, is_used in zip((self.high, self.low), chosen, used, strict=True):
            if not is_used:
                continue
            rows = own.nonzero().flatten()
            # without a sample of its own, it goes along with one that does not count
            fed = rows if len(rows) else rows.new_zeros(1)
            with nullcontext() if len(rows) else isolated_rng(0):
                part = expert(noisy[fed], t[fed], **{n: v[fed] for n, v in told.items()})
            if output is None:
                output = part.new_zeros(len(noisy), *part.shape[1:])
            output[rows] = part[: len(rows)].to(output.dtype)
        return output
