"""Duplicates on three levels: equal bytes, equal pictures, equal content.

1. *bytes*: the same file under another name has the same clip id.
2. *pictures*: perceptual hashes of several frames propose pairs, thumbnails over time confirm them.
   Blank frames have no hash, so two films with a black intro are not alike; a still background is
   not enough either, what moves has to move alike.
3. *content*: embeddings, for what was filmed or cut differently; off unless vectors are given.

Groups and the clip that is kept depend on the clips alone, not on their order.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from vidgen_lab.pipeline.manifest import Row
from vidgen_lab.pipeline.read.pictures import THUMB, hamming

STAGE = "duplicates"
_BANDS = 4  # a hash is filed under each of its 16-bit quarters
_CROWDED = 200  # clips under one quarter: too common to propose pairs
_LENGTH = 0.6  # a duplicate keeps at least this share of the longer clip


@dataclass(frozen=True)
class DuplicateSettings:
    """max_bits: hashes of the same picture differ by at most so many of 64 bits.

    max_difference: grey levels by which thumbnails of the same picture may differ on average, and
    max_local at any one place: another subject in the same scene is a small difference all in all
    and a large one where it stands. min_correlation: of what moves, over time. min_cosine: of
    embeddings; None: level 3 is off.
    """

    max_bits: int = 10
    max_difference: float = 7.0
    max_local: float = 24.0
    min_correlation: float = 0.8
    min_cosine: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.max_bits <= 64:
            raise ValueError(f"max_bits must lie in 0..64, not {self.max_bits}")
        for name in ("max_difference", "max_local"):
            if not 0 <= getattr(self, name) <= 255:
                raise ValueError(f"{name} must lie in 0..255, not {getattr(self, name)}")
        for name in ("min_correlation", "min_cosine"):
            if (value := getattr(self, name)) is not None and not -1 <= value <= 1:
                raise ValueError(f"{name} must lie in -1..1, not {value}")


@dataclass(frozen=True)
class Signature:
    """What clips are compared by: hashes and thumbnails, `step` seconds apart."""

    hashes: tuple[str | None, ...]
    thumbs: np.ndarray  # float32 [N, h, w, 3]
    step: float

    @classmethod
    def of(cls, scored: Mapping[str, Any]) -> "Signature":
        """From the plain values that `scoring.score_video` returns for a clip."""
        raw = b"".join(bytes.fromhex(t) for t in scored["thumbs"])
        thumbs = np.frombuffer(raw, np.uint8).reshape(-1, THUMB[1], THUMB[0], 3)
        return cls(tuple(scored["hashes"]), thumbs.astype(np.float32), float(scored["step"]))


def same_pictures(a: Signature, b: Signature, settings: DuplicateSettings) -> bool:
    """Whether one clip shows what the other shows, allowing for coding, size and trimmed ends.

    The shorter clip is slid along the longer one; thumbnails between two looks are blended, since
    trimming moves the looks by less than their distance.
    """
    if len(a.thumbs) * a.step > len(b.thumbs) * b.step:
        a, b = b, a
    if not len(a.thumbs) or len(a.thumbs) * a.step < _LENGTH * len(b.thumbs) * b.step:
        return False
    slack = len(b.thumbs) * b.step - len(a.thumbs) * a.step
    shifts = np.arange(-a.step, slack + a.step + 1e-9, a.step / 4)
    return any(_alike(a, b, shift, settings) for shift in shifts)


def _alike(a: Signature, b: Signature, shift: float, settings: DuplicateSettings) -> bool:
    places = (np.arange(len(a.thumbs)) * a.step + shift) / b.step
    inside = (places >= 0) & (places <= len(b.thumbs) - 1)
    if inside.sum() < max(1, 0.7 * len(places)):
        return False
    places = places[inside]
    low = np.floor(places).astype(int)
    high = np.minimum(low + 1, len(b.thumbs) - 1)
    part = (places - low)[:, None, None, None].astype(np.float32)
    theirs = b.thumbs[low] * (1 - part) + b.thumbs[high] * part
    ours = a.thumbs[inside]
    difference = np.abs(ours - theirs)
    if difference.mean() > settings.max_difference:
        return False
    if difference.mean((0, 3)).max() > settings.max_local:
        return False
    ours, theirs = ours - ours.mean(0), theirs - theirs.mean(0)
    energy = np.sqrt((ours**2).sum() * (theirs**2).sum())
    if energy < 4.0 * ours.size:  # both stand still: the pictures have decided
        return True
    return float((ours * theirs).sum() / energy) >= settings.min_correlation


def candidates(
    signatures: Sequence[Signature], settings: DuplicateSettings
) -> set[tuple[int, int]]:
    """Pairs (i < j) with a frame in common, found through quarters of the hashes.

    Two hashes that differ by few bits usually agree in a quarter, and a clip has many hashes; a
    quarter that is shared by too many clips says nothing. So no pair is looked at without cause.
    """
    shelves: dict[tuple[int, str], set[int]] = defaultdict(set)
    for number, signature in enumerate(signatures):
        for value in filter(None, signature.hashes):
            for band in range(_BANDS):
                shelves[band, value[4 * band : 4 * band + 4]].add(number)
    pairs = {
        pair
        for clips in shelves.values()
        if 1 < len(clips) <= _CROWDED
        for pair in combinations(sorted(clips), 2)
    }
    return {(i, j) for i, j in pairs if _close(signatures[i], signatures[j], settings.max_bits)}


def _close(a: Signature, b: Signature, max_bits: int) -> bool:
    ours, theirs = set(filter(None, a.hashes)), set(filter(None, b.hashes))
    return any(hamming(x, y) <= max_bits for x in ours for y in theirs)


def find_groups(
    rows: Sequence[Row],
    signatures: Sequence[Signature],
    settings: DuplicateSettings = DuplicateSettings(),
    embeddings: np.ndarray | None = None,
) -> list[tuple[list[int], str]]:
    """Groups of equal clips, as (numbers of the rows, the level that joined them last).

    Singles are left out. embeddings: [len(rows), D], needed when `min_cosine` is set.
    """
    joined = _Groups(len(rows))
    first: dict[str, int] = {}
    for number, row in enumerate(rows):
        joined.join(first.setdefault(row.clip_id, number), number, "bytes")
    for i, j in sorted(candidates(signatures, settings)):
        if not joined.same(i, j) and same_pictures(signatures[i], signatures[j], settings):
            joined.join(i, j, "pictures")
    if settings.min_cosine is not None:
        if embeddings is None:
            raise ValueError("min_cosine compares embeddings, but none were given")
        for i, j in _near(np.asarray(embeddings), settings.min_cosine):
            joined.join(i, j, "content")
    return joined.groups()


def _near(vectors: np.ndarray, min_cosine: float) -> list[tuple[int, int]]:
    """Pairs with at least this cosine; a tree search, so not every pair is looked at."""
    from sklearn.neighbors import NearestNeighbors

    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    radius = float(np.sqrt(max(0.0, 2 - 2 * min_cosine))) + 1e-6
    near = NearestNeighbors(radius=radius, algorithm="ball_tree").fit(unit)
    found = near.radius_neighbors(unit, return_distance=False)
    return [(i, int(j)) for i, others in enumerate(found) for j in sorted(others) if i < j]


def keeper(rows: Iterable[Row]) -> Row:
    """The clip of a group that stays: most pixels, then longest, most bits, sharpest; then the
    smallest id and name, so that the choice never depends on the order."""

    def rank(row: Row) -> tuple:
        m = row.metrics
        return (
            -(m.get("width") or 0) * (m.get("height") or 0),
            -(m.get("num_frames") or 0),
            -(m.get("bits_per_second") or 0),
            -(m.get("edge_steepness") or 0),
            row.clip_id,
            row.source,
        )

    return min(rows, key=rank)


def drop_duplicates(
    rows: Sequence[Row],
    signatures: Sequence[Signature],
    settings: DuplicateSettings = DuplicateSettings(),
    embeddings: np.ndarray | None = None,
) -> list[Row]:
    """Rows after the stage: one of every group kept, the others rejected as its duplicates.

    `info` names the group (the keeper's clip id) and its size on all of them.
    """
    out: list[Row] = [row.to(STAGE, group=row.clip_id, group_size=1) for row in rows]
    for numbers, level in find_groups(rows, signatures, settings, embeddings):
        best = keeper(rows[n] for n in numbers)
        for n in numbers:
            row = rows[n].to(STAGE, group=best.clip_id, group_size=len(numbers), level=level)
            if rows[n].identity != best.identity:
                row = row.rejected(STAGE, f"duplicate: of {best.source}", "copies", len(numbers), 1)
            out[n] = row
    return out


class _Groups:
    """Union-find over row numbers."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))
        self._level: dict[int, str] = {}

    def join(self, i: int, j: int, level: str) -> None:
        i, j = self._root(i), self._root(j)
        if i != j:
            low, high = min(i, j), max(i, j)
            self._parent[high] = low
            self._level[low] = max(
                (level, self._level.get(low, ""), self._level.get(high, "")), key=_LEVELS.index
            )

    def same(self, i: int, j: int) -> bool:
        return self._root(i) == self._root(j)

    def groups(self) -> list[tuple[list[int], str]]:
        members: dict[int, list[int]] = defaultdict(list)
        for number in range(len(self._parent)):
            members[self._root(number)].append(number)
        return [(m, self._level[root]) for root, m in sorted(members.items()) if len(m) > 1]

    def _root(self, i: int) -> int:
        while self._parent[i] != i:
            self._parent[i] = i = self._parent[self._parent[i]]
        return i


_LEVELS = ("", "bytes", "pictures", "content")
