"""Every exercise of every chapter: its solution passes, likely slips are told what they are."""

import importlib

import pytest

from vidgen_lab.metrics.flow import analyse_flow
from vidgen_lab.workbook import runner
from vidgen_lab.workbook.exercises import check, exercises, solved

CHAPTERS = list(runner.chapters())
EXERCISES = [name for chapter in CHAPTERS for name in exercises(chapter)]
ANSWERS = [importlib.import_module(f"tests.workbook.slips.chapter{n:02}") for n in CHAPTERS]
SLIPS = [slip for module in ANSWERS for slip in module.SLIPS]
RIGHT = [answer for module in ANSWERS for answer in module.RIGHT]
VALUES = ["1.2", "1.6", "1.7", "2.4", "2.6", "3.8", "4.1", "4.2", "5.2"]  # no function is asked for


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_they_are_numbered_through_and_all_have_slips(chapter):
    numbers = [name for name in EXERCISES if name.startswith(f"{chapter}.")]
    assert numbers == [f"{chapter}.{n + 1}" for n in range(len(numbers))] and len(numbers) >= 4
    assert {name for name, *_ in SLIPS} >= set(numbers)


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_solution_is_right(exercise):
    result = check(exercise, solved(exercise))
    assert result.status == "right", result.message


@pytest.mark.parametrize(("exercise", "answer", "hint"), SLIPS)
def test_likely_slips_get_their_own_hint(exercise, answer, hint):
    result = check(exercise, answer)
    assert result.status == "wrong"
    assert hint in result.message


@pytest.mark.parametrize(("exercise", "answer"), RIGHT)
def test_other_right_answers_pass(exercise, answer):
    result = check(exercise, answer)
    assert result.status == "right", result.message


@pytest.mark.parametrize("exercise", [e for e in EXERCISES if e not in VALUES])
def test_a_function_that_forgets_its_return_is_told_so(exercise):
    assert "does it end with return?" in check(exercise, lambda *given: None).message
    assert "the function itself" in check(exercise, 7).message


@pytest.mark.parametrize("exercise", VALUES)
def test_a_function_in_the_place_of_a_value_is_told_so(exercise):
    assert "not the function itself" in check(exercise, lambda: 7).message


@pytest.mark.parametrize("exercise", EXERCISES)
def test_open_answers_state_the_task(exercise):
    assert check(exercise, ...).status == "open"
    assert check(exercise, ...).message


def test_another_honest_score_passes():
    def answer(clip):  # not the printed solution: steadiness as a factor instead of a penalty
        flow = analyse_flow(clip)
        return flow.speed.mean() * (flow.unexplained.mean() < 0.1)

    assert check("1.5", answer).status == "right"
