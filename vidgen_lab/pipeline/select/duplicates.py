"""Duplicates on three levels: equal bytes, equal pictures, equal content.

1. *bytes*: the same file under another name has the same clip id.
2. *pictures*: perceptual hashes of several frames propose pairs, thumbnails over time confirm them.
   Blank frames have no hash, so two films with a black intro are not alike; a still background is
   not enough either, what moves has to move alike.
3. *content*: embeddings, for what was filmed or cut differently; off unless vectors are given.

Groups and the clip that is kept depend on the clips alone, not on their order.
"""

from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import DisjointSet
from scipy.spatial import KDTree

from vidgen_lab.pipeline.manifest import Row
from vidgen_lab.pipeline.select.sameness import (
    NONE,
    PARTS,
    UPPER,
    WHOLE,
    DuplicateSettings,
    Signature,
    same,
)

_ASKED = 6  # looks of a clip that are searched for among all looks of all others
_WAVE = 2048  # pairs between two looks at who is joined already
_CROWD = 32  # clips with one hash beyond which not every pair is compared
_BANDS, _WIDTH = 4, 16  # a hash is filed under each of its 16-bit quarters
_COMPARED = 1 << 21  # hashes compared at a time: bounds the memory

# Verdicts by pair: remembered from run to run, so that only new pairs are looked at.
Verdicts = MutableMapping[str, bool]


class Hashes:
    """All hashes of all clips, from one pass over the signatures, which need not fit into memory.

    Attributes:
        values: uint64 [all looks, parts].
        clips: int32, whose they are.
        seconds: float [clips].
    """

    def __init__(self, signatures: Sequence[Signature]) -> None:
        found = [(signature.hashes, signature.seconds) for signature in signatures]
        none, counts = np.empty((0, len(PARTS)), np.uint64), [len(hashes) for hashes, _ in found]
        self.values = np.concatenate([none, *(hashes for hashes, _ in found)])
        self.seconds = np.array([seconds for _, seconds in found])
        self.clips = np.repeat(np.arange(len(found), dtype=np.int32), counts)

    def of(
        self, part: int, most: int | None = None, stands: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Hashes of a part of the picture and whose they are, each once a clip; no blank ones.

        Args:
            part: number in PARTS.
            most: so many looks of a clip at most, spread over it.
            stands: bool by clip; of a crowd that shares one hash only these are kept.
        """
        values, clips = self.values[:, part], self.clips
        again = pd.DataFrame({"clip": clips, "value": values}).duplicated().to_numpy()
        chosen = np.flatnonzero(~again & (values != NONE))
        if most is not None:
            chosen = chosen[_spread(clips[chosen], most)]
        if stands is not None:
            chosen = chosen[stands[clips[chosen]] | ~_crowded(values[chosen])]
        return values[chosen], clips[chosen]

    def crowds(self) -> list[np.ndarray]:
        """Clips that share the hash of a whole picture with very many, hash by hash."""
        values, clips = self.of(WHOLE)
        many = np.flatnonzero(_crowded(values))
        many = many[np.argsort(values[many], kind="stable")]
        return np.split(clips[many], np.flatnonzero(np.diff(values[many])) + 1)


def _crowded(values: np.ndarray) -> np.ndarray:
    """bool: whether a hash is there too often for all who have it to be compared."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    return counts[which] > _CROWD


def _spread(clips: np.ndarray, most: int) -> np.ndarray:
    """bool: about `most` evenly spaced entries of each clip, the first and the last among them."""
    counts = np.bincount(clips)
    count, number = counts[clips], within(counts)
    return (count <= most) | (number * (most - 1) % np.maximum(count - 1, 1) < most - 1)


def propose(
    hashes: Hashes, settings: DuplicateSettings, stands: np.ndarray | None = None
) -> np.ndarray:
    """Pairs of clips with like pictures and lengths, the most alike first: int [P, 3], see `same`.

    A clip's pictures are searched for among the pictures of all others: as they are, mirrored, cut
    out of the middle, and without the lower fifth. For `stands` see `Hashes.of`.
    """
    found = []
    for part in range(len(PARTS)):
        asked, ours = hashes.of(UPPER if part == UPPER else WHOLE, _ASKED, stands)
        stock, theirs = hashes.of(part, stands=stands)
        query, near = near_pairs(asked, stock, settings.max_bits)
        bits = np.bitwise_count(asked[query] ^ stock[near])
        a, b = ours[query], theirs[near]
        lengths = np.sort([hashes.seconds[a], hashes.seconds[b]], axis=0)
        fit = (a != b) & (lengths[0] >= settings.min_share * lengths[1])
        back = (a > b) & (part in (WHOLE, UPPER))  # these two say the same both ways
        a, b = np.where(back, b, a), np.where(back, a, b)
        found.append(np.stack([a, b, np.full(len(a), part), bits], axis=1)[fit])
    a, b, part, bits = np.concatenate(found).astype(np.int64).T
    order = np.lexsort((b, a, bits, part))
    pairs = np.stack([a, b, part], axis=1)[order]
    _, first = np.unique(pairs @ [1 << 34, 1 << 3, 1], return_index=True)  # the looks most alike
    return pairs[np.sort(first)]


def near_pairs(
    queries: np.ndarray, stock: np.ndarray, max_bits: int
) -> tuple[np.ndarray, np.ndarray]:
    """All (query, stock) whose hashes differ by at most max_bits; two int64 arrays, sorted.

    `queries` and `stock` are uint64 [Q] and [S]. Exact multi-index hashing (Norouzi, Punjani and
    Fleet 2012): two hashes that differ by at most 7 bits agree in one of their four quarters but
    for at most one bit (pigeonhole). So each hash is looked up under its quarters and under every
    quarter with few bits flipped; whatever is found is compared in full. The work grows with
    Q * S / 65536 * (number of ways to flip up to max_bits // 4 of 16 bits).
    """
    found = [np.empty(0, np.int64)]
    ways = [w for n in range(max_bits // _BANDS + 1) for w in combinations(range(_WIDTH), n)]
    flips = [sum(1 << bit for bit in way) for way in ways]  # masks with so few bits set
    for band in range(_BANDS):
        shift = np.uint64(band * _WIDTH)
        mask = np.uint64(2**_WIDTH - 1)
        keys = ((stock >> shift) & mask).astype(np.int64)
        order = np.argsort(keys, kind="stable").astype(np.int32)
        starts = np.concatenate([[0], np.cumsum(np.bincount(keys, minlength=2**_WIDTH))])
        wanted = ((queries >> shift) & mask).astype(np.int64)
        for flip in flips:
            low = starts[wanted ^ flip]
            count = starts[(wanted ^ flip) + 1] - low
            full = np.arange(_COMPARED, count.sum(), _COMPARED)
            ends = np.unique(np.searchsorted(np.cumsum(count), full, side="right"))
            for some in np.split(np.arange(len(count)), ends):
                query = np.repeat(some, count[some])
                near = order[low[query] + within(count[some])]
                close = np.bitwise_count(queries[query] ^ stock[near]) <= max_bits
                found.append(query[close] * len(stock) + near[close])
    pairs = np.unique(np.concatenate(found))
    return pairs // max(1, len(stock)), pairs % max(1, len(stock))


def within(counts: np.ndarray) -> np.ndarray:
    """0, 1, 2, ... for each of these counts [N], one after the other: [sum of counts]."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def find_groups(
    rows: Sequence[Row],
    signatures: Sequence[Signature],
    settings: DuplicateSettings = DuplicateSettings(),  # noqa: B008
    embeddings: np.ndarray | None = None,
    verdicts: Verdicts | None = None,
) -> list[tuple[list[int], str]]:
    """Groups of equal clips, as (numbers of the rows, the level that joined them last).

    Levels are "bytes", "pictures" and "content"; singles are left out. `embeddings` [len(rows), D]
    are needed when `min_cosine` is set. `verdicts` on pairs are from an earlier run under the same
    settings; new ones are added.
    """
    joined, merges, first = DisjointSet(range(len(rows))), [], {}

    def join(i: int, j: int, level: str) -> None:
        if joined.merge(i, j):
            merges.append((i, level))

    for number, row in enumerate(rows):
        join(first.setdefault(row.clip_id, number), number, "bytes")
    known, hashes = {} if verdicts is None else verdicts, Hashes(signatures)

    def ask(pairs: np.ndarray) -> np.ndarray:
        """bool [P]: verdicts on pairs, remembered ones, or found now and remembered."""
        keys = [f"{rows[i].clip_id} {rows[j].clip_id} {part}" for i, j, part in pairs.tolist()]
        new = [place for place, key in enumerate(keys) if key not in known]
        found = same(signatures, pairs[new], settings).tolist()
        known.update(zip([keys[place] for place in new], found, strict=True))
        return np.array([known[key] for key in keys], bool)

    for crowd in hashes.crowds():
        _sweep({joined[n] for n in crowd.tolist()}, ask, join)
    stands = np.array([joined[n] == n for n in range(len(rows))], bool)
    for wave in _waves(propose(hashes, settings, stands)):
        apart = [not joined.connected(i, j) for i, j, _ in wave.tolist()]
        wave = wave[np.array(apart, bool)]
        for i, j, _ in wave[ask(wave)].tolist():
            join(i, j, "pictures")
    if settings.min_cosine is not None and len(rows):
        if embeddings is None:
            raise ValueError("min_cosine compares embeddings, but none were given")
        for i, j in _near(np.asarray(embeddings), settings.min_cosine):
            join(i, j, "content")
    level = {joined[i]: level for i, level in merges}  # of each group the last one
    groups = (sorted(members) for members in joined.subsets() if len(members) > 1)
    return [(members, level[joined[members[0]]]) for members in groups]


def _waves(pairs: np.ndarray) -> Iterator[np.ndarray]:
    """The best proposal of every clip first, then the second best, ...: who is joined by then need
    not be compared again."""
    rank = pd.Series(pairs[:, 1]).groupby(pairs[:, 1]).cumcount().to_numpy()
    ranks = np.cumsum(np.bincount(rank))[:-1]
    for wave in np.split(np.argsort(rank, kind="stable"), ranks):
        for first in range(0, len(wave), _WAVE):
            yield pairs[wave[first : first + _WAVE]]


def _sweep(crowd: set[int], ask: Callable, join: Callable) -> None:
    """Sort clips that share a hash into groups without comparing all with all: everyone with the
    first, who is left with the first of these, and so on."""
    waiting = np.array(sorted(crowd))
    while len(waiting) > 1:
        leader, others = waiting[0], waiting[1:]
        equal = ask(np.array([(leader, other, WHOLE) for other in others]))
        for other in others[equal]:
            join(int(leader), int(other), "pictures")
        waiting = others[~equal]


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

    `info` of each names the group (the keeper's clip id) and its size; see also `find_groups`.
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
