"""How noise is mixed in, and every way of naming what the network should say about it.

    x_t = a_t x_0 + s_t eps,   a_t^2 = abar_t = prod_{s<=t} (1 - beta_s),   s_t^2 = 1 - abar_t

The three usual targets are three views of one line:

    epsilon: eps            x0: x_0            v: a_t eps - s_t x_0
"""

import json
import math
from pathlib import Path

import torch
from torch import Tensor, nn

from vidgen_lab.latte.checks import require, require_one_of

# diffusers' names: ours
SCHEDULES = {
    "linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine",
    "sigmoid": "sigmoid",
}  # fmt: skip
PREDICTIONS = {"epsilon": "epsilon", "sample": "x0", "v_prediction": "v"}


def make_betas(schedule: str, num_timesteps: int, beta_start: float, beta_end: float) -> Tensor:
    """beta_t of a schedule: [num_timesteps] float32 (the precision, and so the bits, of diffusers).

    linear: DDPM and Latte. scaled_linear: Stable Diffusion, CogVideoX. sigmoid: GeoDiff. All go
    from beta_start to beta_end, between 0 and 1. cosine, which reads neither: Nichol and Dhariwal
    2021; the formula there *is* abar, so the betas are its steps, 1 - abar_{t+1}/abar_t, and
    accumulating them once gives it back.
    """
    require_one_of(schedule, SCHEDULES.values(), "noise schedule")
    require(
        0 < beta_start < 1 and 0 < beta_end < 1, "beta_start and beta_end", "between 0 and 1",
        (beta_start, beta_end),
    )  # fmt: skip
    if schedule == "linear":
        return torch.linspace(beta_start, beta_end, num_timesteps, dtype=torch.float32)
    if schedule == "scaled_linear":
        root = torch.linspace(beta_start**0.5, beta_end**0.5, num_timesteps, dtype=torch.float32)
        return root**2
    if schedule == "sigmoid":
        ramp = torch.sigmoid(torch.linspace(-6, 6, num_timesteps))
        return ramp * (beta_end - beta_start) + beta_start
    abar = [cosine_abar(i / num_timesteps) for i in range(num_timesteps + 1)]
    # the last step would remove everything; 0.999 keeps it invertible
    steps = [min(1 - after / before, 0.999) for before, after in zip(abar, abar[1:], strict=False)]
    return torch.tensor(steps, dtype=torch.float32)


def cosine_abar(u: float, offset: float = 0.008) -> float:
    """Signal of the cosine schedule at u = t/T in 0 .. 1, before division by its value at 0."""
    return math.cos((u + offset) / (1 + offset) * math.pi / 2) ** 2


def rescale_to_zero_snr(betas: Tensor) -> Tensor:
    """No signal in the last step: sqrt(abar) shifted and scaled (Lin et al. 2023, algorithm 1).
    betas: [num_timesteps] -> [num_timesteps], the last one 1."""
    root = (1 - betas).cumprod(0).sqrt()
    first, last = root[0].clone(), root[-1].clone()
    abar = ((root - last) * (first / (first - last))) ** 2
    return 1 - torch.cat([abar[:1], abar[1:] / abar[:-1]])


def _per_sample(values: Tensor, x: Tensor, t: Tensor | None = None) -> Tensor:
    """[B], or what a table [N] holds at t [B], as [B, 1, ..., 1] beside x of any rank."""
    values = values if t is None else values[t.to(values.device)]
    return values.to(x.device).reshape(-1, *[1] * (x.ndim - 1))


class NoiseScheduler(nn.Module):
    """Noise levels 0 .. num_timesteps-1 (book listing 3.L06, accumulated once).

    Tables are buffers, so `.to(device)` moves them; they are no parameters and not saved. Works on
    tensors of any rank whose first axis is the batch.

    Args:
        num_timesteps: T, noise levels.
        schedule: "linear", "scaled_linear", "cosine" or "sigmoid", see `make_betas`.
        beta_start: variance that the first step adds; not of cosine.
        beta_end: variance that the last step adds; not of cosine.
        prediction: what the network outputs: "epsilon", "x0" or "v".
        zero_terminal_snr: no signal left at the last step (needs prediction "x0" or "v": there is
            nothing to divide by).
    """

    def __init__(
        self,
        num_timesteps: int = 1000,
        schedule: str = "linear",
        beta_start: float = 1e-4,
        beta_end: float = 0.02,
        prediction: str = "epsilon",
        zero_terminal_snr: bool = False,
    ) -> None:
        super().__init__()
        require_one_of(prediction, PREDICTIONS.values(), "prediction")
        require(num_timesteps > 1, "num_timesteps", "more than 1", num_timesteps)
        require(
            not (zero_terminal_snr and prediction == "epsilon"),
            "prediction with zero terminal SNR",
            "'x0' or 'v'",
            "'epsilon'",
            "Pure noise says nothing about the clip, so it cannot be recovered from the noise.",
        )
        self.num_timesteps, self.prediction = num_timesteps, prediction
        betas = make_betas(schedule, num_timesteps, beta_start, beta_end)
        if zero_terminal_snr:
            betas = rescale_to_zero_snr(betas)
        self.register_buffer("betas", betas, persistent=False)
        self.register_buffer("alphas_cumprod", (1 - betas).cumprod(0), persistent=False)

    @classmethod
    def from_diffusers(cls, folder: str | Path) -> "NoiseScheduler":
        """The noise levels of a saved pipeline, or of a folder with scheduler_config.json.

        Raises:
            LatteInputError: the file is something else, or its levels are made in a way that this
                class does not have.
            FileNotFoundError: there is no such file.
        """
        file = Path(folder) / "scheduler" / "scheduler_config.json"
        file = file if file.is_file() else Path(folder) / file.name
        try:
            c = json.loads(file.read_bytes())
        except (ValueError, RecursionError):
            c = None
        missing = {"beta_schedule", "prediction_type", "num_train_timesteps"}
        missing |= {"beta_start", "beta_end"}
        missing -= set(c if isinstance(c, dict) else ())
        require(not missing, str(file), "settings of a scheduler", f"none for {sorted(missing)}")
        for name, known in (
            ("beta_schedule", SCHEDULES), ("prediction_type", PREDICTIONS),
            ("trained_betas", (None,)), ("snr_shift_scale", (None, 1)),  # CogVideoX-2B shifts by 3
        ):  # fmt: skip
            require_one_of(c.get(name), known, f"{name} in {file}")
        return cls(
            c["num_train_timesteps"],
            SCHEDULES[c["beta_schedule"]],
            c["beta_start"],
            c["beta_end"],
            PREDICTIONS[c["prediction_type"]],
            c.get("rescale_betas_zero_snr", False),
        )

    def coefficients(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """sqrt(abar_t) and sqrt(1 - abar_t) as [B, 1, ..., 1] beside x, in float32 at least."""
        require(t.ndim == 0 or t.shape == x.shape[:1], "timesteps", [x.shape[0]], list(t.shape))
        require(not t.dtype.is_floating_point, "dtype of timesteps", "integers", t.dtype)
        abar = _per_sample(self.alphas_cumprod, x, t)
        return abar.sqrt(), (1 - abar).sqrt()

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """A sample of q(x_t | x_0), in x0's dtype: x0, noise [B, ...], t [B] integers -> [B, ...].

        Computed in float32: a bfloat16 coefficient would turn 0.9995 into 1.
        """
        require(noise.shape == x0.shape, "noise", list(x0.shape), list(noise.shape))
        a, s = self.coefficients(t, x0)
        return (a * x0 + s * noise).to(x0.dtype)

    def target(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What the network should output for this clip and noise, according to `prediction`:
        x0, noise [B, ...], t [B] -> [B, ...]."""
        if self.prediction == "epsilon":
            return noise
        if self.prediction == "x0":
            return x0
        a, s = self.coefficients(t, x0)
        return a * noise - s * x0

    def to_x0(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The clean clip that the network's output implies: output, x_t [B, ...], t [B] ->
        [B, ...]."""
        a, s = self.coefficients(t, x_t)
        if self.prediction == "epsilon":
            return (x_t - s * output) / a
        return output if self.prediction == "x0" else a * x_t - s * output

    def to_epsilon(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The noise that the network's output implies: output, x_t [B, ...], t [B] -> [B, ...]."""
        a, s = self.coefficients(t, x_t)
        if self.prediction == "epsilon":
            return output
        return (x_t - a * output) / s if self.prediction == "x0" else a * output + s * x_t

    def snr(self, t: Tensor | None = None) -> Tensor:
        """Signal-to-noise ratio abar/(1 - abar) of the steps t [B], or of all [num_timesteps]."""
        abar = self.alphas_cumprod if t is None else self.alphas_cumprod[t.to(self.betas.device)]
        return abar / (1 - abar)

    def posterior(self, x0: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(x_{t-1} | x_t, x_0) (Ho et al. 2020, equation 7) for x0, x_t
        [B, ...] and t [B]: the mean has x_t's shape, the log-variance is [B, 1, ..., 1]."""
        abar, beta = self.alphas_cumprod, self.betas
        before = torch.cat([abar.new_ones(1), abar[:-1]])
        c0 = _per_sample(beta * before.sqrt() / (1 - abar), x_t, t)
        ct = _per_sample((1 - before) * (1 - beta).sqrt() / (1 - abar), x_t, t)
        return c0 * x0 + ct * x_t, self._posterior_log_variance(t, x_t)

    def _posterior_log_variance(self, t: Tensor, x: Tensor) -> Tensor:
        """log beta~_t; at t = 0, where beta~ is zero, its neighbour's (improved DDPM)."""
        abar, beta = self.alphas_cumprod, self.betas
        table = (beta[1:] * (1 - abar[:-1]) / (1 - abar[1:])).log()
        return _per_sample(table, x, t.clamp(min=1) - 1)

    def learned_log_variance(self, output: Tensor, t: Tensor) -> Tensor:
        """The network's variance channels, [B, C, ...] in -1 .. 1, as a log-variance of that shape.

            log sigma^2 = f log beta_t + (1 - f) log beta~_t,     f = (output + 1) / 2

        beta_t and the posterior's beta~_t bound the true reverse step (improved DDPM, equation 15).
        """
        low = self._posterior_log_variance(t, output)
        high = _per_sample(self.betas.log(), output, t)
        f = (output + 1) / 2
        return f * high + (1 - f) * low


class FlowMatchingPath:
    """A straight line from clip to noise, x_s = (1 - s) x_0 + s noise, s in 0 .. 1 (Lipman et al.
    2023; Liu et al. 2023).

    The network predicts the velocity dx/ds = noise - x_0. Clips and noise are [B, ...] of any rank,
    levels [B] in 0 .. 1.

    Args:
        num_timesteps: what the network is told of pure noise, s = 1.
        shift: > 0; above 1 it moves the levels towards noise, as larger videos need:
            s -> shift s / (1 + (shift - 1) s) (Esser et al. 2024).
    """

    def __init__(self, num_timesteps: int = 1000, shift: float = 1.0) -> None:
        require(shift > 0, "shift", "> 0", shift)
        self.num_timesteps, self.shift = num_timesteps, shift

    def warp(self, s: Tensor) -> Tensor:
        """Levels s [B], moved towards noise by the shift -> [B]."""
        return self.shift * s / (1 + (self.shift - 1) * s)

    def add_noise(self, x0: Tensor, noise: Tensor, s: Tensor) -> Tensor:
        """The point of the line at level s, in x0's dtype: [B, ...]."""
        s = _per_sample(s, x0)
        return ((1 - s) * x0 + s * noise).to(x0.dtype)

    def target(self, x0: Tensor, noise: Tensor) -> Tensor:
        """The velocity that the network should output: x0, noise [B, ...] -> [B, ...]."""
        return noise - x0

    def to_x0(self, output: Tensor, x_s: Tensor, s: Tensor) -> Tensor:
        """The clean clip that a velocity implies: output, x_s [B, ...], s [B] -> [B, ...]."""
        return x_s - _per_sample(s, x_s) * output

    def timestep(self, s: Tensor) -> Tensor:
        """What the network is told of the level: [B] in 0 .. num_timesteps."""
        return s * self.num_timesteps
