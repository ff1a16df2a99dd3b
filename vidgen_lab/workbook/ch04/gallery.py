"""A short run as a picture: its curves beside the healthy run's, and its samples."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vidgen_lab.video.clip import Clip
from vidgen_lab.workbook.ch04.short_runs import Record
from vidgen_lab.workbook.show import BLUE, GREY, INK, ORANGE, Picture, figure

NAMES = {
    "loss": "training loss",
    "grad_norm": "gradient's norm",
    "held_out": "held-out loss",
    "seen": "the same on clips that were trained on",
}


def diagnosis(run: Record, healthy: Record, title: str = "") -> Picture:
    """Four panels: training loss, gradient, loss on held-out and on known clips, samples."""
    name = title or run.name
    with figure("", 2.3, 1, 4, show=False, width_ratios=(1, 1, 1, 1)) as drawn:
        *curves, measured, pictures = drawn.axes
        for axis, curve in zip(curves, ("loss", "grad_norm"), strict=True):
            _curve(axis, healthy.curve(curve), GREY, "healthy")
            _curve(axis, run.curve(curve), BLUE, name)
            _finish(axis, NAMES[curve])
        _curve(measured, healthy.curve("held_out"), GREY, "healthy, held out")
        _curve(measured, run.curve("seen"), ORANGE, "trained on", "o-")
        _curve(measured, run.curve("held_out"), BLUE, "held out", "o--")
        _finish(measured, "at fixed noise")
        _samples(pictures, run.clips)
        words = f"{name}: training loss ends at {_last(run, 'loss'):.3g}, the gradient's norm at "
        words += f"{_last(run, 'grad_norm'):.3g}, loss on held-out clips at "
        words += f"{_last(run, 'held_out'):.3g}, on known clips at {_last(run, 'seen'):.3g}; the "
        words += (
            f"healthy run's at {_last(healthy, 'loss'):.3g}, {_last(healthy, 'grad_norm'):.3g}, "
        )
        words += f"{_last(healthy, 'held_out'):.3g}. Samples beside."
        return drawn.finish(words)


def side_by_side(
    runs: Sequence[Record],
    curves: Sequence[str],
    alt: str,
    samples: bool = False,
    height: float = 2.4,
    titles: Sequence[str] = (),
) -> Picture:
    """Curves of several runs, a panel for each kind; and one strip of samples for each run."""
    titles = titles or [run.name for run in runs]
    count = len(curves) + (len(runs) if samples else 0)
    with figure("", height, 1, count, show=False) as drawn:
        axes, words = list(np.atleast_1d(drawn.axes)), []
        for axis, curve in zip(axes, curves, strict=False):
            for run, title, colour in zip(runs, titles, (BLUE, ORANGE, GREY, INK), strict=False):
                _curve(axis, run.curve(curve), colour, title, "o-" if curve == "held_out" else "-")
                words.append(f"{title}, {NAMES[curve]}: ends at {_last(run, curve):.3g}")
            _finish(axis, NAMES[curve])
        for axis, run, title in zip(axes[len(curves) :], runs, titles, strict=False):
            _samples(axis, run.clips)
            axis.set_title(title)
        return drawn.finish(alt, words)


def _curve(axis: Any, numbers: dict[int, float], colour: str, label: str, mark: str = "-") -> None:
    steps = list(numbers)
    axis.plot(steps, [numbers[s] for s in steps], mark, color=colour, label=label, ms=3)


def _finish(axis: Any, title: str) -> None:
    """A logarithmic axis with few, plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set(title=title, xlabel="step", yscale="log")
    low, high = axis.get_ylim()
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0,) if high > 50 * low else (1.0, 2.0, 5.0)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.legend(fontsize=7.5)


def _samples(axis: Any, clips: Sequence[Clip]) -> None:
    """One row for each clip, its frames from left to right."""
    rows = [np.concatenate(list(clip.frames), 1) for clip in clips]
    axis.imshow(np.concatenate(rows), interpolation="nearest")
    axis.set(xticks=[], yticks=[], title="samples")
    axis.grid(False)


def _last(run: Record, name: str) -> float:
    return list(run.curve(name).values())[-1]
