"""Exercises of chapter 2: spans, motion, thresholds, duplicates, balance, sampling, splits."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache

import cv2
import numpy as np

from vidgen_lab.pipeline.read.pictures import edge_steepness
from vidgen_lab.toyworld import render, sample_scene
from vidgen_lab.workbook.exercises import Wrong, compare, need, solved


def exercise_2_1(answer: Callable[[Sequence[int], int], Sequence[tuple[int, int]]]) -> str:
    """write spans(frames, gap) -> [(start, end)), joining frames at most gap apart

    def answer(frames, gap):
        spans = []
        for frame in sorted(frames):
            if spans and frame - spans[-1][1] < gap:
                spans[-1][1] = frame + 1
            else:
                spans.append([frame, frame + 1])
        return [tuple(span) for span in spans]
    """
    jumps, spans = [40, 42, 90, 93], solved("2.1")
    slips = {
        "a span [start, end) of one frame ends one later, or it is empty": (
            lambda frames, gap: [(f, f) for f in sorted(frames)]
        ),
        "a span ends just behind its last frame": (
            lambda frames, gap: [(start, end - 1) for start, end in spans(frames, gap)]
        ),
        "join what is at most `gap` apart": lambda given, _: [(f, f + 1) for f in sorted(given)],
        "count frame to frame: 40 and 42 are two apart": lambda given, gap: spans(given, gap + 1),
        "two that lie just `gap` apart belong together": lambda given, gap: spans(given, gap - 1),
    }
    cases = ((jumps, 5), (jumps, 3), (jumps, 1), (jumps[::-1], 5), ([], 5), ([7], 5))
    rest = "detections come in any order, and there may be one of them, or none"
    return compare(
        "2.1", answer, cases, slips, rest,
        "right: two flashes of a jump became one clip worth cutting",
    )  # fmt: skip


def exercise_2_2(answer: Callable[[float, int, float, int], float]) -> str:
    """write speed(pixels, frames_apart, fps, width) -> % of the width per second

    def answer(pixels, frames_apart, fps, width):
        seconds = frames_apart / fps
        return 100 * pixels / width / seconds
    """
    speed = solved("2.2")
    slips = {
        "pixels say nothing without the size and the time they took": lambda p, a, f, w: p,
        "samples that lie further apart show more motion: divide by the frames": (
            lambda p, a, f, w: speed(p, 1, f, w)
        ),
        "it depends on the rate; make it per second": lambda p, a, f, w: speed(p, 1, 1, w),
        "in percent of the width, please": lambda *given: speed(*given) / 100,
        "the same scene twice as wide has twice the pixels": lambda p, a, f, w: speed(p, a, f, 720),
    }
    cases = ((2, 1, 8, 720), (12, 6, 8, 720), (2, 1, 24, 720), (4, 1, 8, 1440))
    parts = "what share of the width is it, and how many seconds lie between the two frames?"
    return compare(
        "2.2", answer, cases, slips, parts,
        "right: the number now belongs to the scene and not to the sampling",
    )  # fmt: skip


def exercise_2_3(answer: Callable[[Sequence[float], Sequence[float]], float]) -> str:
    """write threshold(good, bad) -> the value that makes the fewest mistakes, with room

    def answer(good, bad):
        points = sorted({*good, *bad})
        middles = [(a + b) / 2 for a, b in zip(points, points[1:])]
        gaps = {(a + b) / 2: b - a for a, b in zip(points, points[1:])}

        def mistakes(t):
            return sum(g < t for g in good) + sum(b >= t for b in bad)

        return min(middles, key=lambda t: (mistakes(t), -gaps[t]))
    """
    cases = (
        ([0.5, 0.6, 0.7], [0.1, 0.2], 0),
        ([0.5, 0.6, 0.7, 0.8], [0.1, 0.2, 0.55], 1),
        ([3.0, 4.0, 5.0, 0.5], [1.0, 2.0, 0.8], 1),
        ([1.0, 1.2, 9.0], [0.5, 0.6], 0),
    )
    for good, bad, fewest in cases:
        threshold = answer(list(good), list(bad))
        mistakes = sum(not g >= threshold for g in good) + sum(b >= threshold for b in bad)
        made = f"good {good}, bad {bad}: {threshold:.3g} makes {mistakes} mistakes"
        hint = f"{made}, {fewest} would do; try the middles between neighbouring values"
        need(mistakes <= fewest, hint)
    good, bad = cases[0][:2]
    need(
        0.25 < answer(list(good), list(bad)) < 0.45,
        "right, but on the edge: new clips differ a little, so leave room on both sides",
    )
    return "right: chosen on examples, before anything was thrown away"


@cache
def _blurred() -> float:
    """The steepest edges that blurred clips of the toy world have."""
    scenes = [sample_scene(np.random.default_rng(seed)) for seed in range(8)]
    frames = [render(scene, 160, 96, 1).clip.frames[0] for scene in scenes]
    greys = [cv2.cvtColor(cv2.GaussianBlur(f, (0, 0), 2.5), cv2.COLOR_RGB2GRAY) for f in frames]
    return max(edge_steepness(grey) or 0.0 for grey in greys)


def exercise_2_4(answer: float) -> str:
    """find the loosest threshold on edge steepness that still drops every blurred clip

    answer = 0.2
    """
    worst = _blurred()
    need(0 < answer < 1, "a threshold lies between 0 and 1")
    need(answer > worst, f"of other blurred clips one has {worst:.3f} and comes through; stricter")
    need(answer <= worst + 0.1, "it drops every blurred clip, but sharp ones as well; looser")
    return f"right: the sharpest of the blurred clips has {worst:.3f}"


def exercise_2_5(answer: Callable[..., Iterable[str]]) -> str:
    """write keep(pixels_by_name, equal_pairs) -> names that stay, one of each group

    def answer(pixels, pairs):
        group = {name: {name} for name in pixels}
        for a, b in pairs:
            joined = group[a] | group[b]
            for name in joined:
                group[name] = joined
        return {min(members, key=lambda n: (-pixels[n], n)) for members in group.values()}
    """
    clips = dict(zip("abcdefgh", (100, 100, 400, 50, 90, 20, 70, 60), strict=True))  # to pixels
    pairs, right = [("a", "b"), ("b", "c"), ("e", "f"), ("f", "g")], set("cdeh")
    results = set()
    for order in map(np.random.default_rng(0).permutation, [list(clips)] * 8):
        for listed in (pairs, [(y, x) for x, y in pairs[::-1]]):
            kept = answer({str(name): clips[name] for name in order}, list(listed))
            results.add(frozenset(map(str, kept)))
    if len(results) > 1:
        shown = " or ".join(str(sorted(r)) for r in sorted(results, key=sorted)[:2])
        raise Wrong(f"the order decides: {shown}; break ties by something of the clips themselves")
    (kept,) = results
    for x, y, z in ("abc", "efg"):
        one = (
            f"{x} = {y} and {y} = {z}: all three are one group, though nobody compared {x} and {z}"
        )
        need(not kept >= {x, z}, one)
    need(kept >= set("dh") or not kept >= set("ce"), "a clip without any copy stays as well")
    rest = f"kept {sorted(kept)}; one of each group stays, the one with the most pixels"
    need(kept == right, rest)
    return "right: a copy of a copy is a copy, and the largest stays"


def exercise_2_6(answer: float) -> str:
    """concepts of 90, 9 and 1 clips, temperature 0: the rarest clip's weight, where 1 is the mean

    answer = (90 + 9 + 1) / 3 / 1  # a third of all draws, all of them for one clip
    """
    for value, slack, hint in (
        (1 / 3, 0.01, "that is its share of all draws; weights have mean 1, so multiply by clips"),
        (1.0, 1e-6, "1 is the weight at temperature 1, as collected"),
    ):
        need(not abs(answer - value) < slack, hint)
    rest = "each concept gets a third of the draws; how many clips share this third?"
    need(abs(answer - 100 / 3) < 0.5, rest)
    return "right: the model would see this one clip a third of the time, and learn it by heart"


def exercise_2_7(answer: Callable[[int, int], Sequence[int]]) -> str:
    """write sample(num_frames, wanted) -> evenly spaced frame numbers, both ends included

    import numpy as np

    def answer(num_frames, wanted):
        count = min(num_frames, wanted)
        return np.linspace(0, num_frames - 1, count).round().astype(int).tolist()
    """
    for total, wanted in ((49, 5), (10, 3), (4, 9), (1, 3), (300, 16)):
        got, right = [int(i) for i in answer(total, wanted)], solved("2.7")(total, wanted)
        call, last = f"f({total}, {wanted})", max(got, default=0)
        need(last < total, f"{call} asks for frame {last}; the last is {total - 1}")
        need(len(set(got)) >= len(got), f"{call} takes a frame twice: {got}")
        need(len(got) == len(right), f"{call} gives {len(got)} frames, not {len(right)}")
        ends = got[0] == 0 and got[-1] == total - 1
        need(ends, f"{call} is {got}: the first and the last frame belong in")
        even = all(abs(a - b) <= 1 for a, b in zip(got, right, strict=True))
        need(even, f"{call} is {got}, which is not even; expected {right}")
    return "right: evenly spread, both ends included, never twice"


def exercise_2_8(answer: Callable[[Sequence[dict]], dict[str, str]]) -> str:
    """write split(clips) -> {clip: 'train' or 'val'} that shares neither source nor group

    import hashlib

    def answer(clips):
        family = {}
        for clip in clips:  # families that turn out to be related become one
            names = clip["source"], clip["group"]
            tied = {family.get(name, name) for name in names}
            related = [name for name, known in family.items() if known in tied]
            family |= dict.fromkeys([*names, *related], min(tied))

        def side(name):
            digest = hashlib.sha256(name.encode()).digest()
            return "val" if digest[0] < 0.15 * 256 else "train"

        return {clip["clip"]: side(family[clip["source"]]) for clip in clips}
    """
    rng = np.random.default_rng(3)
    clips = [{"clip": f"c{n}", "source": f"film{n // 3}", "group": f"g{n}"} for n in range(600)]
    clips[4]["group"] = clips[40]["group"]  # a shot of one film is a copy of a shot of another

    def split(clips: Sequence[dict]) -> dict[str, str]:
        sides = answer(clips)
        return dict(sides) if hasattr(sides, "items") else {}

    sides = split([clips[i] for i in rng.permutation(len(clips))])
    named, found = set(sides) == {c["clip"] for c in clips}, set(sides.values())
    need(named, "every clip needs a side, by its name: {'c0': 'train', ...}")
    need(found == {"train", "val"}, f"both 'train' and 'val' must occur, alone; found {found}")
    for name, word in (("source", "shots of one film"), ("group", "copies of one clip")):
        for value in {c[name] for c in clips}:
            there = {sides[c["clip"]] for c in clips if c[name] == value}
            need(len(there) == 1, f"{word} ({value}) are in both sets: a leak")
    share = np.mean([side == "val" for side in sides.values()])
    said = f"{share:.0%} of the clips are for validation; about a tenth will do"
    need(0.02 <= share <= 0.5, said)
    said = "another order of the same clips gives another split; do not count, hash"
    need(split(clips) == sides, said)
    return f"right: {share:.0%} held out and nothing shared"
