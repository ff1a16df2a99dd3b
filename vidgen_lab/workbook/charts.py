"""Three charts that suit most tables: lines, bars and pictures of arrays.

Each takes numbers by name and a sentence on what is shown, to whose alt text the numbers are added.
A mapping of mappings becomes panels side by side. What these cannot draw is drawn in its cell with
`show.figure`. Further options go to matplotlib's `Axes.set` (title, xlabel, ylim, xscale, ...).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from vidgen_lab.workbook.show import CYCLE, GREY, INK, RED, Picture, figure, plain_log

Numbers = Mapping[str, Any] | pd.Series | pd.DataFrame


def lines(
    data: Numbers,
    alt: str,
    height: float = 2.4,
    marks: str | Sequence[str] = "o-",
    level: float | None = None,
    smooth: int = 0,
    drawstyle: str = "default",
    **options: Any,
) -> Picture:
    """Numbers over an axis, a line for each name.

    Args:
        data: name -> numbers, whose index is the axis if they are a Series; or the columns of a
            table.
        alt: what is shown.
        height: inches.
        marks: matplotlib's format, for all or for each.
        level: of a dashed line across.
        smooth: draw a running mean over so many, and the numbers faintly; 0 draws the numbers.
        drawstyle: matplotlib's, such as "steps-post".
        options: of `Axes.set`.
    """
    panels, words = _panels(data), []
    with figure("", height, 1, len(panels), show=False, sharey="ylim" in options) as drawn:
        for axis, (title, named) in zip(np.atleast_1d(drawn.axes), panels.items(), strict=True):
            for i, (name, numbers) in enumerate(named.items()):
                series = pd.Series(numbers)
                colour = CYCLE[i % len(CYCLE)]
                mark = marks if isinstance(marks, str) else marks[i]
                look = {"color": colour, "ms": 13 if mark == "*" else 4, "drawstyle": drawstyle}
                if smooth:
                    axis.plot(series.index, series, color=colour, alpha=0.25, lw=1)
                    series, mark = series.rolling(smooth, min_periods=1).mean(), "-"
                axis.plot(series.index, series, mark, label=name, **look)
                first, last, least = series.iloc[0], series.iloc[-1], series.min()
                dip = f", lowest {least:.3g}" if least < series.iloc[[0, -1]].min() else ""
                said = name if title == name else f"{title} {name}".strip()
                words.append(f"{said} from {first:.3g} to {last:.3g}{dip}")
            if level is not None:
                axis.axhline(level, color=GREY, lw=0.9, ls="--")
            axis.set(**{"title": title} | options)
            for side in (axis.xaxis, axis.yaxis):
                if side.get_scale() == "log":
                    plain_log(side, 1e3)
        _legend(drawn, axis, max(map(len, panels.values())))
        return drawn.finish(alt, words)


def bars(
    data: Numbers,
    alt: str,
    height: float | None = None,
    stacked: bool = False,
    limits: Mapping[str, float] | None = None,
    form: str = "{:,.3g}",
    **options: Any,
) -> Picture:
    """A horizontal bar for each name, with its number at the end.

    Args:
        data: name -> number; or a table: a row of names, a column for each kind of bar, side by
            side or `stacked`.
        alt: what is shown.
        height: inches; None makes room for all bars.
        stacked: the kinds of bar end to end, each with its number inside if that fits.
        limits: name -> a value to mark with a line.
        form: of the numbers.
        options: of `Axes.set`.
    """
    tables = {
        title: numbers if isinstance(numbers, pd.DataFrame) else pd.Series(numbers).to_frame("")
        for title, numbers in _panels(data).items()
    }
    count = max(table.shape[0] * (1 if stacked else table.shape[1]) for table in tables.values())
    height, words = height or 0.75 + (0.36 if stacked else 0.3) * count, []
    with figure("", height, 1, len(tables), show=False) as drawn:
        for axis, (title, table) in zip(np.atleast_1d(drawn.axes), tables.items(), strict=True):
            table.plot.barh(ax=axis, stacked=stacked, width=0.66 if stacked else 0.74, legend=False)
            room = table.sum(axis=1).max() / 20
            for column, drawn_bars in zip(table, axis.containers, strict=True):
                shown = [form.format(v) for v in table[column]]
                if stacked:
                    wide = table[column] > room
                    inside = [s if fits else "" for s, fits in zip(shown, wide, strict=True)]
                    axis.bar_label(
                        drawn_bars, inside, label_type="center", color="white", fontsize=8.5
                    )
                else:
                    axis.bar_label(drawn_bars, shown, padding=3, fontsize=8.5)
                names = (f"{row} {column}".strip() for row in table.index)
                words += [f"{n} {s}" for n, s in zip(names, shown, strict=True)]
            for name, value in (limits or {}).items():
                axis.axvline(value, color=RED, lw=1, ls="--")
                top = ("data", "axes fraction")
                axis.annotate(name, (value, 1), xycoords=top, ha="center", va="bottom", color=RED)
            axis.invert_yaxis()
            axis.margins(x=0.12)
            axis.grid(axis="y", visible=False)
            axis.set(**{"title": title} | options)
        _legend(drawn, axis, max(table.shape[1] for table in tables.values()))
        return drawn.finish(alt, words)


def images(
    arrays: Mapping[str, np.ndarray],
    alt: str,
    notes: Iterable[str] = (),
    height: float = 2.5,
    cmap: str = "Blues",
    scale: tuple[float, float] = (0, 1.4),
    bar: str = "",
    mark: tuple[int, int] | None = None,
    aspect: str | float = "equal",
    **options: Any,
) -> Picture:
    """Arrays [rows, columns] as pictures side by side.

    Args:
        arrays: by title.
        alt: what is shown.
        notes: a line below each.
        height: inches.
        cmap: matplotlib's colours.
        scale: values of the first and the last colour.
        bar: label of a colour bar.
        mark: (row, column) of a square to frame.
        aspect: "auto" lets a picture fill its panel.
        options: of `Axes.set`; without any the axes have no ticks.
    """
    notes = list(notes) or [""] * len(arrays)
    with figure("", height, 1, len(arrays), show=False) as drawn:
        axes = np.atleast_1d(drawn.axes)
        for axis, (name, array), note in zip(axes, arrays.items(), notes, strict=True):
            low, high = scale
            shown = axis.imshow(array, cmap=cmap, vmin=low, vmax=high, aspect=aspect)
            if mark:
                for colour, width in (("black", 3), ("white", 1.4)):  # seen on any ground
                    axis.plot(mark[1], mark[0], "s", ms=9, mfc="none", mec=colour, mew=width)
            ticks = {} if options else {"xticks": [], "yticks": []}
            axis.set(title=name, **ticks | options)
            if note:
                axis.set_xlabel(note, fontsize=8.5, color=INK)
            axis.grid(False)
        if bar:
            drawn.figure.colorbar(shown, ax=axes, shrink=0.85, label=bar)
        ranges = (f"{a.min():.2g} to {a.max():.2g}" for a in map(np.asarray, arrays.values()))
        words = [n or r for n, r in zip(notes, ranges, strict=True)]
        return drawn.finish(alt, (f"{n}: {w}" for n, w in zip(arrays, words, strict=True)))


def _panels(data: Any) -> dict[str, Mapping[str, Any]]:
    """Numbers by name, by panel."""
    named = {} if isinstance(data, pd.DataFrame) else dict(data)
    if named and all(isinstance(value, Mapping | pd.DataFrame) for value in named.values()):
        return named
    return {"": data}


def _legend(drawn: Any, axis: Any, count: int) -> None:
    if count > 1:
        handles, labels = axis.get_legend_handles_labels()
        across = max(1, 110 // (max(map(len, labels), default=0) + 6))  # letters on a page
        drawn.figure.legend(handles, labels, loc="outside upper right", ncols=min(count, across))
