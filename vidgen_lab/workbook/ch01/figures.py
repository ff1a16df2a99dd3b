"""Figures of chapter 1 that explain: growth, diffusion, toy families, attention, memory.

Every function returns a picture for the notebook, at one width, with alt text that says what its
numbers say. Figures of measured experiments are in `charts`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from vidgen_lab.workbook.ch01.toys import Mixture, sample_diffusion, signal_share
from vidgen_lab.workbook.show import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PAPER,
    PURPLE,
    RED,
    chart,
    new_figure,
)


@chart
def growth(frames: Sequence[int], values: Sequence[int], pairs: Sequence[int]) -> tuple[Any, str]:
    """Data and attention pairs against clip length, each relative to the first entry."""
    figure, (left, right) = new_figure(2.9, 1, 2)
    for axis, counts, colour, title in (
        (left, values, BLUE, "Values to produce: a straight line"),
        (right, pairs, RED, "Pairs of tokens to compare: a parabola"),
    ):
        factor = np.array(counts) / counts[0]
        axis.plot(frames, factor, "o-", color=colour)
        axis.set(title=title, xlabel="frames", ylabel=f"times {frames[0]} frame(s)", ylim=0)
        axis.text(
            frames[-1] * 0.86, factor[-1] * 0.95, f"× {factor[-1]:,.0f}", color=colour,
            ha="right", weight="bold",
        )  # fmt: skip
    alt = (
        f"From {frames[0]} to {frames[-1]} frames the data grow {values[-1] / values[0]:,.0f} "
        f"times, in a straight line; the attention pairs {pairs[-1] / pairs[0]:,.0f} times, "
        "in a curve."
    )
    return figure, alt


@chart
def sizes(bars: Mapping[str, int]) -> tuple[Any, str]:
    """Numbers of values on a logarithmic scale: a frame, a clip, its latents, its tokens."""
    figure, axis = new_figure(0.55 + 0.36 * len(bars))
    names, counts = list(bars)[::-1], list(bars.values())[::-1]
    axis.barh(names, counts, color=[GREEN, ORANGE, BLUE, GREY, GREY][: len(names)], height=0.62)
    axis.set_xscale("log")
    axis.set_xlim(right=max(counts) * 12)
    axis.grid(axis="y", visible=False)
    for y, count in enumerate(counts):
        axis.annotate(f" {count:,}", (count, y), va="center", fontsize=9)
    return figure, "Bars: " + "; ".join(f"{n}: {c:,}" for n, c in bars.items())


@chart
def islands(
    panels: Mapping[str, np.ndarray], data: Mixture, notes: Sequence[str]
) -> tuple[Any, str]:
    """Samples of the toy generators [N, 2], one panel each, over the true islands."""
    figure, axes = new_figure(2.35, 1, len(panels), sharex=True, sharey=True)
    circle = np.stack([np.cos(np.linspace(0, 7, 60)), np.sin(np.linspace(0, 7, 60))])
    colours = (GREY, RED, RED, GREEN, BLUE)
    for axis, (name, points), colour, note in zip(
        axes, panels.items(), colours, notes, strict=False
    ):
        for mean in data.means:
            axis.plot(*(mean[:, None] + 4 * data.spread * circle), color="#c9c5b8", lw=0.8)
        axis.plot(*points.T, ".", ms=1.6, color=colour, alpha=0.6)
        axis.set(title=name, xlim=(-3, 3), ylim=(-3, 3), xticks=[], yticks=[], aspect="equal")
        axis.set_xlabel(note, fontsize=8.5)
        axis.spines[:].set_visible(False)
    return figure, "; ".join(f"{n}: {note}" for n, note in zip(panels, notes, strict=True))


@chart
def hopping(found: Mapping[str, np.ndarray], islands: int) -> tuple[Any, str]:
    """Islands found in the course of training, for several recipes of the same GAN."""
    figure, axis = new_figure(2.2)
    for (name, counts), colour in zip(found.items(), (GREEN, RED), strict=False):
        axis.step(np.linspace(0, 100, len(counts)), counts, where="mid", label=name, color=colour)
    axis.set(
        xlabel="training done, %", ylabel=f"islands found of {islands}", ylim=(-0.3, islands + 0.4)
    )
    axis.legend(loc="center right")
    ends = ", ".join(f"{name} ends with {counts[-1]}" for name, counts in found.items())
    return figure, f"Islands found over the training: {ends} of {islands}."


@chart
def exact_diffusion(data: Mixture, steps: int = 60, seed: int = 0) -> tuple[Any, str]:
    """One dimension, exact: density at every noise level, and paths that run back through it."""
    figure, axis = new_figure(2.9)
    grid, times = np.linspace(-3, 3, 241), np.linspace(1, 0, 160)
    rows = [data.density(grid[:, None], float(signal_share(t))) for t in times]
    field = np.stack([row / row.max() for row in rows], axis=1)
    axis.imshow(
        field, extent=(0, 1, -3, 3), aspect="auto", origin="lower", cmap="Blues", alpha=0.85
    )
    path = sample_diffusion(data.denoise, 14, 1, steps, np.random.default_rng(seed))[..., 0]
    axis.plot(np.linspace(0, 1, steps + 1), path, color=ORANGE, lw=1.1)
    axis.set(xlabel="pure noise  →  data", ylabel="value", ylim=(-3, 3), xticks=[])
    axis.grid(False)
    return (
        figure,
        f"Fourteen orange paths leave one broad hill and end on {len(data.means)} narrow ridges.",
    )


@chart
def swap_grid(rows: Mapping[str, np.ndarray]) -> tuple[Any, str]:
    """Strips of tiny frames [T, H, W, 3] (0..1), one row each, frames side by side."""
    figure, axes = new_figure(0.25 + 0.62 * len(rows), len(rows), 1)
    for axis, (name, frames) in zip(np.atleast_1d(axes), rows.items(), strict=True):
        gap = np.ones((frames.shape[1], 1, 3))
        tiles = [piece for frame in frames for piece in (frame, gap)]
        axis.imshow(np.concatenate(tiles, axis=1), interpolation="nearest")
        axis.set(xticks=[], yticks=[])
        axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8.5)
        axis.grid(False)
        axis.spines[:].set_visible(False)
    return figure, "Rows of frames: " + "; ".join(rows)


@chart
def bands(agreement: pd.DataFrame) -> tuple[Any, str]:
    """How finished each size of detail is, step by step (`watching.band_agreement`)."""
    figure, axis = new_figure(2.7)
    for name, colour in zip(agreement, (BLUE, GREEN, ORANGE, RED), strict=True):
        axis.plot(
            agreement.index,
            agreement[name].clip(lower=-0.1),
            "o-",
            ms=3.5,
            label=name,
            color=colour,
        )
    axis.axhline(0.5, color=GREY, lw=0.8, ls="--")
    axis.set(xlabel="denoising step", ylabel="share already there", ylim=(-0.12, 1.05))
    axis.legend(ncols=4, loc="lower right")
    half = {name: half_done(agreement)[name] for name in agreement}
    return figure, "Half finished at step: " + ", ".join(f"{k} {v:g}" for k, v in half.items())


def half_done(agreement: pd.DataFrame) -> pd.Series:
    """First step from which a band stays more than half finished."""
    behind = agreement < 0.5
    last = behind.iloc[::-1].idxmax().where(behind.any(), agreement.index[0] - 1)
    later = [agreement.index[agreement.index > step] for step in last]
    return pd.Series([s[0] if len(s) else np.nan for s in later], index=agreement.columns)


@chart
def parameter_bars(groups: Mapping[str, pd.Series]) -> tuple[Any, str]:
    """Where the parameters of several transformers are, as shares of each whole."""
    figure, axis = new_figure(0.9 + 0.45 * len(groups))
    palette = (BLUE, ORANGE, PURPLE, GREEN, GREY)
    for y, counts in enumerate(groups.values()):
        left = 0.0
        for (part, count), colour in zip(counts.items(), palette, strict=False):
            share = count / counts.sum()
            axis.barh(y, share, left=left, color=colour, label=part if y == 0 else None, height=0.6)
            if share > 0.04:
                axis.text(
                    left + share / 2, y, f"{share:.0%}", ha="center", va="center", color="white"
                )
            left += share
    labels = [f"{name}\n{c.sum() / 1e6:,.0f} M" for name, c in groups.items()]
    axis.set(yticks=range(len(groups)), yticklabels=labels, xticks=[], xlim=(0, 1))
    axis.invert_yaxis()
    axis.legend(
        ncols=5, loc="lower center", bbox_to_anchor=(0.45, 1), fontsize=7.5, columnspacing=1
    )
    axis.grid(False)
    axis.spines[:].set_visible(False)
    first = next(iter(groups.values()))
    shares = ", ".join(f"{part} {count / first.sum():.0%}" for part, count in first.items())
    return figure, f"Shares of the parameters of {next(iter(groups))}: {shares}."


@chart
def attention_bars(levels: Mapping[str, pd.DataFrame], even: pd.Series) -> tuple[Any, str]:
    """Attention mass by block at several noise levels; dots mark what even attention would give."""
    figure, axes = new_figure(2.8, 1, len(levels), sharey=True)
    for axis, (name, mass) in zip(np.atleast_1d(axes), levels.items(), strict=True):
        bottom = np.zeros(len(mass))
        for part, colour in zip(mass, (BLUE, ORANGE, PURPLE), strict=True):
            axis.bar(mass.index, mass[part], bottom=bottom, color=colour, label=part, width=0.8)
            bottom += mass[part].to_numpy()
        for edge in np.cumsum(even.to_numpy())[:-1]:
            axis.axhline(edge, color="white", lw=1.4, ls=":")
        axis.set(title=name, xlabel="block", xticks=mass.index, ylim=(0, 1))
        axis.grid(False)
    np.atleast_1d(axes)[0].set_ylabel("share of the attention")
    handles, labels = np.atleast_1d(axes)[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=3, fontsize=8.5)
    text = "; ".join(
        f"{name}: " + ", ".join(f"{p} {v:.0%}" for p, v in mass.mean().items())
        for name, mass in levels.items()
    )
    return figure, f"Mean attention mass. {text}."


@chart
def attention_masks(masks: Mapping[str, np.ndarray], notes: Sequence[str]) -> tuple[Any, str]:
    """Who may look at whom: boolean [N, N] masks side by side."""
    figure, axes = new_figure(2.5, 1, len(masks))
    for axis, (name, mask), note in zip(axes, masks.items(), notes, strict=True):
        axis.imshow(mask, cmap="Blues", vmin=0, vmax=1.4, interpolation="nearest")
        axis.set(title=name, xticks=[], yticks=[])
        axis.set_xlabel(note, fontsize=8.5)
        axis.grid(False)
    alt = "; ".join(f"{n}: {note}" for n, note in zip(masks, notes, strict=True))
    return figure, f"Who looks at whom. {alt}."


@chart
def memory_bars(peaks: Mapping[str, float], cards: Mapping[str, float]) -> tuple[Any, str]:
    """Peak memory of several settings against the memory of some cards, in GiB."""
    figure, axis = new_figure(0.8 + 0.36 * len(peaks))
    names = list(peaks)[::-1]
    values = [peaks[name] for name in names]
    axis.barh(names, values, color=BLUE, height=0.6)
    for y, value in enumerate(values):
        axis.annotate(f" {value:.1f}", (value, y), va="center", fontsize=8.5, zorder=5,
                      bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.5})  # fmt: skip
    for card, gib in cards.items():
        axis.axvline(gib, color=RED, lw=1, ls="--", zorder=1)
        axis.annotate(card, (gib, len(names) - 0.45), ha="center", fontsize=8, color=RED,
                      bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.5})  # fmt: skip
    axis.set(xlabel="GiB", xlim=(0, max(*values, *cards.values()) * 1.1), ylim=(-0.6, len(names)))
    axis.grid(axis="y", visible=False)
    return figure, "Peak GiB: " + "; ".join(f"{n} {v:.1f}" for n, v in peaks.items())
