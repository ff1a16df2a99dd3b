"""Exercises of chapter 2: spans, motion, thresholds, duplicates, balance, sampling, splits.

Each checker runs the reader's answer on a few cases and names the likely slip in a wrong one.
"""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import permutations

import cv2
import numpy as np

from vidgen_lab.pipeline.read.pictures import edge_steepness
from vidgen_lab.pipeline.select.quality import OpenCVQualityAssessor
from vidgen_lab.toyworld import render, sample_scene
from vidgen_lab.workbook.exercises import Exercise, Wrong


def _check_sampling(answer: Callable[[int, int], Sequence[int]]) -> str:
    right = OpenCVQualityAssessor.sample_indices
    for total, wanted in ((49, 5), (10, 3), (4, 9), (1, 3), (300, 16)):
        got = [int(i) for i in answer(total, wanted)]
        if max(got, default=0) >= total:
            raise Wrong(f"f({total}, {wanted}) asks for frame {max(got)}; the last is {total - 1}")
        if len(set(got)) < len(got):
            raise Wrong(f"f({total}, {wanted}) takes a frame twice: {got}")
        if len(got) != min(total, wanted):
            raise Wrong(f"f({total}, {wanted}) gives {len(got)} frames, not {min(total, wanted)}")
        if len(got) > 1 and (got[0], got[-1]) != (0, total - 1):
            raise Wrong(f"f({total}, {wanted}) is {got}: the first and the last frame belong in")
        expected = right(None, total, wanted)
        if any(abs(a - b) > 1 for a, b in zip(got, expected, strict=True)):
            raise Wrong(f"f({total}, {wanted}) is {got}, which is not even; expected {expected}")
    return "right: evenly spread, both ends included, never twice"


def _check_motion(answer: Callable[[float, int, float, int], float]) -> str:
    def right(pixels: float, frames_apart: int, fps: float, width: int) -> float:
        return 100 * pixels / width * fps / frames_apart

    cases = ((2, 1, 8, 720), (12, 6, 8, 720), (2, 1, 24, 720), (4, 1, 8, 1440))
    for case in cases:
        got, wanted = float(answer(*case)), right(*case)
        if np.isclose(got, wanted):
            continue
        pixels, apart, fps, width = case
        hints = {
            pixels: "pixels say nothing without the size and the time they took",
            wanted * apart: "samples that lie further apart show more motion: divide by the frames",
            wanted / fps * apart: "a motion per frame depends on the rate; make it per second",
            wanted / 100: "in percent of the width, please",
            wanted * width / 720: "the same scene at twice the width has twice the pixels",
        }
        hint = next((h for value, h in hints.items() if np.isclose(got, value)), "")
        raise Wrong(f"f{case} is {got:.3g}, expected {wanted:.3g}. {hint}".strip())
    return "right: the number now belongs to the scene and not to the sampling"


_SEEN = (
    {"frame_id": 40, "action": "jump", "score": 0.95},
    {"frame_id": 42, "action": "jump", "score": 0.92},
    {"frame_id": 41, "action": "sit", "score": 0.9},
    {"frame_id": 90, "action": "jump", "score": 0.8},
    {"frame_id": 93, "action": "jump", "score": 0.7},
)


def _check_spans(answer: Callable[[Sequence[int], int], Sequence[tuple[int, int]]]) -> str:
    frames = [a["frame_id"] for a in _SEEN if a["action"] == "jump"]
    for numbers, gap in ((frames, 5), (frames[::-1], 5), (frames, 1), ([], 5), ([7], 5)):
        apart = np.flatnonzero(np.diff(sorted(numbers)) > gap) + 1
        parts = np.split(sorted(numbers), apart) if numbers else []
        right = [(int(part[0]), int(part[-1]) + 1) for part in parts]
        got = [tuple(int(x) for x in span) for span in answer(list(numbers), gap)]
        if got == right:
            continue
        if any(end <= start for start, end in got):
            raise Wrong(f"{got}: a span [start, end) of one frame ends one later, or it is empty")
        if len(got) > len(right):
            raise Wrong(f"{numbers} with gap {gap}: {got}; join what is at most {gap} frames apart")
        if numbers != sorted(numbers):
            raise Wrong(f"detections come in any order: {numbers} gave {got}, expected {right}")
        raise Wrong(f"{numbers} with gap {gap}: {got}, expected {right}")
    return "right: two flashes of a jump became one clip worth cutting"


def _check_threshold(answer: Callable[[Sequence[float], Sequence[float]], float]) -> str:
    cases = (
        ([0.5, 0.6, 0.7], [0.1, 0.2], 0),
        ([0.5, 0.6, 0.7, 0.8], [0.1, 0.2, 0.55], 1),
        ([3.0, 4.0, 5.0, 0.5], [1.0, 2.0, 0.8], 1),
    )
    for good, bad, fewest in cases:
        threshold = float(answer(list(good), list(bad)))
        mistakes = sum(g < threshold for g in good) + sum(b >= threshold for b in bad)
        if mistakes > fewest:
            raise Wrong(
                f"good {good}, bad {bad}: {threshold:.3g} makes {mistakes} mistakes, "
                f"{fewest} would do; try the middles between neighbouring values"
            )
    good, bad = cases[0][:2]
    if not 0.25 < answer(list(good), list(bad)) < 0.45:
        raise Wrong(
            "right, but on the edge: new clips differ a little, so leave room on both sides"
        )
    return "right: chosen on examples, before anything was thrown away"


def _check_groups(answer: Callable) -> str:
    clips = {"a": 100, "b": 100, "c": 400, "d": 50, "e": 70}  # name -> pixels
    pairs = [("a", "b"), ("b", "c"), ("d", "e")]
    results = set()
    for order in list(permutations(clips))[::17]:
        for listed in (pairs, [(y, x) for x, y in pairs[::-1]]):
            kept = answer({name: clips[name] for name in order}, list(listed))
            results.add(frozenset(kept))
    if len(results) > 1:
        shown = " or ".join(str(sorted(r)) for r in sorted(results, key=sorted)[:2])
        raise Wrong(f"the order decides: {shown}; break ties by something of the clips themselves")
    (kept,) = results
    if kept == {"c", "e"}:
        return "right: a copy of a copy is a copy, and the largest stays"
    if "a" in kept and "c" in kept:
        raise Wrong("a = b and b = c: all three are one group, though nobody compared a and c")
    raise Wrong(f"kept {sorted(kept)}; one of each group stays, the one with the most pixels")


def _check_split(answer: Callable[[Sequence[dict]], dict[str, str]]) -> str:
    rng = np.random.default_rng(3)
    clips = [{"clip": f"c{n}", "source": f"film{n // 3}", "group": f"g{n}"} for n in range(60)]
    clips[4]["group"] = clips[40]["group"]  # a shot of one film is a copy of a shot of another
    shuffled = [clips[i] for i in rng.permutation(len(clips))]
    sides = {c["clip"]: answer(shuffled)[c["clip"]] for c in clips}
    if set(sides.values()) != {"train", "val"}:
        raise Wrong(f"both 'train' and 'val' must occur; found {sorted(set(sides.values()))}")
    for name in ("source", "group"):
        for value in {c[name] for c in clips}:
            together = {sides[c["clip"]] for c in clips if c[name] == value}
            if len(together) > 1:
                word = "shots of one film" if name == "source" else "copies of one clip"
                raise Wrong(f"{word} ({value}) are in both sets: a leak")
    share = np.mean([side == "val" for side in sides.values()])
    if not 0.02 <= share <= 0.5:
        raise Wrong(f"{share:.0%} of the clips are for validation; about a tenth will do")
    if answer(clips) != {name: sides[name] for name in sides}:
        raise Wrong("another order of the same clips gives another split; do not count, hash")
    return f"right: {share:.0%} held out and nothing shared"


@cache
def _blurred() -> float:
    """The steepest edges that blurred clips of the toy world have."""
    scenes = [sample_scene(np.random.default_rng(seed)) for seed in range(8)]
    frames = [render(scene, 160, 96, 1).clip.frames[0] for scene in scenes]
    greys = [cv2.cvtColor(cv2.GaussianBlur(f, (0, 0), 2.5), cv2.COLOR_RGB2GRAY) for f in frames]
    return max(edge_steepness(grey) or 0.0 for grey in greys)


def _check_loosest(answer: float) -> str:
    worst = _blurred()
    if not 0 < float(answer) < 1:
        raise Wrong("a threshold lies between 0 and 1")
    if answer <= worst:
        raise Wrong(f"a blurred clip with {worst:.3f} comes through; stricter")
    if answer > worst + 0.1:
        raise Wrong("it drops every blurred clip, but sharp ones as well; looser")
    return f"right: the sharpest of the blurred clips has {worst:.3f}"


def _check_rarest(answer: float) -> str:
    value = float(answer)
    if abs(value - 100 / 3) < 0.1:
        return "right: the model would see this one clip a third of the time, and learn it by heart"
    if abs(value - 1 / 3) < 0.01:
        raise Wrong("that is its share of all draws; weights have mean 1, so multiply by the clips")
    if abs(value - 1) < 1e-6:
        raise Wrong("1 is the weight at temperature 1, as collected")
    raise Wrong("each concept gets a third of the draws; how many clips share this third?")


EXERCISES = (
    Exercise(
        "2.1",
        "write spans(frames, gap) -> [(start, end)), joining frames at most gap apart",
        _check_spans,
        """
def answer(frames, gap):
    spans = []
    for frame in sorted(frames):
        if spans and frame - spans[-1][1] < gap:
            spans[-1][1] = frame + 1
        else:
            spans.append([frame, frame + 1])
    return [tuple(span) for span in spans]
""",
    ),
    Exercise(
        "2.2",
        "write speed(pixels, frames_apart, fps, width) -> % of the width per second",
        _check_motion,
        """
def answer(pixels, frames_apart, fps, width):
    seconds = frames_apart / fps
    return 100 * pixels / width / seconds
""",
    ),
    Exercise(
        "2.3",
        "write threshold(good, bad) -> the value that makes the fewest mistakes, with room",
        _check_threshold,
        """
def answer(good, bad):
    points = sorted({*good, *bad})
    middles = [(a + b) / 2 for a, b in zip(points, points[1:])]
    gaps = {(a + b) / 2: b - a for a, b in zip(points, points[1:])}

    def mistakes(t):
        return sum(g < t for g in good) + sum(b >= t for b in bad)

    return min(middles, key=lambda t: (mistakes(t), -gaps[t]))
""",
    ),
    Exercise(
        "2.4",
        "find the loosest threshold on edge steepness that still drops every blurred clip",
        _check_loosest,
        """
answer = 0.2
""",
    ),
    Exercise(
        "2.5",
        "write keep(pixels_by_name, equal_pairs) -> names that stay, one of each group",
        _check_groups,
        """
def answer(pixels, pairs):
    group = {name: {name} for name in pixels}
    for a, b in pairs:
        joined = group[a] | group[b]
        for name in joined:
            group[name] = joined
    return {min(members, key=lambda n: (-pixels[n], n)) for members in group.values()}
""",
    ),
    Exercise(
        "2.6",
        "concepts of 90, 9 and 1 clips, temperature 0: how often is the rarest clip drawn?",
        _check_rarest,
        """
answer = (90 + 9 + 1) / 3 / 1  # a third of all draws, all of them for one clip
""",
    ),
    Exercise(
        "2.7",
        "write sample(num_frames, wanted) -> evenly spaced frame numbers, both ends included",
        _check_sampling,
        """
import numpy as np

def answer(num_frames, wanted):
    count = min(num_frames, wanted)
    return np.linspace(0, num_frames - 1, count).round().astype(int).tolist()
""",
    ),
    Exercise(
        "2.8",
        "write split(clips) -> {clip: 'train' or 'val'} that shares neither source nor group",
        _check_split,
        """
import hashlib

def answer(clips):
    family = {}
    for clip in clips:                       # join by source and by group until nothing changes
        for name in (clip["source"], clip["group"]):
            family.setdefault(name, name)
    changed = True
    while changed:
        changed = False
        for clip in clips:
            smallest = min(family[clip["source"]], family[clip["group"]])
            for name in (clip["source"], clip["group"]):
                changed |= family[name] != smallest
                family[name] = smallest

    def side(name):
        digest = hashlib.sha256(name.encode()).digest()
        return "val" if digest[0] < 0.15 * 256 else "train"

    return {clip["clip"]: side(family[clip["source"]]) for clip in clips}
""",
    ),
)
