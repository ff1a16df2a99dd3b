"""People where machines are unsure: a queue, least certain first, and a log of their verdicts."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import pstdev

from vidgen_lab.pipeline.manifest import Row
from vidgen_lab.pipeline.select.gates import Gate

VERDICTS = ("accept", "edit", "reject")


@dataclass(frozen=True)
class ReviewItem:
    """A clip to look at, and the gate on which its fate hangs.

    margin: its distance from the threshold, in standard deviations of the clips on its own side of
    it. 0: on the line; inf: all clips of that side have the same value, none of them strays.
    """

    row: Row
    gate: Gate
    margin: float


def review_queue(rows: Sequence[Row], gates: Sequence[Gate], count: int = 20) -> list[ReviewItem]:
    """The clips that were nearly decided otherwise, nearest first, each once.

    rows: after the quality stage. A clip that passes hangs on the gate it is nearest to missing;
    one that misses several would have to pass them all, so it hangs on the one it misses furthest.
    """
    spread = {gate: _spread(rows, gate) for gate in gates}
    queue = []
    for row in rows:
        near, missed = [], []
        for gate in gates:
            value = row.metrics.get(gate.metric)
            if value is not None:
                side, distance = gate.passes(value), abs(value - gate.threshold)
                margin = distance / spread[gate][side] if spread[gate][side] else math.inf
                (near if side else missed).append(
                    ReviewItem(row, gate, margin if distance else 0.0)
                )
        if near or missed:
            choose, among = (max, missed) if missed else (min, near)
            queue.append(choose(among, key=lambda item: item.margin))
    return sorted(queue, key=lambda d: (d.margin, d.row.source, d.row.clip_id))[:count]


def _spread(rows: Sequence[Row], gate: Gate) -> dict[bool, float]:
    """Standard deviation of the values that pass a gate (True) and of those that miss it; one value
    alone has none, and takes that of all."""
    values = [r.metrics[gate.metric] for r in rows if r.metrics.get(gate.metric) is not None]
    sides = {side: [v for v in values if gate.passes(v) is side] for side in (True, False)}
    return {side: pstdev(v if len(v) > 1 else values) if v else 0.0 for side, v in sides.items()}


@dataclass(frozen=True)
class Verdict:
    """What a person decided. note: the new caption of an edit, or why."""

    clip_id: str
    reviewer: str
    verdict: str
    note: str = ""

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"a verdict is one of {', '.join(VERDICTS)}, not {self.verdict!r}")
        if self.verdict == "edit" and not self.note.strip():
            raise ValueError("an edit needs the new text in its note")


def record_verdict(path: str | Path, verdict: Verdict) -> None:
    """Append a verdict to a log of JSON lines; nothing is ever overwritten."""
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(verdict), ensure_ascii=False) + "\n")


def read_verdicts(path: str | Path) -> dict[str, Verdict]:
    """The last verdict on each clip by clip id. ValueError names the line that is none."""
    verdicts = {}
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        try:
            verdict = Verdict(**json.loads(line))
            verdicts[verdict.clip_id] = verdict
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"{path}, line {number} is no verdict: {error}") from None
    return verdicts


def apply_verdicts(rows: Sequence[Row], verdicts: dict[str, Verdict]) -> list[Row]:
    """Rows with what people said: rejected ones out, edited captions in; the rest as they were."""
    out = []
    for row in rows:
        said = verdicts.get(row.clip_id)
        if said is None or said.verdict == "accept":
            out.append(row)
        elif said.verdict == "edit":
            out.append(row.to(row.stage, caption=said.note, reviewer=said.reviewer))
        else:
            reason = f"review: {said.note or 'rejected'} ({said.reviewer})"
            out.append(row.rejected(row.stage, reason, None, None, None))
    return out
