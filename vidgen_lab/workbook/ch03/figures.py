"""Figures of chapter 3, each drawn from numbers that a cell has just computed."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from vidgen_lab.workbook.show import (
    BLUE,
    CYCLE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    RED,
    chart,
    new_figure,
)

RICH = 256  # colours of a figure with a colour scale, so that its text keeps its own


@chart
def impulses(responses: Mapping[str, np.ndarray]) -> tuple[Any, str]:
    """Where the light of one bright frame goes: share per frame [T], one panel per kernel."""
    figure, axes = new_figure(1.9, 1, len(responses), sharey=True)
    words = []
    for axis, (name, share), colour in zip(axes, responses.items(), CYCLE, strict=False):
        at = np.arange(len(share)) - len(share) // 2
        axis.bar(at, share, color=[INK if i == 0 else colour for i in at], width=0.7)
        axis.set(title=name, xlabel="frames after the flash", ylim=(0, 1.08))
        axis.set_xticks(at[::2])
        reached = [str(i) for i, s in zip(at, share, strict=True) if s > 0]
        words.append(f"{name}: frames {', '.join(reached)}")
    axes[0].set_ylabel("share")
    return figure, "Response in time to one bright frame. " + "; ".join(words) + "."


@chart
def rate_quality(
    curves: Mapping[str, pd.DataFrame], points: Mapping[str, tuple[float, float]]
) -> tuple[Any, str]:
    """Quality in dB against how many numbers are kept per pixel: curves of codes, single points."""
    figure, axis = new_figure(2.9)
    for (name, curve), colour in zip(curves.items(), (GREY, BLUE), strict=False):
        axis.plot(curve["values per pixel"], curve["dB"], "o-", color=colour, label=name)
    for (name, (rate, db)), colour in zip(points.items(), (ORANGE, GREEN, RED), strict=False):
        axis.plot(rate, db, "*", ms=14, color=colour, label=f"{name}: {db:.1f} dB")
    axis.axvline(3, color=GREY, lw=1, ls="--")
    axis.annotate("the pixels themselves", (2.9, axis.get_ylim()[0]), ha="right", va="bottom",
                  fontsize=8, color=GREY)  # fmt: skip
    axis.set_xscale("log")
    axis.set(xlabel="numbers kept per pixel", ylabel="PSNR, dB")
    axis.legend(loc="upper left")
    stars = "; ".join(f"{n} {db:.1f} dB at {rate:.3g}" for n, (rate, db) in points.items())
    lines = "; ".join(f"{n} from {c.dB.iloc[0]:.1f} to {c.dB.iloc[-1]:.1f} dB"
                      for n, c in curves.items())  # fmt: skip
    return figure, f"Reconstruction quality by numbers per pixel. {lines}; {stars}."


@chart
def position_maps(maps: Mapping[str, np.ndarray], query: tuple[int, int]) -> tuple[Any, str, int]:
    """How alike the codes of all places are to the code of one place: grids side by side."""
    figure, axes = new_figure(2.75, 1, len(maps))
    for axis, (name, grid) in zip(np.atleast_1d(axes), maps.items(), strict=True):
        image = axis.imshow(grid, cmap="magma", vmin=0, vmax=1)
        axis.plot(query[1], query[0], "s", ms=9, mfc="none", mec="white", mew=1.6)
        axis.set(title=name, xticks=[], yticks=[])
        axis.grid(False)
    figure.colorbar(image, ax=axes, shrink=0.85, label="cosine similarity")
    words = [f"{n}: lowest {g.min():.2f}" for n, g in maps.items()]
    return figure, f"Similarity of positions to place {query}. " + "; ".join(words) + ".", RICH


@chart
def codes(table: np.ndarray, title: str, ylabel: str, last: int) -> tuple[Any, str, int]:
    """Sinusoidal codes [positions, channels] of even positions from 0 to `last`, as a picture."""
    figure, axis = new_figure(2.1)
    rows, columns = table.shape
    half = last / (rows - 1) / 2  # a row is centred on its position
    axis.imshow(table, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto", interpolation="nearest",
                extent=(-0.5, columns - 0.5, last + half, -half))  # fmt: skip
    axis.set(title=title, xlabel="channel", ylabel=ylabel)
    axis.grid(False)
    alt = f"{title}: {rows} rows of {columns} channels, slow waves beside fast ones."
    return figure, alt, RICH


@chart
def kept_memory(measured: pd.DataFrame) -> tuple[Any, str]:
    """Bytes kept for the backward pass against the number of tokens; both axes logarithmic."""
    figure, axis = new_figure(2.9)
    looks = {
        "both, naive": (RED, "o-", "full, written out"),
        "space, naive": (ORANGE, "o-", "within frames, written out"),
        "both, fused": (BLUE, "s-", "full, fused"),
        "space, fused": (GREEN, "x--", "within frames, fused"),
    }
    for column, (colour, mark, label) in looks.items():
        axis.plot(measured.tokens, measured[column], mark, color=colour, label=label)
        if column == "space, fused":
            continue  # lies on the line of the full one
        slope = np.polyfit(np.log(measured.tokens), np.log(measured[column]), 1)[0]
        axis.annotate(f" ~ tokens^{slope:.1f}",
                      (measured.tokens.iloc[-1], measured[column].iloc[-1]),
                      va="center", fontsize=8.5, color=colour)  # fmt: skip
    axis.set_xscale("log", base=2)
    axis.set_yscale("log", base=2)
    axis.set_xticks(measured.tokens, [f"{n:,}" for n in measured.tokens])
    axis.set_xlim(right=measured.tokens.iloc[-1] * 1.9)
    ticks = [2.0**p for p in range(-2, 9, 2)]
    axis.set_yticks(ticks, [f"{t:g}" for t in ticks])
    axis.minorticks_off()
    axis.set(xlabel="tokens of the clip", ylabel="MiB kept")
    axis.legend(loc="upper left")
    last = measured.iloc[-1]
    alt = ", ".join(f"{label} {last[c]:.1f} MiB" for c, (_, _, label) in looks.items())
    return figure, f"Memory kept for the backward pass at {last.tokens:,.0f} tokens: {alt}."


@chart
def fading(table: pd.DataFrame) -> tuple[Any, str]:
    """Correlation of a stack's output with its input, by depth: one line per column."""
    figure, axis = new_figure(2.3)
    for column, colour in zip(table, (RED, GREEN), strict=False):
        axis.plot(table.index, table[column], "o-", color=colour, label=column)
    axis.set(xlabel="blocks", ylabel="output like input", ylim=(-0.05, 1.1), xticks=table.index)
    axis.legend(loc="lower left")
    ends = "; ".join(f"{c} {table[c].iloc[-1]:.2f}" for c in table)
    return figure, f"After {table.index[-1]} blocks the output still resembles the input: {ends}."


@chart
def schedules(tables: Mapping[str, np.ndarray]) -> tuple[Any, str]:
    """Signal fraction, and signal-to-noise ratio in powers of ten, over the timesteps."""
    figure, (left, right) = new_figure(2.6, 1, 2)
    halves = []
    for (name, abar), colour in zip(tables.items(), CYCLE, strict=False):
        with np.errstate(divide="ignore"):
            snr = np.log10(abar / np.maximum(1 - abar, 1e-12))
        left.plot(abar, color=colour, label=name)
        right.plot(np.where(np.isfinite(snr), snr, np.nan), color=colour)
        halves.append(f"{name} at step {int((abar < 0.5).argmax())}")
    left.set(title="Signal left", xlabel="timestep", ylabel=r"$\bar\alpha_t$")
    right.set(title="Signal-to-noise ratio", xlabel="timestep", ylabel="powers of ten")
    right.set_ylim(-6, 4)
    left.legend()
    return figure, "Half the signal is gone: " + ", ".join(halves) + "."


@chart
def losses(curves: Mapping[str, Sequence[float]], ylabel: str, smooth: int = 9) -> tuple[Any, str]:
    """Losses over the steps, faint as measured, strong as a running mean."""
    figure, axis = new_figure(2.3)
    words = []
    for (name, values), colour in zip(curves.items(), CYCLE, strict=False):
        series = pd.Series(values)
        mean = series.rolling(smooth, min_periods=1).mean()
        axis.plot(series, color=colour, alpha=0.25, lw=1)
        axis.plot(mean, color=colour, label=name)
        words.append(f"{name} from {mean.iloc[0]:.3g} to {mean.iloc[-1]:.3g}")
    axis.set(xlabel="step", ylabel=ylabel, ylim=0)
    axis.legend()
    return figure, f"{ylabel}: " + "; ".join(words) + "."


@chart
def samples_1d(
    found: Mapping[str, np.ndarray], mean: float = 2.0, std: float = 0.5
) -> tuple[Any, str]:
    """Histograms of one-dimensional samples over the true density."""
    figure, axes = new_figure(2.1, 1, len(found), sharex=True)
    grid = np.linspace(0, 4, 200)
    truth = np.exp(-0.5 * ((grid - mean) / std) ** 2) / (std * np.sqrt(2 * np.pi))
    words = []
    for axis, (name, x), colour in zip(axes, found.items(), (BLUE, GREEN, RED), strict=False):
        axis.hist(x, bins=80, range=(0, 4), density=True, color=colour, alpha=0.55)
        axis.plot(grid, truth, color=INK, lw=1.3)
        axis.set(title=name, yticks=[], ylim=(0, 1.6 * truth.max()))
        axis.set_xlabel(f"mean {x.mean():.2f}, spread {x.std():.2f}", fontsize=8.5)
        axis.grid(False)
        words.append(f"{name} mean {x.mean():.2f} spread {x.std():.2f}")
    return figure, f"Truth: mean {mean}, spread {std}. " + "; ".join(words) + "."


@chart
def modulation(strength: Mapping[str, np.ndarray], timesteps: Sequence[int]) -> tuple[Any, str]:
    """Strength of shift, scale and gate: a line per timestep over the blocks [steps, blocks]."""
    figure, axes = new_figure(2.4, 1, len(strength))
    for axis, (name, values) in zip(axes, strength.items(), strict=True):
        for row, t, colour in zip(values, timesteps, (GREEN, BLUE, PURPLE, RED), strict=False):
            axis.plot(range(1, len(row) + 1), row, "o-", ms=3.5, color=colour, label=f"t = {t}")
        axis.set(title=name, xlabel="block", xticks=range(1, values.shape[1] + 1))
        axis.set_ylim(0, 1.12 * values.max() + 1e-9)
    axes[0].set_ylabel("mean size")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=4)
    noisy = {n: v[-1].mean() / max(v[0].mean(), 1e-9) for n, v in strength.items()}
    words = ", ".join(f"{n} {r:.2f} times" for n, r in noisy.items())
    return figure, f"From t = {timesteps[0]} to t = {timesteps[-1]} the mean size changes: {words}."


@chart
def sweep(table: pd.DataFrame, xlabel: str) -> tuple[Any, str]:
    """One panel per column of a table over its index."""
    figure, axes = new_figure(2.2, 1, table.shape[1])
    for axis, column, colour in zip(np.atleast_1d(axes), table, CYCLE, strict=False):
        axis.plot(table.index, table[column], "o-", color=colour)
        axis.set(title=column, xlabel=xlabel, ylim=(0, 1.12 * table[column].max() + 1e-9))
        axis.set_xticks(table.index)
    words = "; ".join(f"{c} from {table[c].iloc[0]:.2f} to {table[c].iloc[-1]:.2f}" for c in table)
    return figure, f"Over {xlabel} {table.index[0]} to {table.index[-1]}: {words}."


@chart
def token_costs(table: pd.DataFrame) -> tuple[Any, str]:
    """Work of one forward pass by patch size, split into attention and everything else."""
    figure, axis = new_figure(2.1)
    y = np.arange(len(table))
    axis.barh(y, table["products"], color=BLUE, height=0.6, label="matrices")
    axis.barh(y, table["attention"], left=table["products"], color=ORANGE, height=0.6,
              label="attention itself")  # fmt: skip
    labels = [f"patch {p}: {n:,} tokens" for p, n in table["tokens"].items()]
    axis.set(yticks=y, yticklabels=labels, xlabel="TFLOP per forward pass")
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.legend(loc="upper right")
    share = table.attention / (table.attention + table["products"])
    words = "; ".join(f"patch {p} {s:.0%}" for p, s in share.items())
    return figure, f"Share of attention in the work: {words}."


def exploded(frame: np.ndarray, patch: int, scale: int = 6, gap: int = 3) -> np.ndarray:
    """A frame [H, W, 3] cut into its patches, pulled apart a little, enlarged: uint8."""
    big = np.kron(frame, np.ones((scale, scale, 1), np.uint8))
    side = patch * scale
    rows, columns = big.shape[0] // side, big.shape[1] // side
    sheet = np.full((rows * (side + gap) - gap, columns * (side + gap) - gap, 3), 255, np.uint8)
    for r in range(rows):
        for c in range(columns):
            tile = big[r * side : (r + 1) * side, c * side : (c + 1) * side]
            y, x = r * (side + gap), c * (side + gap)
            sheet[y : y + side, x : x + side] = tile
    return sheet
