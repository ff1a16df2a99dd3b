"""Where does this token look? The attention of a trained Latte, kept and counted."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vidgen_lab.latte import Latte, NoiseScheduler, capture_attention
from vidgen_lab.latte.text import TextEmbedding


@dataclass(frozen=True)
class AttentionMaps:
    """All attention of one forward pass on a clip of T frames of rows x cols tokens.

    space: [pairs, T, heads, N, N]; time: [pairs, N, heads, T, T]; words: [pairs, heads, T, N, L].
    Every last axis sums to 1.
    """

    space: Tensor
    time: Tensor
    words: Tensor
    rows: int
    cols: int

    @property
    def pairs(self) -> int:
        return len(self.space)

    @property
    def heads(self) -> int:
        return self.space.shape[2]


@torch.no_grad()
def look(
    model: Latte, scheduler: NoiseScheduler, latents: Tensor, text: TextEmbedding, timestep: int
) -> AttentionMaps:
    """Denoise one clip's latents [1, C, T, h, w] at a timestep and keep where the model looks."""
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([timestep])
    with capture_attention(model) as maps:
        model(scheduler.add_noise(latents, noise, t), t, text=text.embeddings, text_mask=text.mask)
    rows, cols = model.patch_embed.grid(latents)
    heads, frames = model.config.num_heads, latents.shape[2]

    def stack(name: str) -> Tensor:
        return torch.stack([maps[f"blocks.{i}.{name}"][0] for i in range(model.config.pairs)])

    return AttentionMaps(
        space=stack("spatial.attention"),
        time=stack("temporal.attention").unflatten(2, (rows * cols, heads))[:, 0],
        words=stack("spatial.cross")[:, 0].unflatten(2, (frames, rows * cols)),
        rows=rows,
        cols=cols,
    )


def pick(
    maps: AttentionMaps, frame: int, row: int, col: int, pair: int, head: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One token's attention: over its frame [rows, cols], over time [T], over the words [L].

    head: a number, or None for the mean of all.
    """
    token, chosen = row * maps.cols + col, slice(None) if head is None else slice(head, head + 1)
    space = maps.space[pair, frame, chosen, token].mean(0).reshape(maps.rows, maps.cols)
    time = maps.time[pair, token, chosen, frame].mean(0)
    words = maps.words[pair, chosen, frame, token].mean(0)
    return space.numpy(), time.numpy(), words.numpy()


def share_on(maps: AttentionMaps, mask: np.ndarray, inside: bool = True) -> float:
    """How much more than evenly the tokens inside (or outside) a mask look into it, within their
    frame.

    mask: bool [T, H, W] in pixels. 1 is what even attention gives; mean over blocks and heads.
    """
    frames = mask.shape[0]
    cells = mask.reshape(frames, maps.rows, mask.shape[1] // maps.rows, maps.cols, -1)
    cells = torch.from_numpy(cells.mean(axis=(2, 4)).reshape(frames, -1) > 0.25)  # [T, N]
    ratios = []
    for t in range(frames):
        asks = cells[t] if inside else ~cells[t]
        if 0 < int(cells[t].sum()) < cells.shape[1] and bool(asks.any()):
            mass = maps.space[:, t][:, :, asks][..., cells[t]].sum(-1).mean()
            ratios.append(float(mass / cells[t].float().mean()))
    return float(np.mean(ratios))
