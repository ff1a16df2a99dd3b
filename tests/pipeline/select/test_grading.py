import pytest

from vidgen_lab.pipeline.manifest import Row
from vidgen_lab.pipeline.select.gates import GateSettings
from vidgen_lab.pipeline.select.grading import (
    Grade,
    all_grades,
    calibrate_gates,
    calibration_split,
    grade_cuts,
    grade_duplicates,
    grade_verdicts,
    report,
)
from vidgen_lab.toyworld.raw import Planted

TRUTH = [
    Planted("good.mp4", "clean", "kept", "", 0),
    Planted("soft.mp4", "blur", "rejected", "blurred", 1),
    Planted("soft2.mp4", "blur", "rejected", "blurred", 2),
    Planted("film.mp4", "film", "kept", "", 3, cuts=(10, 20)),
    Planted("broken.mp4", "truncated", "error", "", 4),
    Planted("one.mp4", "clean", "kept", "", 5),
    Planted("copy.mp4", "exact_duplicate", "rejected", "duplicate", 5),
]


def clip(source: str, frames=(0, 10), stage="scenes") -> Row:
    return Row(source, f"{source}-{frames[0]}", stage, "kept", span=(0, 1), frames=frames)


def rows() -> list[Row]:
    films = [clip("film.mp4", (a, a + 10)) for a in (0, 11, 25)]
    clips = [clip(n) for n in ("good.mp4", "soft.mp4", "soft2.mp4", "one.mp4", "copy.mp4")]
    quality = [c.to("quality") for c in [*films, *clips]]
    quality[4] = clips[1].rejected("quality", "blurred", "edge_steepness", 0, 1)
    kept = [q for q in quality if q.status == "kept"]
    unique = [q.to("duplicates", group=q.clip_id) for q in kept]
    unique[-2] = kept[-2].to("duplicates", group="g")
    unique[-1] = unique[-1].to("duplicates", group="g")
    unique[-1] = unique[-1].rejected("duplicates", "duplicate: of one.mp4", "copies", 2, 1)
    broken = Row("broken.mp4", "", "read", "error", reason="truncated: 3 frames")
    return [broken, *films, *clips, *quality, *unique]


def test_verdicts_are_graded_by_reason():
    grades = grade_verdicts(rows(), TRUTH)
    assert grades["blurred"] == Grade(planted=2, found=1, right=1)
    assert grades["kept"] == Grade(planted=2, found=3, right=2)
    assert grades["error"] == Grade(1, 1, 1)
    assert grades["blurred"].precision == 1 and grades["blurred"].recall == 0.5
    assert "soft2.mp4: blurred expected, kept found" in report(rows(), TRUTH)


def test_duplicates_are_graded_as_pairs_and_cuts_within_a_frame():
    assert grade_duplicates(rows(), TRUTH) == Grade(1, 1, 1)
    assert grade_cuts(rows(), TRUTH) == Grade(2, 2, 1)
    assert grade_cuts(rows(), TRUTH, slack=5).f1 == 1


def measured(source: str, **metrics) -> Row:
    return Row(source, source, "quality", "kept", span=(0, 1), frames=(0, 10), metrics=metrics)


def test_thresholds_are_chosen_on_labelled_clips_and_wishes_are_left_alone():
    table = [
        measured("good.mp4", edge_steepness=0.5, bright=0.0, short_side=96),
        measured("one.mp4", edge_steepness=0.4, bright=0.1, short_side=96),
        measured("soft.mp4", edge_steepness=0.2, bright=0.0, short_side=96),
        measured("soft2.mp4", edge_steepness=None, bright=0.0, short_side=96),
    ]
    chosen = calibrate_gates(table, TRUTH)
    assert chosen.min_edge_steepness == pytest.approx(0.25)
    assert chosen.max_bright == GateSettings().max_bright  # nothing over-exposed was seen
    assert chosen.min_side == GateSettings().min_side


def test_the_calibration_split_keeps_copies_together_and_loses_nothing():
    table = [measured(p.file) for p in TRUTH]
    for seed in range(6):
        learn, rest = calibration_split(table, TRUTH, 0.5, seed)
        assert sorted(r.source for r in [*learn, *rest]) == sorted(p.file for p in TRUTH)
        side = {r.source: "learn" for r in learn} | {r.source: "rest" for r in rest}
        assert side["one.mp4"] == side["copy.mp4"]
    assert len({len(calibration_split(table, TRUTH, 0.5, seed)[0]) for seed in range(6)}) > 1


def test_nothing_is_graded_where_nothing_is_known():
    assert all_grades(rows(), ()) == {}
    assert list(all_grades(rows(), TRUTH))[-2:] == ["duplicate pairs", "cuts"]
