"""Every exercise: its solution passes, likely slips are told what they are, all in seconds."""

import numpy as np
import pytest

from vidgen_lab.metrics.basics import evaluate_video_basics
from vidgen_lab.metrics.flow import analyse_flow
from vidgen_lab.workbook.exercises import check, exercises

TEXT = 226

SLIPS = [
    ("1.1", lambda n: n // 8 * 8, "multiple of 8"),
    ("1.1", lambda n: round((n - 1) / 4) * 4 + 1, "4N+1"),
    ("1.1", lambda n: max((n - 1) // 8, 1) * 8 + 1, "look above"),
    ("1.1", lambda n: (n - 1) / 8 * 8 + 1, "whole number"),
    ("1.2", lambda t, h, w: ((t - 1) // 4 + 1) * (h // 16) * (w // 16), "text is missing"),
    ("1.2", lambda t, h, w: TEXT + ((t - 1) // 4 + 1) * (h // 8) * (w // 8), "2x2"),
    ("1.2", lambda t, h, w: TEXT + t * (h // 16) * (w // 16), "time is compressed"),
    ("1.2", lambda t, h, w: TEXT + t // 4 * (h // 16) * (w // 16), "latent frame of its own"),
    ("1.3", lambda n, p, g: p + g * (p - n), "start lower"),
    ("1.3", lambda n, p, g: p + g * (n - p), "swapped"),
    ("1.3", lambda n, p, g: g * p, "not used"),
    ("1.4", lambda clip: evaluate_video_basics(clip).consistency, "frozen"),
    ("1.4", lambda clip: evaluate_video_basics(clip).motion, "jumps"),
    (
        "1.4",
        lambda clip: np.abs(np.diff(clip.frames.astype(float), axis=0)).mean(),
        "flow explains",
    ),
    ("1.4", lambda clip: float("nan"), "not a number"),
    ("1.5", "a lawyer in a courtroom", "toy world"),
    ("1.5", "a red ball moving left", "no background"),
    ("1.5", "vintage film of a ball moving left in a desert", "black-and-white"),
    ("1.5", 7, "sentence"),
]


def test_there_are_five():
    assert list(exercises(1)) == ["1.1", "1.2", "1.3", "1.4", "1.5"]


@pytest.mark.parametrize("exercise", exercises(1))
def test_the_solution_is_right(exercise):
    space: dict = {}
    exec(exercises(1)[exercise].solution, space)
    result = check(exercise, space["answer"])
    assert result.status == "right", result.message


@pytest.mark.parametrize(("exercise", "answer", "hint"), SLIPS)
def test_likely_slips_get_their_own_hint(exercise, answer, hint):
    result = check(exercise, answer)
    assert result.status == "wrong"
    assert hint in result.message


def test_another_honest_score_passes():
    def answer(clip):  # not the printed solution: steadiness as a factor instead of a penalty
        flow = analyse_flow(clip)
        return flow.speed.mean() * (flow.unexplained.mean() < 0.1)

    assert check("1.4", answer).status == "right"


def test_open_answers_state_the_task():
    assert check("1.1", ...).status == "open"
