"""Gates: one number of a clip against one threshold, and tools to choose the threshold first."""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from vidgen_lab.config import Checked
from vidgen_lab.pipeline.manifest import Row


@dataclass(frozen=True)
class Gate:
    """One metric of a clip against one threshold, which values below miss if `least`, otherwise
    values above; `reason` is why a clip that misses it is rejected."""

    reason: str
    metric: str
    threshold: float
    least: bool

    def passes(self, value: float) -> bool:
        return value >= self.threshold if self.least else value <= self.threshold


_GATES = {
    "min_side": ("too_small", "short_side"),
    "min_seconds": ("too_short", "seconds"),
    "max_seconds": ("too_long", "seconds"),
    "min_fps": ("too_few_frames_per_second", "fps"),
    "max_blank": ("blank", "blank"),
    "max_bright": ("over_exposed", "bright"),
    "max_dark": ("under_exposed", "dark"),
    "max_bars": ("black_bars", "bars"),
    "max_stripes": ("test_card", "stripes"),
    "max_frozen": ("frozen", "frozen"),
    "min_changing": ("static", "changing"),
    "min_flow_speed": ("slow", "flow_speed"),
    "min_edge_steepness": ("blurred", "edge_steepness"),
}
# Shares of a picture or of a clip.
_SHARES = ("blank", "bright", "dark", "bars", "stripes", "frozen", "changing")
_RANGES = {name: (0, 1 if metric in _SHARES else math.inf) for name, (_, metric) in _GATES.items()}


@dataclass(frozen=True)
class GateSettings(Checked, **_RANGES):
    """Thresholds, from the hard facts to the measured ones; None switches a gate off.

    Attributes:
        min_side: pixels of the shorter side, between black bars.
        min_edge_steepness: about 0.1 (blurred) .. 0.4 (a step).
        max_frozen: share of twelfths of a second in which nothing changes.
        min_changing: share of the picture in which anything ever happens; grain counts for nothing.
        min_flow_speed: % of the width per second; off unless set, since slowness is no defect.
        max_bars: share of the picture; bars are cut off, so only what is mostly bars goes.
        max_bright: share of the picture at grey 250 or more.
        max_dark: share of the picture at grey 16 or less; nights stay, since they have lights.
        max_stripes: share of the picture that vertical stripes explain, as in a test card.
        max_blank: share of frames that show nothing.
    """

    min_side: float | None = 64
    min_seconds: float | None = 1.0
    max_seconds: float | None = None
    min_fps: float | None = 6
    max_bright: float | None = 0.3
    max_dark: float | None = 0.97
    max_blank: float | None = 0.5
    max_bars: float | None = 0.5
    max_stripes: float | None = 0.9
    max_frozen: float | None = 0.8
    min_changing: float | None = 0.01
    min_flow_speed: float | None = None
    min_edge_steepness: float | None = 0.32

    def gates(self) -> list[Gate]:
        """The gates that are switched on, in the order in which they are asked."""
        return list(self.by_name().values())

    def by_name(self) -> dict[str, Gate]:
        """The same by the name of their setting."""
        return {
            name: Gate(*_GATES[name], threshold=value, least=name.startswith("min"))
            for name, value in vars(self).items()
            if value is not None
        }


def judge(row: Row, gates: Iterable[Gate]) -> Row:
    """The row after the gates: kept, or rejected by the first gate it misses.

    What could not be measured is rejected as such and does not pass for a low value.
    """
    values = {gate: row.metrics.get(gate.metric) for gate in gates}
    failed = [gate for gate, value in values.items() if value is None or not gate.passes(value)]
    if not failed:
        return row.to("quality")
    first = failed[0]
    reason = first.reason if values[first] is not None else f"unmeasured: {first.metric}"
    return row.to("quality", failed_gates=[gate.reason for gate in failed]).rejected(
        "quality", reason, first.metric, values[first], first.threshold
    )


def quantiles(
    rows: Sequence[Row],
    metric: str,
    at: Sequence[float] = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99),
) -> dict[float, float]:
    """The values of a metric below which the shares `at` of the clips lie; look before you drop."""
    known = measured(rows, metric)
    return dict(zip(at, np.quantile(known, at).tolist(), strict=True)) if known else {}


def measured(rows: Iterable[Row], metric: str) -> list[float]:
    """The values of a metric, without the clips of which it could not be measured."""
    return [value for row in rows if (value := row.metrics.get(metric)) is not None]


def borderline(rows: Sequence[Row], gate: Gate, count: int = 12) -> list[Row]:
    """The `count` clips nearest to the threshold, nearest first: look at these. Half of them lie on
    either side, as far as there are any, so that what is dropped compares with what is kept."""

    def distance(row: Row) -> tuple:
        return abs(row.metrics[gate.metric] - gate.threshold), row.source, row.clip_id

    near = sorted((r for r in rows if r.metrics.get(gate.metric) is not None), key=distance)
    nearer = {True: itertools.count(), False: itertools.count()}  # on the same side
    passes = (gate.passes(row.metrics[gate.metric]) for row in near)
    turns = sorted((next(nearer[side]) >= count // 2, n) for n, side in enumerate(passes))
    return [near[n] for n in sorted(n for _, n in turns[:count])]
