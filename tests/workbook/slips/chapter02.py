"""Chapter 2: answers that readers are likely to give, and the hint that each gets."""

import zlib
from collections import OrderedDict

import numpy as np


def _without_end(total, wanted):
    return [i * total // min(total, wanted) for i in range(min(total, wanted))]


def _zero_length(frames, gap):
    return [(f, f) for f in sorted(frames)]


def _no_merge(frames, gap):
    return [(f, f + 1) for f in sorted(frames)]


def _joined(frames, gap, most=None):
    """One span after the other, as a generator."""
    start = end = None
    for frame in sorted(frames):
        if start is not None and frame - end > (gap if most is None else most):
            yield start, end + 1
            start = None
        start, end = frame if start is None else start, frame
    if start is not None:
        yield start, end + 1


def _larger_of_each_pair(pixels, pairs):
    return set(pixels) - {min(pair, key=lambda n: (pixels[n], n)) for pair in pairs}


def _pairs_only(pixels, pairs):
    lost = {min(pair, key=lambda n: pixels[n]) for pair in pairs[:1]}
    return set(pixels) - lost


def _first_wins(pixels, pairs):
    order, kept, groups = list(pixels), [], [{"a", "b", "c"}, {"d"}, {"e", "f", "g"}, {"h"}]
    for group in groups:
        kept.append(next(n for n in order if n in group))
    return set(kept)


def _by_count(clips):
    return {c["clip"]: "val" if n % 10 == 0 else "train" for n, c in enumerate(clips)}


def _by_source(clips):
    return {
        c["clip"]: "val" if int(c["source"].removeprefix("film")) % 5 == 1 else "train"
        for c in clips
    }


def _by_hash(clips):
    """A family in ten to validation, by a hash that holds out none of the first 20 films."""
    family = {"film13": "film1"}  # the only two films that share a copy
    films = {c["clip"]: family.get(c["source"], c["source"]) for c in clips}
    return {
        clip: "val" if zlib.crc32(f"{film}/14".encode()) % 10 == 0 else "train"
        for clip, film in films.items()
    }


RIGHT = [
    ("2.4", "0.2"),
    ("2.1", _joined),
    ("2.5", lambda pixels, pairs: ["c", "d", "e", "h"]),
    ("2.6", 33),
    ("2.7", lambda t, n: np.linspace(0, t - 1, min(t, n)).astype(int)),
    ("2.8", _by_hash),
    ("2.8", lambda clips: OrderedDict(_by_hash(clips))),
]
SLIPS = [
    ("2.3", lambda good, bad: (np.mean(good) + np.mean(bad)) / 2, "2 mistakes"),
    ("2.8", lambda clips: {}, "every clip needs a side"),
    ("2.4", 0.05, "stricter"),
    ("2.4", 0.9, "looser"),
    ("2.4", 7, "between 0 and 1"),
    ("2.6", 1 / 3, "share of all draws"),
    ("2.6", 1, "temperature 1"),
    ("2.6", 5, "share this third"),
    ("2.7", lambda t, n: np.linspace(0, t, n).astype(int).tolist(), "the last is"),
    ("2.7", lambda t, n: np.linspace(0, t - 1, n).astype(int).tolist(), "twice"),
    ("2.7", _without_end, "the first and the last"),
    ("2.2", lambda p, a, f, w: p, "pixels say nothing"),
    ("2.2", lambda p, a, f, w: 100 * p / w * f, "divide by the frames"),
    ("2.2", lambda p, a, f, w: 100 * p / w * a, "depends on the rate"),
    ("2.2", lambda p, a, f, w: p / w * f / a, "in percent"),
    ("2.1", _zero_length, "empty"),
    ("2.1", _no_merge, "join what is"),
    ("2.3", lambda good, bad: max(bad), "mistakes"),
    ("2.3", lambda good, bad: sorted(good)[len(good) // 2], "mistakes"),
    ("2.5", _pairs_only, "the order decides"),
    ("2.5", _first_wins, "the order decides"),
    ("2.5", _larger_of_each_pair, "nobody compared e and g"),
    ("2.5", lambda pixels, pairs: {"c", "e"}, "without any copy"),
    ("2.1", lambda frames, gap: list(_joined(frames, gap, gap - 1)), "belong together"),
    ("2.2", lambda p, a, f, w: 100 * p / w * a / f, "how many seconds"),
    ("2.3", lambda good, bad: float("nan"), "mistakes"),
    (
        "2.7",
        lambda t, n: [i * (t - 1) // (min(t, n) - 1) for i in range(min(t, n))],
        "answer(1, 3)",
    ),
    ("2.8", _by_count, "leak"),
    ("2.8", _by_source, "leak"),
    ("2.8", lambda clips: {c["clip"]: "train" for c in clips}, "both"),
]
