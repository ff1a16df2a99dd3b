"""Every exercise: its solution passes, likely slips are told what they are, all in seconds."""

import numpy as np
import pytest

from vidgen_lab.workbook.exercises import check, exercises


def _without_end(total, wanted):
    return [i * total // min(total, wanted) for i in range(min(total, wanted))]


def _zero_length(frames, gap):
    return [(f, f) for f in sorted(frames)]


def _no_merge(frames, gap):
    return [(f, f + 1) for f in sorted(frames)]


def _pairs_only(pixels, pairs):
    lost = {min(pair, key=lambda n: pixels[n]) for pair in pairs[:1]}
    return set(pixels) - lost


def _first_wins(pixels, pairs):
    order, kept, groups = list(pixels), [], [{"a", "b", "c"}, {"d", "e"}]
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


SLIPS = [
    ("2.1", lambda t, n: np.linspace(0, t, n).astype(int).tolist(), "the last is"),
    ("2.1", lambda t, n: np.linspace(0, t - 1, n).astype(int).tolist(), "twice"),
    ("2.1", _without_end, "the first and the last"),
    ("2.2", lambda p, a, f, w: p, "pixels say nothing"),
    ("2.2", lambda p, a, f, w: 100 * p / w * f, "divide by the frames"),
    ("2.2", lambda p, a, f, w: 100 * p / w * a, "depends on the rate"),
    ("2.2", lambda p, a, f, w: p / w * f / a, "in percent"),
    ("2.3", _zero_length, "empty"),
    ("2.3", _no_merge, "join what is"),
    ("2.4", lambda good, bad: max(bad), "mistakes"),
    ("2.4", lambda good, bad: sorted(good)[len(good) // 2], "mistakes"),
    ("2.5", _pairs_only, ""),
    ("2.5", _first_wins, "the order decides"),
    ("2.6", _by_count, "leak"),
    ("2.6", _by_source, "leak"),
    ("2.6", lambda clips: {c["clip"]: "train" for c in clips}, "both"),
]


def test_there_are_six():
    assert list(exercises(2)) == ["2.1", "2.2", "2.3", "2.4", "2.5", "2.6"]


@pytest.mark.parametrize("exercise", exercises(2))
def test_the_solution_is_right(exercise):
    space: dict = {}
    exec(exercises(2)[exercise].solution, space)
    result = check(exercise, space["answer"])
    assert result.status == "right", result.message


@pytest.mark.parametrize(("exercise", "answer", "hint"), SLIPS)
def test_likely_slips_get_their_own_hint(exercise, answer, hint):
    result = check(exercise, answer)
    assert result.status == "wrong"
    assert hint in result.message
