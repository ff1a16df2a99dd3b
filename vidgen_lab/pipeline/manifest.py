"""The manifest: one row for every clip at every stage, and the law that none gets lost.

A row ends one of three ways. *kept* goes on; *rejected* names the metric, its value and the
threshold it missed; *error* says what went wrong. A clip that could not be decoded is an error and
never a low score.
"""

import json
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, get_args

from vidgen_lab.config import Checked
from vidgen_lab.files import plain, read_rows

Status = Literal["kept", "rejected", "error"]
STATUSES = get_args(Status)
_FORMERLY = {"sharpness": "edge_steepness", "motion": "flow_speed"}  # measures in older manifests
_NO_LETTER = re.compile("[\ud800-\udfff]")  # a byte of a file name that is not UTF-8
STAGES = ("read", "scenes", "quality", "duplicates", "balance", "export", "annotate", "split")


@dataclass(frozen=True)
class Row(Checked, stage=STAGES, status=STATUSES):
    """One clip after one stage; plain values only, so that it is one line of JSON.

    Attributes:
        source: path below the source folder, with forward slashes.
        clip_id: 16 digits of the file's sha256, then any span in frames; equal content, equal id.
        metric, value, threshold: why a clip was rejected; value is None where none was measured.
        span: seconds [start, end) in the file; None while there are no scenes.
        frames: the same in frame numbers as shown.
        metrics: everything measured so far.
        info: what is odd about it (crop between black bars, hdr: PQ or HLG), what later stages
            added (group, weight, split, caption; clip: the output file, its sha256, tone_mapped:
            from what, ...).
        rights: licence, url and consent as given by whoever collected the file.
        versions: of the package, the recipe and the libraries that measured the file.
    """

    source: str
    clip_id: str
    stage: str
    status: Status
    reason: str = ""
    metric: str | None = None
    value: float | None = None
    threshold: float | None = None
    sha256: str = ""
    span: tuple[float, float] | None = None
    frames: tuple[int, int] | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)
    rights: Mapping[str, str] = field(default_factory=dict)
    versions: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.status != "kept" and not self.reason:
            raise ValueError(f"{self.source}: a clip that is {self.status} needs a reason")
        for name in ("span", "frames"):
            if (pair := getattr(self, name)) is not None:
                object.__setattr__(self, name, tuple(pair))

    @property
    def identity(self) -> tuple[str, str]:
        """What a clip keeps from stage to stage."""
        return self.source, self.clip_id

    def to(self, stage: str, **info: Any) -> "Row":
        """This clip, kept by a later stage; `info` is added to what is known of it."""
        return replace(self, stage=stage, status="kept", info={**self.info, **info})

    def rejected(self, stage: str, reason: str, metric: str, value: float, threshold: float):
        """This clip, rejected by a later stage because of one number."""
        return replace(
            self.to(stage), status="rejected", reason=reason,
            metric=metric, value=value, threshold=threshold,
        )  # fmt: skip

    def failed(self, stage: str, reason: str) -> "Row":
        """This clip, lost to an error in a later stage."""
        return replace(self.to(stage), status="error", reason=reason)

    def to_json(self) -> str:
        """One line; names of files that are not UTF-8 have escapes and read back as they are."""
        text = json.dumps(plain(asdict(self)), ensure_ascii=False, sort_keys=True)
        return _NO_LETTER.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def sort_rows(rows: Iterable[Row]) -> list[Row]:
    """The one order of a manifest: stage, source, place in the source."""
    return sorted(rows, key=lambda r: (STAGES.index(r.stage), r.source, r.frames or (), r.clip_id))


def manifest_text(rows: Iterable[Row]) -> str:
    """Rows as JSON Lines, sorted."""
    return "".join(f"{row.to_json()}\n" for row in sort_rows(rows))


def read_manifest(path: str | Path) -> list[Row]:
    """The rows of a manifest; metrics of an earlier version get today's names, with a warning.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is no row; the message names it.
    """
    old: set[str] = set()

    def row(entry: dict[str, Any]) -> Row:
        metric, metrics = entry.get("metric"), entry.get("metrics", {})
        old.update(_FORMERLY.keys() & {metric, *metrics})
        metrics = {_FORMERLY.get(name, name): value for name, value in metrics.items()}
        return Row(**entry | {"metric": _FORMERLY.get(metric, metric), "metrics": metrics})

    rows = read_rows(path, row, "manifest row")
    if old:
        said = " and ".join(f"{new} ({old})" for old, new in _FORMERLY.items())
        warnings.warn(f"{path} is of an earlier version; read as {said}", stacklevel=2)
    return rows


def kept(rows: Iterable[Row]) -> list[Row]:
    """The rows of clips that a stage kept."""
    return [row for row in rows if row.status == "kept"]


def funnel(rows: Iterable[Row]) -> dict[str, dict[str, int]]:
    """Clips in, kept, rejected and error by stage, counted from the rows; without unused stages."""
    counts = Counter((row.stage, row.status) for row in rows)
    table = {}
    for stage in STAGES:
        numbers = {status: counts[stage, status] for status in STATUSES}
        if total := sum(numbers.values()):
            table[stage] = {"in": total, **numbers}
    return table


def check_funnel(rows: Sequence[Row], last: str = STAGES[-1]) -> None:
    """Check the law up to the stage `last`: each stage receives exactly what the one before it
    kept, and a file that was read has at least one clip.

    Raises:
        AssertionError: it is broken; the message names the stage, what was lost and what is new.
    """
    for before, after in pairwise(STAGES[: STAGES.index(last) + 1]):
        what = attrgetter("source" if before == "read" else "identity")
        given = Counter(what(r) for r in rows if r.stage == before and r.status == "kept")
        returned = Counter(what(r) for r in rows if r.stage == after)
        if before == "read":
            returned = Counter(set(returned))
        if given != returned:
            lost, new = sorted(given - returned), sorted(returned - given)
            numbers = f"{given.total()} in, {returned.total()} out"
            raise AssertionError(f"{after}: {numbers}; lost {lost}, new {new}")


def reasons(rows: Iterable[Row]) -> dict[str, int]:
    """How often each reason ended a clip, most frequent first."""
    counts = Counter(f"{r.stage}: {r.reason.split(':')[0]}" for r in rows if r.status != "kept")
    return dict(counts.most_common())
