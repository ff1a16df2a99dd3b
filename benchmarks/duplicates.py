"""Finding duplicates at scale: a million hashes, and a hundred thousand clips end to end.

    python benchmarks/duplicates.py
    python benchmarks/duplicates.py --hashes 200000 --clips 10000      quicker

Simulated, since only so is it known what there is to find. Seconds are processor time.
"""

import argparse
import resource
import time

import numpy as np

from vidgen_lab.pipeline.manifest import Row
from vidgen_lab.pipeline.select.duplicates import drop_duplicates, near_pairs
from vidgen_lab.pipeline.select.sameness import PARTS, Signature

LOOKS, SHOWN, COPIES = 20, 5, 0.05  # looks of a clip, different ones among them, share of copies


def memory() -> float:
    """Most memory held so far, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def flipped(hashes: np.ndarray, bits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The hashes with so many bits of each changed."""
    order = rng.random((len(hashes), 64)).argsort(1)
    masks = np.where(np.arange(64) < bits[:, None], np.uint64(1) << order.astype(np.uint64), 0)
    return hashes ^ np.bitwise_or.reduce(masks.astype(np.uint64), axis=1)


def search(count: int, max_bits: int = 7) -> None:
    rng, planted = np.random.default_rng(0), min(2000, count // 4)
    stock = rng.integers(0, 2**64, count, dtype=np.uint64)
    first = rng.permutation(count)[: 2 * planted].reshape(2, planted)
    bits = rng.integers(0, max_bits + 1, planted)
    stock[first[1]] = flipped(stock[first[0]], bits, rng)
    began = time.process_time()
    query, near = near_pairs(stock, stock, max_bits)
    spent = time.process_time() - began
    found = set(zip(query.tolist(), near.tolist(), strict=True))
    right = sum(pair in found for pair in zip(*first.tolist(), strict=True))
    print(f"{count:,} hashes, pairs up to {max_bits} bits apart: {right} of {planted} planted "
          f"found, {(len(found) - count) // 2 - right} by chance; {spent:.0f} s, "
          f"{memory():.2f} GB")  # fmt: skip


def clips(count: int) -> tuple[list[Row], list[Signature], dict[int, int]]:
    """Clips that differ, and copies of some of them: coded again, a third shorter."""
    rng = np.random.default_rng(1)
    signatures, truth = [], {}
    for number in range(count):
        if number and rng.random() < COPIES:
            truth[number] = original = int(rng.integers(number))
            one = signatures[original]
            hashes = flipped(one.hashes.ravel(), rng.integers(0, 4, one.hashes.size), rng)
            noise = rng.integers(-2, 3, one.thumbs.shape)
            thumbs = np.clip(one.thumbs + noise, 0, 255).astype(np.uint8)
            start = int(rng.integers(0, max(1, len(thumbs) // 3)))
            signature = Signature(hashes.reshape(one.hashes.shape)[start:], thumbs[start:], 0.25)
        else:
            shown = rng.integers(1, 2**64, (SHOWN, len(PARTS)), dtype=np.uint64)
            ground = rng.integers(0, 256, (9, 16, 3), dtype=np.uint8)
            thumbs = np.stack([np.roll(ground, look // 3, axis=1) for look in range(LOOKS)])
            signature = Signature(shown.repeat(LOOKS // SHOWN, axis=0), thumbs, 0.25)
        signatures.append(signature)
    rows = [Row(f"{n}.mp4", f"{n:08x}", "quality", "kept") for n in range(count)]
    return rows, signatures, truth


def stage(count: int) -> None:
    rows, signatures, truth = clips(count)
    began, before = time.process_time(), memory()
    out = drop_duplicates(rows, signatures)
    spent = time.process_time() - began
    group = [row.info["group"] for row in out]
    right = sum(group[n] == group[of] for n, of in truth.items())
    sizes = sum(row.status == "rejected" for row in out)
    print(f"{count:,} clips, {len(truth):,} copies: {right:,} found, {sizes - right} others; "
          f"{spent:.0f} s, {memory():.2f} GB ({before:.2f} GB of it the signatures)")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hashes", type=int, default=1_000_000)
    parser.add_argument("--clips", type=int, default=100_000)
    args = parser.parse_args()
    search(args.hashes)
    stage(args.clips)


if __name__ == "__main__":
    main()
