"""Duplicates on three levels: equal bytes, equal pictures, equal content.

1. *bytes*: the same file under another name has the same clip id.
2. *pictures*: perceptual hashes of several frames propose pairs, thumbnails over time confirm them.
   Blank frames have no hash, so two films with a black intro are not alike; a still background is
   not enough either, what moves has to move alike.
3. *content*: embeddings, for what was filmed or cut differently; off unless vectors are given.

Groups and the clip that is kept depend on the clips alone, not on their order.
"""

from collections.abc import Iterable, Iterator, MutableMapping, Sequence

import numpy as np
from scipy.cluster.hierarchy import DisjointSet
from scipy.spatial import KDTree

from vidgen_lab.pipeline.manifest import Row
from vidgen_lab.pipeline.select.nearby import near_pairs, within
from vidgen_lab.pipeline.select.sameness import DuplicateSettings, Proposal, same
from vidgen_lab.pipeline.select.signatures import NONE, PARTS, UPPER, WHOLE, Signature

_ASKED = 6  # looks of a clip that are searched for among all looks of all others
_WAVE = 2048  # pairs between two looks at who is joined already
_CROWD = 32  # clips with one hash beyond which not every pair is compared

# Verdicts by pair: remembered from run to run, so that only new pairs are looked at.
Verdicts = MutableMapping[str, bool]


class Hashes:
    """All hashes of all clips, from one pass over the signatures, which need not fit into memory.

    values: uint64 [all looks, parts]. clips: int32, whose they are. seconds: float [clips].
    """

    def __init__(self, signatures: Sequence[Signature]) -> None:
        found = [(signature.hashes, signature.seconds) for signature in signatures]
        none, counts = np.empty((0, len(PARTS)), np.uint64), [len(hashes) for hashes, _ in found]
        self.values = np.concatenate([none, *(hashes for hashes, _ in found)])
        self.seconds = np.array([seconds for _, seconds in found])
        self.clips = np.repeat(np.arange(len(found), dtype=np.int32), counts)


class Shelves:
    """The hashes of one part of the picture: unique values, and who has each.

    most: so many looks of a clip at most, spread over it. stands: bool by clip; of a crowd that
    shares one hash only these are kept.
    """

    def __init__(
        self,
        hashes: Hashes,
        part: int,
        most: int | None = None,
        stands: np.ndarray | None = None,
    ) -> None:
        values, clips = hashes.values[:, part], hashes.clips
        order = np.lexsort((values, clips))  # stable: equal ones stay in the order of the looks
        first = np.ones(len(order), bool)  # a clip has a hash once
        first[1:] = (np.diff(clips[order]) != 0) | (values[order][1:] != values[order][:-1])
        chosen = np.sort(order[first & (values[order] != NONE)])
        if most is not None:
            chosen = chosen[_spread(clips[chosen], most)]
        order = np.argsort(values[chosen], kind="stable")
        self.values, starts = np.unique(values[chosen][order], return_index=True)
        self.bounds = np.append(starts, len(order))
        self.clips = clips[chosen][order]
        if stands is not None:
            sizes = np.diff(self.bounds)
            stays = stands[self.clips] | np.repeat(sizes <= _CROWD, sizes)
            self.bounds = np.concatenate([[0], np.cumsum(stays)])[self.bounds]
            self.clips = self.clips[stays]

    def crowds(self) -> Iterator[np.ndarray]:
        """Clips that share a hash with very many, hash by hash."""
        sizes = np.diff(self.bounds)
        for place in np.flatnonzero(sizes > _CROWD):
            yield self.clips[self.bounds[place] : self.bounds[place + 1]]


def _spread(clips: np.ndarray, most: int) -> np.ndarray:
    """bool: about `most` evenly spaced entries of each clip, the first and the last among them."""
    counts = np.bincount(clips)
    count, number = counts[clips], within(counts)
    return (count <= most) | (number * (most - 1) % np.maximum(count - 1, 1) < most - 1)


def propose(
    hashes: Hashes, settings: DuplicateSettings, stands: np.ndarray | None = None
) -> Proposal:
    """Pairs of clips with like pictures and lengths, the most alike first.

    A clip's pictures are searched for among the pictures of all others: as they are, mirrored, cut
    out of the middle, and without the lower fifth. stands: see `Shelves`.
    """
    found = []
    for part in range(len(PARTS)):
        asked = Shelves(hashes, UPPER if part == UPPER else WHOLE, _ASKED, stands)
        stock = Shelves(hashes, part, stands=stands)
        query, near = near_pairs(asked.values, stock.values, settings.max_bits)
        bits = np.bitwise_count(asked.values[query] ^ stock.values[near])
        left, right, which = _products(asked.bounds, query, stock.bounds, near)
        a, b = asked.clips[left], stock.clips[right]
        lengths = np.sort([hashes.seconds[a], hashes.seconds[b]], axis=0)
        fit = (a != b) & (lengths[0] >= settings.min_share * lengths[1])
        parts = np.full(len(a), part, np.int8)
        found.append([column[fit] for column in (a, b, parts, bits[which])])
    return _best(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _products(
    ours: np.ndarray, query: np.ndarray, theirs: np.ndarray, near: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every member of each query's shelf with every member of the near one's:
    (place in ours, place in theirs, number of the pair of shelves)."""
    wide, deep = ours[query + 1] - ours[query], theirs[near + 1] - theirs[near]
    count = wide * deep
    which = np.repeat(np.arange(len(query)), count)
    row, column = np.divmod(within(count), deep[which])
    return ours[query][which] + row, theirs[near][which] + column, which


def _best(a: np.ndarray, b: np.ndarray, part: np.ndarray, bits: np.ndarray) -> Proposal:
    """One proposal for every pair and part, by the looks that are most alike."""
    back = (a > b) & np.isin(part, (WHOLE, UPPER))  # these two say the same both ways
    a, b = np.where(back, b, a), np.where(back, a, b)
    order = np.lexsort((b, a, bits, part))
    a, b, part = (column[order].astype(np.int64) for column in (a, b, part))
    _, first = np.unique(a << 34 | b << 3 | part, return_index=True)
    first.sort()
    return Proposal(a[first], b[first], part[first])


def find_groups(
    rows: Sequence[Row],
    signatures: Sequence[Signature],
    settings: DuplicateSettings = DuplicateSettings(),  # noqa: B008
    embeddings: np.ndarray | None = None,
    verdicts: Verdicts | None = None,
) -> list[tuple[list[int], str]]:
    """Groups of equal clips, as (numbers of the rows, the level that joined them last).

    Singles are left out. embeddings: [len(rows), D], needed when `min_cosine` is set. verdicts: on
    pairs, from an earlier run; new ones are added.
    """
    joined = _Groups(len(rows))
    first: dict[str, int] = {}
    for number, row in enumerate(rows):
        joined.join(first.setdefault(row.clip_id, number), number, "bytes")
    ask = _Asking(rows, signatures, settings, {} if verdicts is None else verdicts)
    hashes = Hashes(signatures)
    for crowd in Shelves(hashes, WHOLE).crowds():
        _sweep(crowd, ask, joined)
    roots = np.array([joined[n] for n in range(len(rows))])
    pairs = propose(hashes, settings, roots == np.arange(len(rows)))
    for wave in _waves(pairs):
        apart = [not joined.connected(i, j) for i, j in wave.ends()]
        wave = wave[np.array(apart, bool)]
        for i, j in wave[ask(wave)].ends():
            joined.join(i, j, "pictures")
    if settings.min_cosine is not None and len(rows):
        if embeddings is None:
            raise ValueError("min_cosine compares embeddings, but none were given")
        for i, j in _near(np.asarray(embeddings), settings.min_cosine):
            joined.join(i, j, "content")
    return joined.groups()


def _waves(pairs: Proposal) -> Iterator[Proposal]:
    """The best proposal of every clip first, then the second best, ...: who is joined by then need
    not be compared again."""
    order = np.argsort(pairs.b, kind="stable")
    rank = np.empty(len(pairs), int)
    rank[order] = within(np.bincount(pairs.b))
    ranks = np.cumsum(np.bincount(rank))[:-1]
    for wave in np.split(np.argsort(rank, kind="stable"), ranks):
        for first in range(0, len(wave), _WAVE):
            yield pairs[wave[first : first + _WAVE]]


def _sweep(crowd: np.ndarray, ask: "_Asking", joined: "_Groups") -> None:
    """Sort clips that share a hash into groups without comparing all with all: everyone with the
    first, who is left with the first of these, and so on."""
    waiting = np.unique([joined[int(n)] for n in crowd])
    while len(waiting) > 1:
        leader, others = waiting[0], waiting[1:]
        pairs = Proposal(np.full(len(others), leader), others, np.full(len(others), WHOLE))
        equal = ask(pairs)
        for other in others[equal]:
            joined.join(int(leader), int(other), "pictures")
        waiting = others[~equal]


class _Asking:
    """Verdicts on pairs: remembered ones, or found now."""

    def __init__(self, rows, signatures, settings, verdicts: Verdicts) -> None:
        self.ids = [row.clip_id for row in rows]
        self.signatures, self.settings, self.verdicts = signatures, settings, verdicts

    def __call__(self, pairs: Proposal) -> np.ndarray:
        """bool [P]."""
        keys = [
            f"{self.ids[i]} {self.ids[j]} {part}"
            for i, j, part in zip(pairs.a, pairs.b, pairs.part, strict=True)
        ]
        new = [place for place, key in enumerate(keys) if key not in self.verdicts]
        found = same(self.signatures, pairs[new], self.settings).tolist()
        self.verdicts.update(zip([keys[place] for place in new], found, strict=True))
        return np.array([self.verdicts[key] for key in keys], bool)


def _near(vectors: np.ndarray, min_cosine: float) -> list[list[int]]:
    """Pairs with at least this cosine; a tree search, so not every pair is looked at."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    radius = float(np.sqrt(max(0.0, 2 - 2 * min_cosine))) + 1e-6
    return KDTree(unit).query_pairs(radius, output_type="ndarray").tolist()


def keeper(rows: Iterable[Row]) -> Row:
    """The clip of a group that stays: most pixels between black bars, then longest, most bits,
    sharpest; then the smallest id and name, so that the choice never depends on the order."""

    def rank(row: Row) -> tuple:
        names = ("width", "height", "num_frames", "bits_per_second", "edge_steepness")
        width, height, *others = (row.metrics.get(name) or 0 for name in names)
        _, _, width, height = row.info.get("crop", (0, 0, width, height))
        return -width * height, *(-value for value in others), row.clip_id, row.source

    return min(rows, key=rank)


def drop_duplicates(
    rows: Sequence[Row],
    signatures: Sequence[Signature],
    settings: DuplicateSettings = DuplicateSettings(),  # noqa: B008
    embeddings: np.ndarray | None = None,
    verdicts: Verdicts | None = None,
) -> list[Row]:
    """Rows after the stage: one of every group kept, the others rejected as its duplicates.

    `info` names the group (the keeper's clip id) and its size on all of them.
    """
    out: list[Row] = [row.to("duplicates", group=row.clip_id, group_size=1) for row in rows]
    for numbers, level in find_groups(rows, signatures, settings, embeddings, verdicts):
        best = keeper(rows[n] for n in numbers)
        for n in numbers:
            row = rows[n].to("duplicates", group=best.clip_id, group_size=len(numbers), level=level)
            if rows[n].identity != best.identity:
                row = row.rejected(
                    "duplicates", f"duplicate: of {best.source}", "copies", len(numbers), 1
                )
            out[n] = row
    return out


class _Groups(DisjointSet):
    """Row numbers that belong together, and the level that joined them last."""

    def __init__(self, count: int) -> None:
        super().__init__(range(count))
        self._joins: list[tuple[int, str]] = []

    def join(self, i: int, j: int, level: str) -> None:
        if self.merge(i, j):
            self._joins.append((i, level))

    def groups(self) -> list[tuple[list[int], str]]:
        level = {self[i]: level for i, level in self._joins}  # the last one of each group
        groups = (sorted(members) for members in self.subsets() if len(members) > 1)
        return [(members, level[self[members[0]]]) for members in groups]
