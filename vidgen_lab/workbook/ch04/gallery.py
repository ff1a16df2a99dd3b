"""A short run as a picture: its curves beside the healthy run's, and its samples."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vidgen_lab.video.clip import Clip
from vidgen_lab.workbook.ch04.short_runs import Record
from vidgen_lab.workbook.show import BLUE, GREY, INK, ORANGE, Picture, figure, plain_log

NAMES = {
    "loss": "training loss",
    "grad_norm": "gradient's norm",
    "held_out": "held-out loss",
    "seen": "the same on clips that were trained on",
}


def diagnosis(run: Record, healthy: Record, title: str = "") -> Picture:
    """Four panels: training loss, gradient, loss on held-out and on known clips, samples."""
    name = title or run.name
    with figure("", 2.3, 1, 4, show=False) as drawn:
        *curves, measured, pictures = drawn.axes
        if run is not healthy:  # it would lie below
            for axis, curve in zip(drawn.axes, ("loss", "grad_norm", "held_out"), strict=False):
                _curve(axis, healthy.curve(curve), GREY, "healthy")
        for axis, curve in zip(curves, ("loss", "grad_norm"), strict=True):
            _curve(axis, run.curve(curve), BLUE, name)
            _finish(axis, NAMES[curve])
        _curve(measured, run.curve("seen"), ORANGE, "trained on", "o-")
        _curve(measured, run.curve("held_out"), BLUE, "held out", "o--")
        _finish(measured, "at fixed noise")
        _samples(pictures, run.clips)
        mine, its = ({curve: _last(one, curve) for curve in NAMES} for one in (run, healthy))
        return drawn.finish(
            f"{name}: training loss ends at {mine['loss']}, the gradient's norm at "
            f"{mine['grad_norm']}, loss on held-out clips at {mine['held_out']}, on known clips "
            f"at {mine['seen']}; the healthy run's at {its['loss']}, {its['grad_norm']}, "
            f"{its['held_out']}. Samples beside."
        )


def side_by_side(
    runs: Sequence[Record],
    curves: Sequence[str],
    alt: str,
    samples: bool = False,
    titles: Sequence[str] = (),
) -> Picture:
    """Curves of several runs, a panel for each kind; and one strip of samples for each run."""
    titles = titles or [run.name for run in runs]
    count = len(curves) + (len(runs) if samples else 0)
    with figure("", 2.4, 1, count, show=False) as drawn:
        axes, words = list(np.atleast_1d(drawn.axes)), []
        for axis, curve in zip(axes, curves, strict=False):
            for run, title, colour in zip(runs, titles, (BLUE, ORANGE, GREY, INK), strict=False):
                _curve(axis, run.curve(curve), colour, title, "o-" if curve == "held_out" else "-")
                words.append(f"{title}, {NAMES[curve]}: ends at {_last(run, curve)}")
            _finish(axis, NAMES[curve])
        for axis, run, title in zip(axes[len(curves) :], runs, titles, strict=False):
            _samples(axis, run.clips)
            axis.set_title(title)
        return drawn.finish(alt, words)


def _curve(axis: Any, numbers: dict[int, float], colour: str, label: str, mark: str = "-") -> None:
    steps = list(numbers)
    axis.plot(steps, [numbers[s] for s in steps], mark, color=colour, label=label, ms=3)


def _finish(axis: Any, title: str) -> None:
    axis.set(title=title, xlabel="step", yscale="log")
    plain_log(axis.yaxis, 50)
    axis.legend(fontsize=7.5)


def _samples(axis: Any, clips: Sequence[Clip]) -> None:
    """One row for each clip, its frames from left to right."""
    axis.imshow(np.vstack([np.hstack(clip.frames) for clip in clips]), interpolation="nearest")
    axis.set(xticks=[], yticks=[], title="samples")
    axis.grid(False)


def _last(run: Record, name: str) -> str:
    return f"{list(run.curve(name).values())[-1]:.3g}"
