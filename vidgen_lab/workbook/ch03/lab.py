"""Chapter 3: toy clips as tensors, and what the book does differently, to be measured."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidgen_lab.latte import (
    DDIMSampler,
    DDPMSampler,
    Latte,
    LatteConfig,
    NoiseScheduler,
    sample,
)
from vidgen_lab.toyworld import Scene, render
from vidgen_lab.video.tensors import as_tensor


def toy_clips(count: int, seed: int, width: int = 72, height: int = 48, frames: int = 8) -> Tensor:
    """Random scenes of any kind as [B, 3, T, H, W] in -1 .. 1."""
    from vidgen_lab.toyworld import sample_scene

    rng = np.random.default_rng(seed)
    scenes: list[Scene] = [sample_scene(rng) for _ in range(count)]
    return as_tensor([render(scene, width, height, frames).clip for scene in scenes])


def psnr(made: Tensor, truth: Tensor) -> float:
    """Mean over frames of the peak signal-to-noise ratio in dB; clips in -1 .. 1."""
    error = ((made.clamp(-1, 1) - truth) / 2).square().mean(dim=(1, 3, 4))  # [B, T]
    return float(-10 * torch.log10(error.clamp_min(1e-12)).mean())


class OverwritingBlock(nn.Module):
    """The book's order: the stream itself is normalised and modulated, then branches are added."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(dim, 2 * dim)
        self.branch = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim)
        )

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        scale, shift = self.modulation(F.silu(cond))[:, None, None].chunk(2, -1)
        x = F.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift
        return x + self.branch(x)


@torch.no_grad()
def memory_of_the_input(depths: Sequence[int], dim: int = 64, seed: int = 0) -> pd.DataFrame:
    """Correlation between what enters and what leaves an untrained stack, by depth.

    Columns: the book's block, and AdaLN-Zero.
    """
    torch.manual_seed(seed)
    tokens = torch.randn(2, 4, 16, dim) * torch.linspace(0.2, 5, 16)[:, None]
    cond = torch.randn(2, dim)
    config = LatteConfig(
        hidden_size=dim, depth=2 * max(depths), num_heads=4, sample_size=8, num_frames=4
    )
    stacks = {
        "AdaLN on the stream (book)": [OverwritingBlock(dim) for _ in range(max(depths))],
        "AdaLN-Zero in the branches": list(Latte(config).blocks),
    }
    rows: dict[str, list[float]] = {name: [] for name in stacks}
    for name, blocks in stacks.items():
        x = tokens
        for depth, block in enumerate(blocks, start=1):
            x = block(x, cond)
            if depth in depths:
                alike = F.cosine_similarity(x.flatten(), tokens.flatten(), 0)
                rows[name].append(float(alike))
    return pd.DataFrame(rows, index=pd.Index(depths, name="blocks"))


def ways_back(count: int = 20_000, steps: int = 50, seed: int = 0) -> dict[str, np.ndarray]:
    """Sample a known distribution, N(2, 0.5^2), with the exact predictor: three samplers.

    "subtract" takes the predicted noise off the sample, step after step, as the book words it.
    """
    scheduler = NoiseScheduler(schedule="cosine")
    noise = torch.randn(count, 1, generator=torch.Generator().manual_seed(seed))

    def exact(x: Tensor, t: Tensor) -> Tensor:
        a, s = scheduler.coefficients(t, x)
        best = (0.25 * a * x + s**2 * 2.0) / (0.25 * a**2 + s**2)  # E[x_0 | x_t]
        return (x - a * best) / s

    g = torch.Generator().manual_seed(seed + 1)
    results = {
        "DDPM": sample(exact, DDPMSampler(scheduler, steps), noise, g),
        "DDIM": sample(exact, DDIMSampler(scheduler, steps), noise),
    }
    x = noise
    for t in DDIMSampler(scheduler, steps).timesteps:
        x = x - exact(x, t.expand(count))
    return {name: x.flatten().numpy() for name, x in {**results, "subtract": x}.items()}
