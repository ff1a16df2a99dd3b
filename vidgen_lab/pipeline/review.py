"""People where machines are unsure: a queue, least certain first, and a log of their verdicts."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from vidgen_lab.pipeline.gates import Gate
from vidgen_lab.pipeline.rows import Row

VERDICTS = ("accept", "edit", "reject")


@dataclass(frozen=True)
class Doubt:
    """A clip to look at. margin: how far it is from its nearest threshold, 0 = on it; in shares of
    the range that the metric has in this set."""

    row: Row
    gate: Gate
    margin: float


def review_queue(rows: Sequence[Row], gates: Sequence[Gate], count: int = 20) -> list[Doubt]:
    """The clips that some gate nearly decided otherwise.

    rows: after the quality stage. Each clip comes once, with the gate it is nearest to. First the
    nearest clip of every gate, then every gate's second, and so on: a gate at which many clips have
    the same value would fill the queue otherwise.
    """
    nearest: dict[tuple[str, str], Doubt] = {}
    for gate in gates:
        values = [r.metrics[gate.metric] for r in rows if r.metrics.get(gate.metric) is not None]
        spread = (max(values) - min(values)) if values else 0
        for row in rows:
            value = row.metrics.get(gate.metric)
            if value is None or not spread:
                continue
            doubt = Doubt(row, gate, abs(value - gate.threshold) / spread)
            if doubt.margin < nearest.get(row.identity, doubt).margin or (
                row.identity not in nearest
            ):
                nearest[row.identity] = doubt
    queue = sorted(nearest.values(), key=lambda d: (d.margin, d.row.source, d.row.clip_id))
    before: Counter[Gate] = Counter()
    turns = []
    for doubt in queue:
        turns.append(before[doubt.gate])
        before[doubt.gate] += 1
    return [queue[n] for n in sorted(range(len(queue)), key=lambda n: (turns[n], n))][:count]


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
    """The last verdict on each clip by clip id."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return {v["clip_id"]: Verdict(**v) for v in map(json.loads, lines)}


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
