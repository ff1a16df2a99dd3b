"""Chapter 3's experiments: small measurements behind its figures and boxes.

What the book prints is restated here in a few lines, so that it can be measured beside ours.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidgen_lab.latte import (
    DDIMSampler,
    DDPMSampler,
    FlowEulerSampler,
    FlowMatchingPath,
    Latte,
    LatteConfig,
    NoiseScheduler,
    VideoVAE,
    sample,
)
from vidgen_lab.latte.diffusion.losses import diffusion_loss
from vidgen_lab.latte.measure import (
    attention_cost,
    attention_memory,
    count_flops,
)
from vidgen_lab.latte.tokens import sincos_1d
from vidgen_lab.latte.vae import PatchPCA, vae_loss
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


# compression
@torch.no_grad()
def time_impulse(kernel: int, causal: bool = False, frames: int = 9) -> np.ndarray:
    """What a box kernel of this length in time makes of one bright frame: the share of the
    brightness in every frame [T]."""
    x = torch.zeros(1, 1, frames, 1, 1)
    x[0, 0, frames // 2] = 1
    before, after = (kernel - 1, 0) if causal else (kernel // 2, kernel // 2)
    x = F.pad(x, (0, 0, 0, 0, before, after))
    return F.conv3d(x, torch.ones(1, 1, kernel, 1, 1) / kernel).flatten().numpy()


def pca_curve(train: Tensor, test: Tensor, patch: int, components: Sequence[int]) -> pd.DataFrame:
    """Quality of the best linear code: columns `values per pixel` and `dB`, one row per size."""
    rows = []
    for count in components:
        pca = PatchPCA(patch, count).fit(train)
        made = pca.decode(pca.encode(test))
        rows.append({"values per pixel": count / patch**2, "dB": psnr(made, test)})
    return pd.DataFrame(rows)


def train_small_vae(
    vae: VideoVAE, clips: Tensor, steps: int, batch: int = 4, seed: int = 0
) -> list[float]:
    """Teach the chapter's VAE for a moment; returns the reconstruction error of every step."""
    optimizer = torch.optim.AdamW(vae.parameters(), lr=2e-3)
    g, errors = torch.Generator().manual_seed(seed), []
    for _ in range(steps):
        x = clips[torch.randint(len(clips), (batch,), generator=g)]
        made, posterior = vae(x, g)
        loss = vae_loss(made, x, posterior.mu, posterior.logvar)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        errors.append(loss.reconstruction.item())
    return errors


# tokens
def similarity(codes: Tensor, query: int, columns: int) -> np.ndarray:
    """Cosine similarity of every code to that of `query`, as a grid [rows, columns]."""
    codes = F.normalize(codes.double(), dim=1)
    return (codes @ codes[query]).reshape(-1, columns).numpy()


def raster_codes(dim: int, patches: int) -> Tensor:
    """The book's positions in a frame: one running number, sine and cosine in turn."""
    return sincos_1d(dim, torch.arange(patches), interleaved=True)


# attention
def attention_table(frames: int = 16, patches: int = 256, dim: int = 1152, heads: int = 16):
    """Every kind of attention at these sizes: scores, work, and GiB of scores if stored in half
    precision; one layer, one clip."""
    costs = attention_cost(frames, patches, dim, heads, text_tokens=77, bytes_per_value=2)
    rows = {
        kind: {
            "scores per head": c.score_entries,
            "GFLOP": c.flops / 1e9,
            "GiB of scores": c.score_bytes / 2**30,
        }
        for kind, c in costs.items()
    }
    return pd.DataFrame(rows).T.astype({"scores per head": int})


def attention_measured(
    frames: int, sides: Sequence[int], dim: int = 64, heads: int = 4
) -> pd.DataFrame:
    """Measured MiB that one attention layer keeps for its backward pass: a row per patch grid.

    Columns: tokens, and one per kind and implementation.
    """
    rows = []
    for side in sides:
        n = side * side
        row: dict[str, float] = {"tokens": frames * n}
        for along in ("space", "both"):
            for how in ("naive", "fused"):
                kept = attention_memory(frames, n, dim, heads, along, how)
                row[f"{along}, {how}"] = kept / 2**20
        rows.append(row)
    return pd.DataFrame(rows)


def attention_flops_counted(frames: int, patches: int, dim: int, heads: int) -> dict[str, int]:
    """Work of the two products of attention as PyTorch's counter sees it, by kind."""
    q = torch.randn(1, frames, patches, dim)

    def run(tokens: Tensor) -> None:
        split = tokens.unflatten(-1, (heads, -1)).transpose(1, 2)
        F.scaled_dot_product_attention(split, split, split)

    views = {"spatial": q[0], "temporal": q[0].transpose(0, 1), "full": q.flatten(1, 2)}
    return {kind: count_flops(lambda view=view: run(view)) for kind, view in views.items()}


# conditioning and depth
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


# diffusion
def printed_cosine_table(steps: int = 1000) -> Tensor:
    """The book's cosine schedule: a cumulative quantity, accumulated once more."""
    u = torch.arange(steps) / steps
    signal = ((u + 0.008) / 1.008 * math.pi / 2).cos().square()
    return (signal / signal[0]).cumprod(0)


def idle_loss(table: Tensor, seed: int = 0) -> float:
    """Loss, on this schedule, of a model that answers "the noise is what I was given"."""
    g = torch.Generator().manual_seed(seed)
    x, noise = torch.randn(2, 50_000, generator=g)
    t = torch.randint(0, len(table), (50_000,), generator=g)
    x_t = table[t].sqrt() * x + (1 - table[t]).sqrt() * noise
    return float((x_t - noise).square().mean())


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


def overfit(
    model: Latte,
    scheduler: NoiseScheduler,
    latents: Tensor,
    steps: int,
    on_step: Callable[[], None] = lambda: None,
    seed: int = 0,
    **condition: Tensor,
) -> list[float]:
    """Train on one batch of latents [B, C, T, h, w] only; returns the squared error of each
    step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.98))
    g, losses = torch.Generator().manual_seed(seed), []
    for _ in range(steps):
        noise = torch.randn(latents.shape, generator=g)
        t = scheduler.sample_timesteps(len(latents), g)
        x_t = scheduler.add_noise(latents, noise, t)
        output = model(x_t, t, **condition)
        loss = diffusion_loss(scheduler, output, latents, noise, x_t, t)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        losses.append(loss.mse.mean().item())
        on_step()
    return losses


def sampler_differences(steps: int = 12, seed: int = 0) -> dict[str, float]:
    """Our samplers and diffusers' schedulers walk side by side; the largest difference of any
    step, relative to the size of the sample."""
    from diffusers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler

    cosine = NoiseScheduler(schedule="cosine", prediction="v")
    settings = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}
    pairs = {
        "DDPM": (DDPMSampler(cosine, steps), DDPMScheduler(clip_sample=False, **settings)),
        "DDIM": (DDIMSampler(cosine, steps), DDIMScheduler(clip_sample=False, **settings)),
        "Euler (flow matching)": (
            FlowEulerSampler(FlowMatchingPath(), steps),
            FlowMatchEulerDiscreteScheduler(),
        ),
    }
    worst = dict.fromkeys(pairs, 0.0)
    for name, (ours, theirs) in pairs.items():
        theirs.set_timesteps(steps)
        g, h, answers = (torch.Generator().manual_seed(seed + i) for i in (1, 1, 2))
        a = b = torch.randn(1, 4, 2, 8, 8, generator=answers)
        for index, t in enumerate(theirs.timesteps):
            output = 0.5 * b + torch.randn(b.shape, generator=answers)
            a = ours.step(output, index, a, g).latents
            b = theirs.step(output, t, b, generator=h).prev_sample
            gap = (a - b).abs().max() / (1 + b.abs().max())
            worst[name] = max(worst[name], float(gap))
    return worst
