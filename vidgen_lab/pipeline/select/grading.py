"""How right a run was, against the planted truth of `toyworld.raw`: numbers instead of trust."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from vidgen_lab.pipeline.manifest import Row
from vidgen_lab.pipeline.select.gates import GateSettings, calibrate
from vidgen_lab.toyworld.raw import Planted


@dataclass(frozen=True)
class Grade:
    """planted: how many there are; found: how many were called so; right: how many of these are."""

    planted: int
    found: int
    right: int

    @property
    def precision(self) -> float:
        return self.right / self.found if self.found else 1.0

    @property
    def recall(self) -> float:
        return self.right / self.planted if self.planted else 1.0

    @property
    def f1(self) -> float:
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


def verdicts(rows: Sequence[Row]) -> dict[str, str]:
    """File -> the reason that ended it, "error", or "kept" if any of its scenes came through."""
    ended: dict[str, str] = {}
    kept = set()
    for row in rows:
        if row.status == "rejected":
            ended[row.source] = row.reason.split(":")[0]
        elif row.status == "error":
            ended[row.source] = "error"
        elif row.stage not in ("read", "scenes"):
            kept.add((row.source, row.clip_id))
    lost = {row.identity for row in rows if row.status != "kept"}
    return ended | {source: "kept" for source, clip in kept if (source, clip) not in lost}


def grade_verdicts(rows: Sequence[Row], truth: Sequence[Planted]) -> dict[str, Grade]:
    """One grade for every reason, "error" and "kept". Duplicates are graded as groups instead."""
    found = verdicts(rows)
    wanted = {p.file: p.reason or p.expected for p in truth}
    groups = {p.group for p in truth if p.reason == "duplicate"}
    related = {p.file for p in truth if p.group in groups}
    names = sorted({*wanted.values(), *found.values()} - {"duplicate"})
    files = [file for file in wanted if file not in related]
    grades = {}
    for name in names:
        planted = {f for f in files if wanted[f] == name}
        called = {f for f in files if found.get(f) == name}
        grades[name] = Grade(len(planted), len(called), len(planted & called))
    return grades


def grade_duplicates(rows: Iterable[Row], truth: Iterable[Planted]) -> Grade:
    """Pairs of files in one group, planted against found."""
    planted, found = defaultdict(set), defaultdict(set)
    for p in truth:
        planted[p.group].add(p.file)
    for row in rows:
        if row.stage == "duplicates" and "group" in row.info:
            found[row.info["group"]].add(row.source)
    ours, theirs = _pairs(found.values()), _pairs(planted.values())
    return Grade(len(theirs), len(ours), len(ours & theirs))


def grade_cuts(rows: Iterable[Row], truth: Iterable[Planted], slack: int = 1) -> Grade:
    """Cuts found within `slack` frames of a planted one; each counts once."""
    found = defaultdict(list)
    for row in rows:
        if row.stage == "scenes" and row.frames[0] > 0:
            found[row.source].append(row.frames[0])
    planted = {p.file: list(p.cuts) for p in truth}
    right = 0
    for file, cuts in planted.items():
        left = sorted(found[file])
        for cut in cuts:
            near = [f for f in left if abs(f - cut) <= slack]
            if near:
                left.remove(near[0])
                right += 1
    return Grade(sum(map(len, planted.values())), sum(map(len, found.values())), right)


def calibration_split(
    rows: Sequence[Row], truth: Sequence[Planted], share: float = 0.5, seed: int = 0
) -> tuple[list[Row], list[Row]]:
    """(rows to choose thresholds on, rows to try them on). Copies of one clip stay together, so
    that nothing is tried on what it was chosen on."""
    group = {p.file: p.group for p in truth}
    parts: tuple[list[Row], list[Row]] = ([], [])
    for row in rows:
        name = f"{seed}/{group.get(row.source, row.source)}"
        digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
        parts[digest[0] / 256 >= share].append(row)
    return parts


def calibrate_gates(
    rows: Sequence[Row], truth: Sequence[Planted], settings: GateSettings | None = None
) -> GateSettings:
    """Thresholds chosen on labelled clips, for every measured gate whose defect is among them.

    rows: with metrics, of any stage. Size, length and rate are wishes, not measurements, and stay.
    """
    planted, settings, changes = {p.file: p for p in truth}, settings or GateSettings(), {}
    for name, gate in settings.by_name().items():
        if name in ("min_side", "min_seconds", "max_seconds", "min_fps", "min_flow_speed"):
            continue
        sides: dict[bool, list[float]] = {True: [], False: []}
        for row in rows:
            fact, value = planted[row.source], row.metrics.get(gate.metric)
            fine = fact.expected == "kept" or fact.reason == "duplicate"
            if value is not None and (fine or fact.reason == gate.reason):
                sides[fine].append(value)
        if sides[True] and sides[False]:
            changes[name] = calibrate(sides[True], sides[False], gate.least)
    return replace(settings, **changes)


def all_grades(rows: Sequence[Row], truth: Sequence[Planted]) -> dict[str, Grade]:
    """Every reason, then duplicate pairs and cuts; empty where nothing is known."""
    if not truth:
        return {}
    pairs, cuts = grade_duplicates(rows, truth), grade_cuts(rows, truth)
    return {**grade_verdicts(rows, truth), "duplicate pairs": pairs, "cuts": cuts}


def report(rows: Sequence[Row], truth: Sequence[Planted]) -> str:
    """All grades as a table, and every file on which run and truth differ."""
    grades = all_grades(rows, truth)
    lines = [f"{'':<26}{'planted':>8}{'found':>7}{'right':>7}{'precision':>11}{'recall':>8}"]
    for name, g in grades.items():
        numbers = f"{g.planted:>8}{g.found:>7}{g.right:>7}{g.precision:>11.3f}{g.recall:>8.3f}"
        lines.append(f"{name:<26}{numbers}")
    found = verdicts(rows)
    for p in truth:
        wanted = p.reason or p.expected
        if found.get(p.file) != wanted and "duplicate" not in (wanted, found.get(p.file)):
            lines.append(f"{p.kind} {p.file}: {wanted} expected, {found.get(p.file)} found")
    return "\n".join(lines)


def _pairs(groups: Iterable[set[str]]) -> set[tuple[str, str]]:
    return {pair for group in groups for pair in combinations(sorted(group), 2)}
