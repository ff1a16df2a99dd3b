"""A slider for every gate, and below it at once what it keeps and what it drops."""

import html
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import ipywidgets as w
import numpy as np

from vidgen_lab.pipeline.manifest import Row
from vidgen_lab.pipeline.report import middle_frame
from vidgen_lab.pipeline.select.gates import Gate, GateSettings, borderline
from vidgen_lab.toyworld.raw import Planted
from vidgen_lab.workbook.panels.base import WIDE, Panel, control
from vidgen_lab.workbook.show import BLUE, RED, Picture, figure, photo


def histogram(rows: Sequence[Row], gate: Gate, truth: Sequence[Planted] = ()) -> Picture:
    """One metric over all clips, the threshold, and what falls on either side of it."""
    known = [r for r in rows if r.metrics.get(gate.metric) is not None]
    values = np.array([r.metrics[gate.metric] for r in known], float)
    planted = {p.file for p in truth if p.reason == gate.reason}
    bad = np.array([r.source in planted for r in known], bool)
    dropped = np.array([not gate.passes(v) for v in values], bool)
    words = f"{int((~dropped).sum())} kept, {int(dropped.sum())} dropped at {gate.threshold:.3g}"
    parts, names = [values], ["clips"]
    if bad.any():
        parts, names = [values[~bad], values[bad]], ["fine", f"planted: {gate.reason}"]
        hits = int((dropped & bad).sum())
        precise = f"precision {hits / dropped.sum():.2f}, " if dropped.any() else ""
        words += f"; {precise}recall {hits / bad.sum():.2f}"
    with figure(f"Histogram of {gate.metric}: {words}.", 2.3, show=False) as drawn:
        axis, edges = drawn.axes, np.histogram_bin_edges(values, bins=48)
        axis.hist(parts, edges, stacked=True, color=[BLUE, RED][: len(parts)], label=names)
        end = min(edges[0], gate.threshold) if gate.least else max(edges[-1], gate.threshold)
        axis.axvspan(end, gate.threshold, color=RED, alpha=0.15, lw=0, zorder=0)  # what is dropped
        axis.axvline(gate.threshold, color=RED, lw=1.6)
        axis.set_yscale("symlog", linthresh=4)
        axis.set_yticks([1, 4, 10, 40], ["1", "4", "10", "40"])
        axis.set(xlabel=gate.metric, ylabel="clips", title=words)
        axis.legend(loc="upper center")
    return drawn.picture


class ThresholdPanel(Panel):
    """Choose a gate, move its threshold, look at the clips on both sides of it.

    rows: scored clips (stage "quality" or "scenes"). folder: where their sources are. settings:
    the thresholds to start from. truth: what was planted, if that is known; then precision and
    recall are shown as well. gate: to begin with.
    Attributes: `settings` (the thresholds as the sliders say now).
    """

    def __init__(
        self,
        rows: Sequence[Row],
        folder: Path,
        settings: GateSettings,
        truth: Sequence[Planted],
        gate: str,
    ) -> None:
        self.rows, self.folder, self.settings = rows, folder, settings
        self.truth = {p.file: p for p in truth}
        self._pictures: dict[tuple[str, str], Picture] = {}  # of clips
        names = [n for n in settings.by_name() if self._values(n)]
        if not names:
            raise ValueError("no clip was measured by any gate: score the clips first")
        gate = gate if gate in names else names[0]
        self.gate_menu = control(w.Dropdown, "gate", options=names, value=gate)
        shown = {"continuous_update": False, "readout_format": ".3g"}
        self.slider = control(w.FloatSlider, "threshold", WIDE, **shown)
        self.view = w.HTML()
        self.box = w.VBox([self.gate_menu, self.slider, self.view])
        self._busy = False
        self.gate_menu.observe(lambda _: self._choose(), names="value")
        self.slider.observe(lambda _: self._move(), names="value")
        self._choose()

    @property
    def gate(self) -> Gate:
        """The gate that is looked at, with its threshold as it is now."""
        return self.settings.by_name()[self.gate_menu.value]

    def summary(self) -> str:
        g, values = self.gate, self._values(self.gate_menu.value)
        kept, unknown = sum(map(g.passes, values)), len(self.rows) - len(values)
        sign = ">=" if g.least else "<="
        words = f"Panel: {g.metric} {sign} {g.threshold:.3g} keeps {kept} of {len(values)} clips"
        return f"{words}; {unknown} could not be measured" if unknown else words

    def _values(self, name: str) -> list[float]:
        metric = self.settings.by_name()[name].metric
        return [r.metrics[metric] for r in self.rows if r.metrics.get(metric) is not None]

    def _choose(self) -> None:
        values = self._values(self.gate_menu.value)
        now = self.gate.threshold
        low, high = min([*values, now]), max([*values, now])
        self._busy = True
        # A slider refuses a minimum above its maximum, so widen it first.
        self.slider.min, self.slider.max = min(low, self.slider.min), max(high, self.slider.max)
        self.slider.value = now
        self.slider.min, self.slider.max = low, high
        self.slider.step = max((high - low) / 200, 1e-6)
        self._busy = False
        self._draw()

    def _move(self) -> None:
        if not self._busy:
            self.settings = replace(self.settings, **{self.gate_menu.value: self.slider.value})
            self._draw()

    def _draw(self) -> None:
        chart = histogram(self.rows, self.gate, list(self.truth.values()))
        parts = [chart.html]
        gate, near = self.gate, borderline(self.rows, self.gate, 10)
        for word, side in (("kept", True), ("dropped", False)):
            rows = [r for r in near if gate.passes(r.metrics[gate.metric]) is side][:5]
            strip = "".join(map(self._figure, rows)) or "<em>none</em>"
            parts.append(f'<p>just {word}</p><div style="display: flex; gap: 8px">{strip}</div>')
        self.view.value = "".join(parts)

    def _figure(self, row: Row) -> str:
        value = row.metrics[self.gate.metric]
        kind = f", {self.truth[row.source].kind}" if row.source in self.truth else ""
        words = f"{value:.3g}{kind}"
        if row.identity not in self._pictures:
            frame = middle_frame(self.folder / row.source, row.frames)
            size = 120, max(1, round(frame.shape[0] * 120 / frame.shape[1]))
            small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
            self._pictures[row.identity] = photo(small, "a clip", quality=90)
        shown = replace(self._pictures[row.identity], alt=f"a clip with {words}")
        caption = f"<figcaption>{html.escape(words)}</figcaption>"
        return f'<figure style="margin: 0">{shown.html}{caption}</figure>'
