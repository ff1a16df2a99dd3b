"""Which of many 64-bit hashes lie near one another: exact multi-index hashing.

Two hashes that differ by at most 7 bits agree in one of their four quarters but for at most one bit
(pigeonhole). So each hash is looked up under its quarters and under every quarter with few bits
flipped; whatever is found is compared in full. Nothing is missed, and only a small share of all
pairs is looked at (Norouzi, Punjani and Fleet 2012).
"""

from itertools import combinations

import numpy as np

_BANDS, _WIDTH = 4, 16  # a hash is filed under each of its 16-bit quarters
_AT_ONCE = 1 << 21  # comparisons made at a time: bounds the memory


def near_pairs(
    queries: np.ndarray, stock: np.ndarray, max_bits: int
) -> tuple[np.ndarray, np.ndarray]:
    """All (query, stock) whose hashes differ by at most max_bits; two int64 arrays, sorted.

    queries, stock: uint64 [Q], [S]. Exact for every max_bits; the work grows with
    Q * S / 65536 * (number of ways to flip max_bits // 4 of 16 bits).
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
            full = np.arange(_AT_ONCE, count.sum(), _AT_ONCE)
            ends = np.unique(np.searchsorted(np.cumsum(count), full, side="right"))
            for some in np.split(np.arange(len(count)), ends):
                query = np.repeat(some, count[some])
                near = order[low[query] + within(count[some])]
                close = np.bitwise_count(queries[query] ^ stock[near]) <= max_bits
                found.append(query[close] * len(stock) + near[close])
    pairs = np.unique(np.concatenate(found))
    return pairs // max(1, len(stock)), pairs % max(1, len(stock))


def within(counts: np.ndarray) -> np.ndarray:
    """0, 1, 2, ... for each of these counts, one after the other."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
