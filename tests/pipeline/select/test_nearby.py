import numpy as np
import pytest

from vidgen_lab.pipeline.select.nearby import near_pairs


@pytest.mark.parametrize("max_bits", [0, 3, 7, 9])
def test_finds_exactly_what_comparing_all_with_all_finds(max_bits):
    rng = np.random.default_rng(0)
    stock = rng.integers(0, 2**63, 400, dtype=np.uint64)
    queries = stock[rng.integers(0, 400, 300)]
    for bit in rng.integers(0, 64, (9, 300)).astype(np.uint64):  # up to nine bits flipped
        queries ^= (rng.random(300) < 0.6).astype(np.uint64) << bit
    all_pairs = np.bitwise_count(queries[:, None] ^ stock[None]) <= max_bits
    query, near = near_pairs(queries, stock, max_bits)
    assert list(zip(query, near, strict=True)) == list(zip(*np.nonzero(all_pairs), strict=True))


def test_of_nothing_comes_nothing():
    none = np.empty(0, np.uint64)
    assert [len(x) for x in near_pairs(none, none, 7)] == [0, 0]
