import math

import pytest

from vidgen_lab.pipeline.annotate.review import (
    Verdict,
    apply_verdicts,
    read_verdicts,
    record_verdict,
    review_queue,
)
from vidgen_lab.pipeline.manifest import Row
from vidgen_lab.pipeline.select.gates import Gate

GATES = [Gate("blurred", "sharp", 0.2, True), Gate("static", "changing", 0.1, True)]


def row(name: str, **metrics) -> Row:
    return Row(f"{name}.mp4", name, "quality", "kept", metrics=metrics, info={"caption": "old"})


def test_the_closest_decisions_come_first_and_each_clip_once():
    rows = [
        row("sure", sharp=0.6, changing=1.0),
        row("close", sharp=0.21, changing=1.0),
        row("by_other_gate", sharp=0.6, changing=0.15),
        row("unmeasured", sharp=None, changing=0.6),
    ]
    queue = review_queue(rows, GATES)
    assert [d.row.clip_id for d in queue[:2]] == ["close", "by_other_gate"]
    assert [d.gate.reason for d in queue[:2]] == ["blurred", "static"]
    assert len(queue) == 4 and len(review_queue(rows, GATES, count=1)) == 1


def test_what_is_the_same_everywhere_is_no_doubt():
    """Stills have no change at all: near the line in numbers, and not in doubt."""
    rows = [row(f"still{n}", sharp=0.6, changing=0.0) for n in range(5)]
    rows += [
        row("soft", sharp=0.18, changing=1.0),
        row("fine", sharp=0.4, changing=0.9),
    ]
    queue = review_queue(rows, GATES)
    assert [d.row.clip_id for d in queue[:2]] == ["soft", "fine"]
    assert all(d.gate.reason == "static" and d.margin == math.inf for d in queue[2:])


def test_a_clip_that_misses_two_gates_hangs_on_the_one_it_misses_further():
    rows = [
        row("both", sharp=0.19, changing=0.02),
        row("a", sharp=0.1, changing=0.08),
    ]
    rows += [
        row("b", sharp=0.5, changing=0.5),
        row("on", sharp=0.2, changing=0.9),
    ]
    queue = review_queue(rows, GATES)
    assert [d.gate.reason for d in queue if d.row.clip_id == "both"] == ["static"]
    assert (queue[0].row.clip_id, queue[0].margin) == ("on", 0.0)


def test_verdicts_are_appended_and_the_last_one_counts(tmp_path):
    log = tmp_path / "verdicts.jsonl"
    for verdict in (
        Verdict("a", "me", "reject", "shaky"),
        Verdict("a", "me", "edit", "a fish, 日本"),
        Verdict("b", "you", "reject", "a logo"),
        Verdict("c", "you", "accept"),
    ):
        record_verdict(log, verdict)
    assert len(log.read_text(encoding="utf-8").splitlines()) == 4
    a, b, c, d = apply_verdicts([row(n) for n in "abcd"], read_verdicts(log))
    assert (a.status, a.info["caption"], a.info["reviewer"]) == ("kept", "a fish, 日本", "me")
    assert (b.status, b.reason) == ("rejected", "review: a logo (you)")
    assert c.info["caption"] == d.info["caption"] == "old"


def test_wrong_verdicts_are_refused():
    with pytest.raises(ValueError, match="one of accept"):
        Verdict("a", "me", "maybe")
    with pytest.raises(ValueError, match="new text"):
        Verdict("a", "me", "edit")
