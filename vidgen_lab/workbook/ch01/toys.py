"""The families of generative models on two numbers instead of a video: seconds of training each.

All three learn the same eight islands of points from the same samples with networks of the same
size, so their habits can be compared and counted. A fourth toy separates what is in a clip from how
it moves, the idea of MoCoGAN (Tulyakov et al. 2018).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

Array = np.ndarray


@dataclass(frozen=True)
class Mixture:
    """Equal Gaussian islands. means: [K, D]; spread: standard deviation of each island."""

    means: Array
    spread: float

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Draw n points, [n, D]."""
        which = rng.integers(len(self.means), size=n)
        return self.means[which] + self.spread * rng.standard_normal((n, self.means.shape[1]))

    def density(self, x: Array, signal: float = 1.0) -> Array:
        """Exact density at x [N, D] after noising: sqrt(signal) x0 + sqrt(1 - signal) noise."""
        variance = signal * self.spread**2 + 1 - signal
        square = ((x[:, None] - signal**0.5 * self.means) ** 2).sum(-1)
        norm = (2 * np.pi * variance) ** (self.means.shape[1] / 2)
        return np.exp(-square / (2 * variance)).mean(axis=1) / norm

    def denoise(self, x: Array, signal: float) -> Array:
        """The best possible guess of the clean point given a noisy one: E[x0 | x], exactly."""
        variance = signal * self.spread**2 + 1 - signal
        distance = x[:, None] - signal**0.5 * self.means  # [N, K, D]
        weight = -(distance**2).sum(-1) / (2 * variance)
        weight = np.exp(weight - weight.max(axis=1, keepdims=True))
        weight /= weight.sum(axis=1, keepdims=True)
        guess = self.means + signal**0.5 * self.spread**2 / variance * distance
        return (weight[..., None] * guess).sum(axis=1)


def ring(islands: int = 8, radius: float = 2.0, spread: float = 0.12) -> Mixture:
    """Islands on a circle, the classic test for forgotten modes."""
    angle = np.arange(islands) * 2 * np.pi / islands
    return Mixture(radius * np.stack([np.cos(angle), np.sin(angle)], axis=1), spread)


def signal_share(time: Array | float) -> Array | float:
    """Cosine schedule: share of signal variance left at time 0 (clean) .. 1 (pure noise)."""
    return np.cos(np.asarray(time) * np.pi / 2) ** 2


def sample_diffusion(
    denoise: Callable[[Array, float], Array],
    n: int,
    dims: int,
    steps: int,
    rng: np.random.Generator,
) -> Array:
    """Deterministic (DDIM) sampling; returns the whole path [steps + 1, n, dims], noise first.

    denoise: maps (noisy points [n, dims], signal share) to a guess of the clean points.
    """
    times = np.linspace(1, 0, steps + 1)
    x = rng.standard_normal((n, dims))
    path = [x]
    for now, later in zip(times, times[1:], strict=False):
        signal, next_signal = signal_share(now), signal_share(later)
        clean = denoise(x, float(signal))
        noise = (x - signal**0.5 * clean) / max((1 - signal) ** 0.5, 1e-8)
        x = next_signal**0.5 * clean + (1 - next_signal) ** 0.5 * noise
        path.append(x)
    return np.stack(path)


def _network(inputs: int, outputs: int, width: int = 96) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, width), nn.ReLU(),
        nn.Linear(width, width), nn.ReLU(),
        nn.Linear(width, outputs),
    )  # fmt: skip


def _batch(data: Mixture, n: int, rng: np.random.Generator) -> torch.Tensor:
    return torch.from_numpy(data.sample(n, rng)).float()


@dataclass(frozen=True)
class Trained:
    """What a toy learned. samples: [1000, 2]; history: one number per moment of the training."""

    samples: Array
    history: Array


def train_gan(
    data: Mixture,
    generator_rate: float = 1e-3,
    critic_rate: float = 1e-3,
    momentum: float = 0.5,
    steps: int = 1200,
    seed: int = 0,
) -> Trained:
    """A plain GAN with the loss of Goodfellow et al. 2014.

    generator_rate, critic_rate: learning rates; momentum: Adam's first beta.
    history: islands found at 30 moments of the training.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    generator, critic = _network(2, 2), _network(2, 1)
    optimizer_g = torch.optim.Adam(generator.parameters(), generator_rate, (momentum, 0.99))
    optimizer_c = torch.optim.Adam(critic.parameters(), critic_rate, (momentum, 0.99))
    probe, found = torch.randn(1000, 2), []
    for step in range(steps):
        fake = generator(torch.randn(256, 2))
        real_loss = F.softplus(-critic(_batch(data, 256, rng))).mean()
        _descend(optimizer_c, real_loss + F.softplus(critic(fake.detach())).mean())
        _descend(optimizer_g, F.softplus(-critic(fake)).mean())
        if (step + 1) % (steps // 30) == 0:
            samples = generator(probe).detach().numpy()
            found.append(score(samples, data)["islands found"])
    return Trained(samples, np.array(found))


def train_vae(data: Mixture, steps: int = 1200, seed: int = 0) -> Trained:
    """A VAE with a one-number latent space; history: the loss."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    encoder, decoder = _network(2, 2), _network(1, 2)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer, losses = torch.optim.Adam(parameters, 2e-3), []
    for _ in range(steps):
        x = _batch(data, 256, rng)
        mean, log_variance = encoder(x).chunk(2, dim=1)
        latent = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        rebuilt = ((decoder(latent) - x) ** 2).sum(1).mean() / (2 * 0.3**2)
        to_normal = (mean**2 + log_variance.exp() - 1 - log_variance).sum(1).mean() / 2
        losses.append(_descend(optimizer, rebuilt + to_normal))
    with torch.no_grad():
        samples = decoder(torch.randn(1000, 1)).numpy()
    return Trained(samples, np.array(losses))


def train_denoiser(data: Mixture, steps: int = 1500, seed: int = 0) -> Trained:
    """A diffusion model with CogVideoX's objective (v-prediction); history: the loss."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network, losses = _network(3, 2), []
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    slow_down = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        x, noise = _batch(data, 256, rng), torch.randn(256, 2)
        signal = torch.from_numpy(signal_share(rng.random((256, 1)))).float()
        noisy = signal.sqrt() * x + (1 - signal).sqrt() * noise
        velocity = signal.sqrt() * noise - (1 - signal).sqrt() * x
        guess = network(torch.cat([noisy, signal], dim=1))
        losses.append(_descend(optimizer, ((guess - velocity) ** 2).sum(1).mean()))
        slow_down.step()

    def denoise(points: Array, signal: float) -> Array:
        rows = np.concatenate([points, np.full((len(points), 1), signal)], axis=1)
        with torch.no_grad():
            velocity = network(torch.from_numpy(rows).float()).numpy()
        return signal**0.5 * points - (1 - signal) ** 0.5 * velocity

    path = sample_diffusion(denoise, 1000, 2, 40, np.random.default_rng(seed))
    return Trained(path[-1], np.array(losses))


def _descend(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> float:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def score(samples: Array, data: Mixture) -> dict[str, float]:
    """Count what a generator does with the islands.

    islands found: islands that receive at least a third of their fair share of the samples;
    stray: share of samples farther than four spreads from every island.
    """
    distance = np.linalg.norm(samples[:, None] - data.means, axis=-1)
    home = distance.min(axis=1) < 4 * data.spread
    fair = len(samples) / len(data.means)
    visits = np.bincount(distance.argmin(axis=1)[home], minlength=len(data.means))
    return {
        "islands found": int((visits > fair / 3).sum()),
        "stray": float(1 - home.mean()),
        "busiest island": float(visits.max() / len(samples)),
    }


CONTENTS = ("big red", "small red", "big green", "small green", "big blue", "small blue")
PATHS = ("left", "right", "up", "down", "circle", "still")


def dot_clips(size: int = 12, frames: int = 8) -> torch.Tensor:
    """Every content with every path: [6 contents, 6 paths, T, 3, size, size], values 0..1."""
    time = torch.linspace(-1, 1, frames)
    zero, angle = torch.zeros(frames), torch.pi * (time + 1)
    ways = [(-time, zero), (time, zero), (zero, -time), (zero, time),
            (angle.cos(), angle.sin()), (zero, zero)]  # fmt: skip
    centre = torch.stack([torch.stack(way, dim=1) for way in ways]) * 0.6  # [paths, T, 2]
    axis = torch.linspace(-1, 1, size)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1)  # [size, size, 2]
    distance = (grid - centre[:, :, None, None]).norm(dim=-1)  # [paths, T, size, size]
    clips = []
    for content in CONTENTS:
        radius = 0.45 if content.startswith("big") else 0.22
        disc = torch.sigmoid((radius - distance) * 20)
        paint = torch.zeros(3)
        paint[("red", "green", "blue").index(content.split()[1])] = 1.0
        clips.append(disc[:, :, None] * paint[:, None, None])
    return torch.stack(clips)


class ContentMotion(nn.Module):
    """One code for what is in the clip, a recurrent chain of codes for how it moves.

    The split of MoCoGAN's generator; it is fitted here by reconstruction instead of against a
    discriminator, so that it trains in seconds and never collapses.
    """

    def __init__(self, contents: int, motions: int, frames: int, size: int, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.frames, self.size = frames, size
        self.content = nn.Embedding(contents, 6)
        self.motion = nn.Embedding(motions, 8)
        self.chain = nn.GRU(8, 8, batch_first=True)
        self.draw = nn.Sequential(nn.Linear(14, 128), nn.ReLU(), nn.Linear(128, 3 * size * size))

    def forward(self, content: torch.Tensor, motion: torch.Tensor) -> torch.Tensor:
        """content, motion: indices [B]; returns clips [B, T, 3, size, size]."""
        moves, _ = self.chain(self.motion(motion)[:, None].expand(-1, self.frames, -1))
        stays = self.content(content)[:, None].expand(-1, self.frames, -1)
        pixels = self.draw(torch.cat([stays, moves], dim=-1)).sigmoid()
        return pixels.unflatten(-1, (3, self.size, self.size))


def fit_content_motion(
    clips: torch.Tensor, held_out: torch.Tensor, steps: int = 600, seed: int = 0
) -> ContentMotion:
    """Fit on all pairs where held_out [contents, motions] is False."""
    contents, motions, frames, _, size, _ = clips.shape
    model = ContentMotion(contents, motions, frames, size, seed)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    what, how = torch.nonzero(~held_out, as_tuple=True)
    for _ in range(steps):
        _descend(optimizer, F.mse_loss(model(what, how), clips[what, how]))
    return model.eval()
