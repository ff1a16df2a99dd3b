"""From noise to a clip: DDIM and Euler steps, and classifier-free guidance.

Each `step` equals that of diffusers' scheduler of the same name.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from vidgen_lab.latte.checks import require, require_finite, require_one_of
from vidgen_lab.latte.diffusion.schedule import FlowMatchingPath, NoiseScheduler

Denoiser = Callable[[Tensor, Tensor], Tensor]


class Step(NamedTuple):
    """One step back: the less noisy latents, and the clean clip it aims at; both [B, C, ...]."""

    latents: Tensor
    x0: Tensor


def spaced_timesteps(num_timesteps: int, num_steps: int, spacing: str = "leading") -> Tensor:
    """The training timesteps that a short sampler visits, noisiest first: [num_steps] integers.

    k = T / num_steps. leading: 0, k, 2k, ..., k rounded down; trailing: T-1, T-1-k, ..., which
    starts at pure noise, as schedules with zero terminal SNR need. Table 2 of Lin et al. 2023.
    """
    require(1 <= num_steps <= num_timesteps, "sampling steps", f"1 .. {num_timesteps}", num_steps)
    require_one_of(spacing, ("leading", "trailing"), "timestep spacing")
    if spacing == "leading":
        return (torch.arange(num_steps) * (num_timesteps // num_steps)).flip(0)
    down = torch.arange(num_steps, dtype=torch.float64) * (num_timesteps / num_steps)
    return (num_timesteps - down).round().long() - 1


class DDIMSampler:
    """Few, large steps along one path (Song et al. 2021, equation 12).

        x_prev = sqrt(abar_prev) x_0 + sqrt(1 - abar_prev - sigma^2) eps + sigma z
        sigma = eta * sigma_DDPM

    With eta = 0 the first noise decides everything; eta = 1 is DDPM, ancestral sampling, with the
    posterior's variance (Ho et al. 2020, algorithm 2).

    A step jumps T // num_steps levels, as in diffusers, and the last one lands on the clean clip.
    Trailing steps are T / num_steps apart; where that is no whole number, the jump falls short by
    up to a level, which is little in tens of steps and much in hundreds.
    """

    def __init__(
        self,
        scheduler: NoiseScheduler,
        num_steps: int = 50,
        eta: float = 0.0,
        spacing: str = "leading",
    ) -> None:
        require(0 <= eta <= 1, "eta", "0 (deterministic) .. 1 (as noisy as DDPM)", eta)
        self.scheduler, self.eta = scheduler, eta
        self.timesteps = spaced_timesteps(scheduler.num_timesteps, num_steps, spacing)
        self.stride = scheduler.num_timesteps // num_steps

    def step(
        self, output: Tensor, index: int, x: Tensor, generator: torch.Generator | None = None
    ) -> Step:
        """From timesteps[index] to the next, for latents x [B, C, ...] and the network's output
        [B, C or 2C, ...] there; the generator draws z, if eta > 0."""
        t = self.timesteps[index]
        output, _ = split_variance(output, x.shape[1])
        table = self.scheduler.alphas_cumprod
        abar, previous = table[t], int(t) - self.stride
        before = table[previous] if previous >= 0 else table.new_ones(())

        x0 = self.scheduler.to_x0(output, x, t)
        eps = self.scheduler.to_epsilon(output, x, t)
        variance = (1 - before) / (1 - abar) * (1 - abar / before)
        sigma = self.eta * variance.sqrt()
        rest = (1 - before - sigma**2).clamp(min=0)  # from pure noise and with eta = 1 just zero
        latents = before.sqrt() * x0 + rest.sqrt() * eps
        if self.eta > 0:
            latents = latents + sigma * noise_like(x, generator)
        return Step(latents, x0)


class FlowEulerSampler:
    """Euler steps down the straight path of flow matching: x <- x + (s_next - s) * velocity."""

    def __init__(self, path: FlowMatchingPath, num_steps: int = 50) -> None:
        total = path.num_timesteps
        require(1 <= num_steps <= total, "sampling steps", f"1 .. {total}", num_steps)
        # the same levels as diffusers: from all noise to the smallest trained level, then zero
        levels = path.warp(
            torch.linspace(1.0, path.warp(torch.tensor(1 / total)).item(), num_steps)
        )
        self.levels = torch.cat([levels, levels.new_zeros(1)])
        self.timesteps = path.timestep(levels)

    def step(
        self, output: Tensor, index: int, x: Tensor, generator: torch.Generator | None = None
    ) -> Step:
        """From levels[index] to the next, for latents x [B, C, ...] and the network's output
        [B, C or 2C, ...] there, a velocity; nothing is drawn."""
        output, _ = split_variance(output, x.shape[1])
        s, after = self.levels[index], self.levels[index + 1]
        return Step(x + (after - s) * output, x - s * output)


Sampler = DDIMSampler | FlowEulerSampler


def split_variance(output: Tensor, channels: int) -> tuple[Tensor, Tensor | None]:
    """[B, 2C, ...] -> prediction and variance channels; [B, C, ...] -> prediction and None."""
    require(
        output.shape[1] in (channels, 2 * channels),
        "channels of the model's output",
        f"{channels} or {2 * channels}",
        output.shape[1],
    )
    if output.shape[1] == channels:
        return output, None
    return output[:, :channels], output[:, channels:]


def noise_like(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Normal noise of x's shape, type and device, drawn where the generator lives: on a CPU the
    same for every device."""
    device = x.device if generator is None else generator.device
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=device).to(x.device)


class Guidance:
    """Classifier-free guidance: step beyond the prompt's prediction, away from the empty one's.

        eps~ = eps(null) + w (eps(prompt) - eps(null))

    w = 0 ignores the prompt, 1 is the model as it is, more follows the prompt harder at the price
    of variety and, in the end, of plausible colours; `rescale` in 0 .. 1 pulls the contrast back
    (Lin et al. 2023). Both predictions run as one batch. Variance channels are the prompt's own: a
    line through two variances would leave their range.

    Args:
        model: called as model(x, t, **condition).
        cond: keyword arguments of the prompt's call, tensors with a batch axis (or None).
        null: those of the empty prompt's; equal keys and shapes.
        scale: w.
        rescale: 0 .. 1, how far the contrast is pulled back to that of the prompt's prediction.
    """

    def __init__(
        self,
        model: Callable[..., Tensor],
        cond: dict,
        null: dict,
        scale: float = 7.0,
        rescale: float = 0.0,
    ) -> None:
        shapes = [{k: list(getattr(v, "shape", ())) for k, v in c.items()} for c in (cond, null)]
        require(shapes[0] == shapes[1], "shapes and keys of the null condition", *shapes)
        require(0 <= rescale <= 1, "rescale", "0 .. 1", rescale)
        self.model, self.cond, self.null = model, cond, null
        self.scale, self.rescale = scale, rescale

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """From x [B, C, T, h, w] and t [B] the guided output [B, C or 2C, T, h, w], with one call
        of the model for 2B clips (for B clips if the scale is 1)."""
        if self.scale == 1:
            return self.model(x, t, **self.cond)  # [B, C or 2C, ...]
        both = {
            k: None if v is None else torch.cat([self.null[k], v]) for k, v in self.cond.items()
        }
        output = self.model(torch.cat([x, x]), torch.cat([t, t]), **both)  # [2B, C or 2C, ...]
        null, cond = output.chunk(2)  # 2 x [B, C or 2C, ...]
        null, _ = split_variance(null, x.shape[1])
        cond, variance = split_variance(cond, x.shape[1])
        guided = null + self.scale * (cond - null)  # [B, C, ...]
        if self.rescale:
            axes = tuple(range(1, x.ndim))
            ratio = cond.std(axes, keepdim=True) / guided.std(axes, keepdim=True)
            guided = guided * (self.rescale * ratio + 1 - self.rescale)
        return guided if variance is None else torch.cat([guided, variance], dim=1)


def trajectory(
    denoiser: Denoiser, sampler: Sampler, noise: Tensor, generator: torch.Generator | None = None
) -> Iterator[Step]:
    """Denoise step by step, yielding every step: for pictures of the way, or to stop early.

    Args:
        denoiser: (x [B, C, ...], t [B]) -> output; a `Latte`, a `Guidance`, any function.
        sampler: which timesteps, and how to step from one to the next.
        noise: [B, C, ...] where the way begins, in the precision that the denoiser works in; the
            steps between its calls are float32 at least.
        generator: of noise that the steps add; None for PyTorch's own.

    Raises:
        LatteInputError: the output is not finite (which usually means: half precision).
    """
    exact = torch.promote_types(noise.dtype, torch.float32)
    x = noise.to(exact)
    for index, t in enumerate(sampler.timesteps.to(noise.device)):
        with torch.no_grad():
            output = denoiser(x.to(noise.dtype), t.expand(len(x)))
            require_finite(output, f"output of the model at timestep {float(t):g}")
            step = sampler.step(output.to(exact), index, x, generator)
        x = step.latents
        yield step


def sample(
    denoiser: Denoiser, sampler: Sampler, noise: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Denoise to the end: the latents of a clip, [B, C, ...]; for the rest see `trajectory`."""
    for step in trajectory(denoiser, sampler, noise, generator):  # noqa: B007
        pass
    return step.latents
