"""Figures of chapter 2: funnels, thresholds, codecs, cuts, balance, chosen frames."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vidgen_lab.pipeline.deliver.compress import Compression
from vidgen_lab.pipeline.manifest import STAGES, Row, funnel, reasons
from vidgen_lab.pipeline.report import BOOK_FUNNEL, retention
from vidgen_lab.pipeline.select.balance import Balance
from vidgen_lab.pipeline.select.gates import Gate
from vidgen_lab.toyworld.raw import Planted
from vidgen_lab.workbook.show import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    RED,
    TINTS,
    chart,
    new_figure,
)

_BOOK_STEPS = ("collected", "quality", "motion, scenes", "duplicates", "balance")


@chart
def funnels(rows: Sequence[Row]) -> tuple[Any, str]:
    """Clips left after every stage, counted from the rows, beside the shape that the book gives."""
    counts = funnel(rows)
    stages = [s for s in STAGES if s in counts and s != "read"]
    start = counts[stages[0]]["in"]
    ours = [("shots found", start)] + [(s, counts[s]["kept"]) for s in stages if s != "scenes"]
    book = list(zip(_BOOK_STEPS, BOOK_FUNNEL, strict=True))
    figure, axes = new_figure(3.0, 1, 2)
    for axis, steps, colour, unit, title in (
        (axes[0], ours, BLUE, "", "This run, counted from the manifest"),
        (axes[1], book, ORANGE, " M", "The book's example: illustrative, no source found"),
    ):
        top = steps[0][1]
        for y, (name, value) in enumerate(steps):
            share = value / top
            axis.barh(y, share, left=(1 - share) / 2, color=colour, height=0.74, alpha=1 - 0.09 * y)
            axis.text(
                0.5, y, f"{name}  {value:,g}{unit}", ha="center", va="center", fontsize=8.5,
                color="white" if share > 0.3 else INK, weight="bold",
            )  # fmt: skip
            axis.text(1.02, y, f"{share:.0%}", va="center", fontsize=8.5)
        axis.invert_yaxis()
        axis.set(title=title, xticks=[], yticks=[], xlim=(0, 1.12))
        axis.grid(False)
        axis.spines[:].set_visible(False)
    kept = ", ".join(f"{name} {value}" for name, value in ours)
    shares = ", ".join(f"{s:.0%}" for s in retention(BOOK_FUNNEL))
    return figure, f"Two funnels. This run: {kept}. The book's example keeps {shares} per step."


@chart
def why_clips_left(rows: Sequence[Row]) -> tuple[Any, str]:
    """Every reason that ended a file or a clip, with its count."""
    found = reasons(rows)
    figure, axis = new_figure(0.7 + 0.27 * max(1, len(found)))
    stages = [name.partition(": ")[0] for name in found]
    palette = {"read": RED, "quality": BLUE, "duplicates": PURPLE, "balance": ORANGE}
    names = [name.partition(": ")[2].replace("_", " ") for name in found]
    places = np.arange(len(found))
    axis.barh(places, list(found.values()), color=[palette.get(s, GREY) for s in stages])
    for y, count in enumerate(found.values()):
        axis.text(count, y, f" {count}", va="center", fontsize=8.5)
    axis.set_yticks(places, [f"{s}: {n}" for s, n in zip(stages, names, strict=True)])
    axis.invert_yaxis()
    axis.set(title="Why something is not in the training set", xticks=[])
    axis.margins(x=0.08)
    axis.grid(False)
    listed = ", ".join(f"{name} {count}" for name, count in found.items())
    return figure, f"Reasons with their counts: {listed}."


@chart
def threshold(rows: Sequence[Row], gate: Gate, truth: Sequence[Planted] = ()) -> tuple[Any, str]:
    """One metric over all clips, the threshold, and what falls on either side of it."""
    known = [r for r in rows if r.metrics.get(gate.metric) is not None]
    values = np.array([r.metrics[gate.metric] for r in known], float)
    planted = {p.file for p in truth if p.reason == gate.reason}
    bad = np.array([r.source in planted for r in known], bool)
    passes = np.array([gate.passes(v) for v in values], bool)
    figure, axis = new_figure(2.3)
    edges = np.histogram_bin_edges(values, bins=48)
    parts = [values[~bad], values[bad]] if bad.any() else [values]
    names = ["fine", f"planted: {gate.reason.replace('_', ' ')}"] if bad.any() else ["clips"]
    axis.hist(parts, edges, stacked=True, color=[BLUE, RED][: len(parts)], label=names)
    low, high = edges[0], edges[-1]
    reach = min(low, gate.threshold) if gate.least else max(high, gate.threshold)
    axis.axvspan(reach, gate.threshold, color=TINTS[RED], zorder=0)  # what is dropped
    axis.axvline(gate.threshold, color=RED, lw=1.6)
    axis.set_yscale("symlog", linthresh=4)
    axis.set_yticks([1, 4, 10, 40], ["1", "4", "10", "40"])
    axis.set(xlabel=gate.metric, ylabel="clips")
    words = f"{int(passes.sum())} kept, {int((~passes).sum())} dropped at {gate.threshold:.3g}"
    if bad.any():
        hits = int((~passes & bad).sum())
        # nothing dropped has no precision
        precision = "" if passes.all() else f"precision {hits / (~passes).sum():.2f}, "
        words += f"; {precision}recall {hits / bad.sum():.2f}"
    axis.set_title(words)
    axis.legend(loc="upper center")
    return figure, f"Histogram of {gate.metric}: {words}."


@chart
def all_gates(rows: Sequence[Row], gates: Sequence[Gate]) -> tuple[Any, str]:
    """Every gate's metric as dots, one row each, with its threshold: the whole set on one page."""
    shown = [g for g in gates if any(r.metrics.get(g.metric) is not None for r in rows)]
    figure, axis = new_figure(0.6 + 0.33 * len(shown))
    rng, words = np.random.default_rng(0), []
    for y, gate in enumerate(shown):
        values = np.array(
            [r.metrics[gate.metric] for r in rows if r.metrics.get(gate.metric) is not None]
        )
        low, high = min(values.min(), gate.threshold), max(values.max(), gate.threshold)
        place = (values - low) / ((high - low) or 1)
        passes = np.array([gate.passes(v) for v in values])
        jitter = y + rng.uniform(-0.28, 0.28, len(values))
        axis.scatter(place, jitter, s=12, color=np.where(passes, BLUE, RED), alpha=0.55, lw=0)
        mark = (gate.threshold - low) / ((high - low) or 1)
        axis.plot([mark, mark], [y - 0.42, y + 0.42], color=INK, lw=1.6)
        axis.text(1.03, y, f"{(~passes).sum():d} out", va="center", fontsize=8.5)
        words.append(f"{gate.metric} {(~passes).sum():d} out")
    axis.set_yticks(
        range(len(shown)), [f"{g.metric} {'≥' if g.least else '≤'} {g.threshold:g}" for g in shown]
    )
    axis.invert_yaxis()
    axis.set(
        xticks=[],
        xlim=(-0.02, 1.12),
        title="Each dot a clip, each line a gate, the bar its threshold",
    )
    axis.grid(axis="x", visible=False)
    return figure, f"Clips that miss each gate: {', '.join(words)}."


@chart
def codec_chart(measured: Sequence[Compression]) -> tuple[Any, str]:
    """Size against likeness for several codecs and qualities, and the time they take."""
    figure, (left, right) = new_figure(2.8, 1, 2, width_ratios=(3, 2))
    codecs = list(dict.fromkeys(m.codec for m in measured))
    for codec, colour in zip(codecs, (BLUE, ORANGE, GREEN, PURPLE, RED), strict=False):
        mine = sorted((m for m in measured if m.codec == codec), key=lambda m: m.bytes)
        kilobytes = [m.bytes / 1000 for m in mine]
        left.plot(kilobytes, [m.ssim for m in mine], "o-", color=colour, label=codec)
        for m, x in zip(mine, kilobytes, strict=True):
            left.annotate(
                f"crf {m.crf}",
                (x, m.ssim),
                fontsize=7.5,
                xytext=(4, -9),
                textcoords="offset points",
            )
        right.barh(codec, np.mean([m.seconds for m in mine]), color=colour, height=0.6)
    left.set(
        title="Smaller and closer to the original: up and to the left",
        xlabel="kB",
        ylabel="SSIM of the luma",
    )
    left.legend(loc="upper left")
    left.margins(x=0.12, y=0.18)
    right.set(title="Seconds to encode", xlim=0)
    right.invert_yaxis()
    right.grid(axis="y", visible=False)
    words = "; ".join(
        f"{m.codec} crf {m.crf}: {m.bytes / 1000:.0f} kB, SSIM {m.ssim:.3f}" for m in measured
    )
    return figure, f"Codecs compared. {words}."


@chart
def rate_curve(points: Sequence[tuple[float, float, float]]) -> tuple[Any, str]:
    """Bits a pixel against PSNR of the toy codec; points: (step, bits per pixel, PSNR)."""
    figure, axis = new_figure(2.2)
    steps, bits, quality = (np.array(column) for column in zip(*points, strict=True))
    axis.plot(bits, quality, "o-", color=GREEN)
    for step, x, y in points:
        axis.annotate(
            f"step {step:g}", (x, y), fontsize=8, xytext=(6, -8), textcoords="offset points"
        )
    axis.set(
        xlabel="bits per pixel (8 = raw)", ylabel="PSNR, dB", title="Every bit saved costs likeness"
    )
    axis.margins(x=0.1, y=0.15)
    words = f"from {bits.max():.2f} to {bits.min():.2f} bits a pixel PSNR falls"
    words += f" from {quality.max():.1f} to {quality.min():.1f} dB"
    return figure, f"Steps {steps.min():g} to {steps.max():g}: {words}."


@chart
def cut_lines(
    signals: Mapping[str, np.ndarray], planted: Sequence[int], found: Mapping[str, Sequence[int]]
) -> tuple[Any, str]:
    """Change from frame to frame, the planted cuts, and where each detector sees one."""
    figure, axis = new_figure(2.3)
    for (name, signal), colour in zip(signals.items(), (BLUE, GREY), strict=False):
        axis.plot(np.arange(1, len(signal) + 1), signal, color=colour, lw=1.2, label=name)
    top = max(float(np.max(s)) for s in signals.values())
    for cut in planted:
        axis.axvline(cut, color=GREEN, lw=6, alpha=0.25, zorder=0)
    for row, (name, cuts) in enumerate(found.items()):
        height = top * (1.12 + 0.17 * row)
        axis.plot(list(cuts), [height] * len(cuts), "v", ms=6, color=PURPLE)
        place = axis.get_yaxis_transform()  # across: share of the axis, up: data
        axis.text(1.01, height, name, transform=place, va="center", color=PURPLE, fontsize=8)
    axis.set(
        xlabel="frame",
        ylabel="grey levels",
        title="Green: planted cuts. Triangles: found by each detector",
        ylim=(0, top * (1.2 + 0.17 * len(found))),
    )
    words = "; ".join(f"{name} at {list(cuts)}" for name, cuts in found.items())
    return figure, f"Cuts planted at {list(planted)}; {words}."


@chart
def balance_bars(balance: Balance) -> tuple[Any, str]:
    """How often each concept is seen before and after balancing, with the entropy of both."""
    figure, axis = new_figure(2.3)
    before = np.array(balance.counts_before, float)
    after = np.bincount(balance.labels, balance.weights, minlength=len(before))
    places = np.arange(len(before))
    axis.bar(
        places - 0.2, before, 0.4, color=GREY, label=f"as collected, {balance.before:.2f} bits"
    )
    axis.bar(places + 0.2, after, 0.4, color=GREEN, label=f"as drawn, {balance.after:.2f} bits")
    axis.axhline(before.mean(), color=INK, lw=1, ls=":")
    axis.set(xlabel="concept", ylabel="clips", xticks=places)
    axis.set_title(f"Entropy of the concepts; {np.log2(len(before)):.2f} bits would be even")
    axis.legend(loc="upper right")
    axis.grid(axis="x", visible=False)
    words = f"from {balance.before:.2f} to {balance.after:.2f} bits"
    return figure, f"Entropy of {len(before)} concepts, {words}."


@chart
def chosen_frames(
    scores: np.ndarray, choices: Mapping[str, Sequence[int]], cuts: Sequence[int]
) -> tuple[Any, str]:
    """Motion along a video and which frames each rule picks."""
    figure, (top, bottom) = new_figure(3.0, 2, 1, sharex=True, height_ratios=(3, 2))
    top.fill_between(np.arange(len(scores)), scores, color=TINTS[BLUE], lw=0)
    top.plot(scores, color=BLUE, lw=1)
    for cut in cuts:
        top.axvline(cut, color=GREEN, lw=4, alpha=0.3)
    top.set(ylabel="change, grey levels", title="Motion along the video; green: a shot begins")
    for y, frames in enumerate(choices.values()):
        bottom.plot(
            list(frames),
            [y] * len(frames),
            "|",
            ms=9,
            mew=1.4,
            color=(RED, GREY, ORANGE, GREEN)[y % 4],
        )
    bottom.set_yticks(range(len(choices)), list(choices))
    bottom.set(xlabel="frame", ylim=(-0.6, len(choices) - 0.4), xlim=(0, len(scores)))
    bottom.invert_yaxis()
    bottom.grid(axis="y", visible=False)
    ends = ", ".join(f"{name} ends at frame {max(frames)}" for name, frames in choices.items())
    return figure, f"Chosen frames of {len(scores)}: {ends}."


@chart
def measures_of_motion(table: Mapping[str, Mapping[str, float]]) -> tuple[Any, str]:
    """The same motion measured in several ways: {way: {situation: value}}."""
    figure, axes = new_figure(2.3, 1, len(table), sharey=True)
    for axis, (way, values), colour in zip(
        np.atleast_1d(axes), table.items(), (RED, GREEN, BLUE), strict=False
    ):
        places = np.arange(len(values))
        axis.barh(places, list(values.values()), color=colour, height=0.62)
        for y, value in enumerate(values.values()):
            axis.text(value, y, f" {value:.2f}", va="center", fontsize=8.5)
        axis.set_yticks(places, list(values))
        axis.set(title=way)
        axis.margins(x=0.18)
        axis.grid(axis="y", visible=False)
    np.atleast_1d(axes)[0].invert_yaxis()  # the axes share it
    words = "; ".join(
        f"{way}: " + ", ".join(f"{k} {v:.2f}" for k, v in values.items())
        for way, values in table.items()
    )
    return figure, f"Motion by way of measuring. {words}."


@chart
def waiting(latencies: Mapping[str, Sequence[float]]) -> tuple[Any, str]:
    """How long frames lay in the buffer, frame by frame, in milliseconds."""
    figure, axis = new_figure(2.1)
    for name, seconds in latencies.items():
        axis.plot(1000 * np.array(seconds), "o-", ms=3, label=name)
    axis.set(xlabel="frame that was shown", ylabel="waited, ms", ylim=0)
    figure.legend(loc="outside upper right", ncols=3)
    words = ", ".join(f"{n}: {1000 * np.mean(s):.0f} ms on average" for n, s in latencies.items())
    return figure, f"Waiting time of frames. {words}."
