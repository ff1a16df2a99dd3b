"""Figures of chapter 1 that are drawn from measurements of this machine: experiments, summary."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from vidgen_lab.workbook.show import BLUE, CYCLE, GREEN, GREY, ORANGE, RED, chart, new_figure


@chart
def by_setting(
    table: pd.DataFrame, metrics: Sequence[str], xlabel: str, units: Mapping[str, str] | None = None
) -> tuple[Any, str]:
    """Every clip as a dot, with the mean of each setting: one panel for each metric.

    Means are joined by a line where the settings are numbers, for between words lies nothing.
    table: columns `setting`, `seed` and the metrics (`experiments.Experiment.table`).
    """
    figure, axes = new_figure(2.55, 1, len(metrics))
    settings = list(dict.fromkeys(table.setting))
    words = []
    for axis, metric, colour in zip(np.atleast_1d(axes), metrics, CYCLE, strict=False):
        means = table.groupby("setting", sort=False)[metric].mean()
        for x, setting in enumerate(settings):
            dots = table.loc[table.setting == setting, metric]
            axis.plot([x] * len(dots), dots, "o", color=colour, alpha=0.35, ms=5, mew=0)
        if pd.api.types.is_numeric_dtype(table.setting):
            axis.plot(range(len(settings)), means, "-", color=colour, lw=2)
        else:
            axis.plot(range(len(settings)), means, "_", color=colour, ms=26, mew=2.5)
        unit = (units or {}).get(metric, "")
        axis.set(title=metric + (f" [{unit}]" if unit else ""), xlabel=xlabel)
        axis.set_xticks(range(len(settings)), settings, fontsize=8)
        axis.ticklabel_format(axis="y", useOffset=False)
        if metric == "adherence":
            axis.set_ylim(-0.05, 1.05)
        axis.margins(x=0.15)
        words.append(metric + " " + ", ".join(f"{s}: {means[s]:.3g}" for s in settings))
    return figure, "Means by setting. " + "; ".join(words) + "."


@chart
def rating_bars(ratings: pd.Series) -> tuple[Any, str]:
    """Ratings on the Elo scale, one bar each."""
    figure, axis = new_figure(0.7 + 0.34 * len(ratings))
    axis.barh(
        [str(name) for name in ratings.index], ratings - 1000, left=1000, color=BLUE, height=0.6
    )
    for y, value in enumerate(ratings):
        side = "left" if value >= 1000 else "right"
        axis.annotate(f" {value:.0f} ", (value, y), va="center", ha=side, fontsize=8.5)
    axis.set_xlabel("rating; 1000 is the average, 400 points are odds of ten to one")
    axis.margins(x=0.18)
    axis.grid(axis="y", visible=False)
    return figure, "Ratings: " + ", ".join(f"{n}: {v:.0f}" for n, v in ratings.items())


@chart
def flow_of_time(clips: Mapping[str, Sequence[float]], ylabel: str) -> tuple[Any, str]:
    """A number for every pair of neighbouring frames, one line for each clip."""
    figure, axis = new_figure(2.4)
    for name, values in clips.items():
        axis.plot(range(1, len(values) + 1), values, "o-", ms=3, label=name)
    axis.set(xlabel="frame pair", ylabel=ylabel)
    figure.legend(ncols=len(clips), loc="outside upper right")
    lows = ", ".join(f"{name} {min(values):.2f}" for name, values in clips.items())
    return figure, f"{ylabel} along the clip; lowest values: {lows}."


@chart
def learning_summary(
    steps: pd.DataFrame,
    styles: pd.DataFrame,
    agreement: pd.Series,
    quality: str,
) -> tuple[Any, str]:
    """The chapter in four panels, each from this machine's own measurements.

    steps, styles: tables of the two experiments; quality: the column that counts as quality;
    agreement: `rating.concordance` of the automatic metrics with it.
    """
    figure, ((a, b), (c, d)) = new_figure(5.6, 2, 2)
    means = steps.groupby("setting")[[quality, "seconds"]].mean()
    _quality_and_time(a, steps, means, quality)
    colours = [GREEN if v > 0.6 else ORANGE if v >= 0.4 else RED for v in agreement]
    b.barh(list(agreement.index), agreement.fillna(0), color=colours, height=0.6)
    b.axvline(0.5, color=GREY, ls="--", lw=1)
    b.set(title=f"Do the metrics agree with {quality}?", xlabel="pairs ranked alike; 0.5 is a coin")
    b.set_xlim(0, 1)
    b.grid(axis="y", visible=False)
    fixed, per_step = time_model(steps)
    counts = np.array(means.index, dtype=float)
    places = range(len(counts))
    c.bar(places, [fixed] * len(counts), color=GREY, width=0.55, label="once per clip")
    c.bar(places, per_step * counts, bottom=fixed, color=ORANGE, width=0.55, label="steps")
    c.set_xticks(places, means.index)
    c.set(title=f"A clip costs {fixed:.1f} s + {per_step:.2f} s a step", xlabel="steps", ylabel="s")
    c.legend(loc="upper left")
    for x, (_, rows) in enumerate(styles.groupby("setting", sort=False)):
        d.plot([x] * len(rows), rows[quality], "o", color=BLUE, alpha=0.35, mew=0)
        d.plot(x, rows[quality].mean(), "_", color=BLUE, ms=26, mew=2.5)
    d.set_xticks(range(styles.setting.nunique()), list(dict.fromkeys(styles.setting)))
    d.set(title=f"{quality} by wording", ylim=(-0.05, 1.1))
    d.margins(x=0.25)
    best = means[quality].idxmax()
    alt = (
        f"Four panels from this machine. Best {quality} at {best} steps; a clip costs "
        f"{fixed:.1f} s and {per_step:.2f} s a step; agreement with {quality}: "
        + ", ".join(f"{k} {v:.2f}" for k, v in agreement.items())
    )
    return figure, alt


def _quality_and_time(axis: Any, steps: pd.DataFrame, means: pd.DataFrame, quality: str) -> None:
    axis.plot(steps.setting, steps[quality], "o", color=BLUE, alpha=0.3, mew=0)
    axis.plot(means.index, means[quality], "-", color=BLUE)
    axis.set(title="Quality and time against steps", xlabel="steps", ylim=(-0.05, 1.1))
    axis.set_ylabel(quality, color=BLUE)
    time = axis.twinx()
    time.plot(means.index, means.seconds, "s-", color=ORANGE, ms=4)
    time.set_ylabel("seconds", color=ORANGE)
    time.set_ylim(0)
    time.grid(False)


def time_model(steps: pd.DataFrame) -> tuple[float, float]:
    """(seconds once per clip, seconds per step): a straight line through the measured times."""
    per_step, fixed = np.polyfit(steps.setting.to_numpy(float), steps.seconds.to_numpy(float), 1)
    return max(float(fixed), 0.0), max(float(per_step), 0.0)
