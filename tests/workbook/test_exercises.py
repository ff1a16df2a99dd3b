import re
import sys
import types

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from vidgen_lab.workbook.exercises import MIME, Wrong, check, compare, results_in, solution


def exercise_99_1(answer):
    """write a function that doubles

    answer = lambda x: 2 * x
    """
    if answer(3) != 6:
        raise Wrong("3 should become 6")
    assert answer("a") == "aa", "try a string, too"
    return "it even doubles text"


@pytest.fixture(autouse=True)
def chapter_99(monkeypatch):
    """A chapter with one exercise."""
    module = types.ModuleType("vidgen_lab.workbook.exercises.chapter99")
    module.exercise_99_1 = exercise_99_1
    monkeypatch.setitem(sys.modules, module.__name__, module)


def test_right_answer_gets_the_remark():
    result = check("99.1", lambda x: x + x)
    assert (result.status, result.message) == ("right", "it even doubles text")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x: x, "3 should become 6"),
        (lambda x: x + 3 if x == 3 else x, "try a string"),
        (lambda: 6, "TypeError"),
    ],
)
def test_wrong_answers_are_explained_and_never_raise(answer, message):
    result = check("99.1", answer)
    assert result.status == "wrong"
    assert message in result.message


@pytest.mark.parametrize("answer", [None, ...])
def test_an_open_exercise_repeats_the_task(answer):
    assert check("99.1", answer).status == "open"
    assert "doubles" in check("99.1", answer).message


def test_unknown_exercises_are_named():
    with pytest.raises(ValueError, match="99.1"):
        check("99.7", 1)
    with pytest.raises(ValueError, match="no exercises"):
        check("98.1", 1)


def test_solution_is_folded_and_escaped():
    shown = solution("99.1")._repr_html_()
    assert shown.startswith("<details><summary>")
    assert "2 * x" in shown
    assert "2 * x" not in repr(solution("99.1"))


def test_results_are_collected_from_an_executed_notebook():
    outputs = [
        new_output("execute_result", check("99.1", answer)._repr_mimebundle_())
        for answer in (lambda x: x, lambda x: x + x)
    ]
    cells = [new_code_cell("check(...)", outputs=[output]) for output in outputs]
    notebook = nbformat.reads(nbformat.writes(new_notebook(cells=cells)), as_version=4)
    assert [r["status"] for r in results_in(notebook)] == ["right"]
    assert MIME in notebook.cells[0].outputs[0].data


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x: x + 3 if x == 3 else x, "answer(5) should be 10, not 5: as it was"),
        (lambda x: x * x, "answer(3) should be 6, not 9: add it"),
        (lambda x: 2.5 * x, "whole numbers"),
        (lambda x: None, "not None"),
    ],
)
def test_an_answer_that_is_compared_gets_the_hint_of_the_slip_that_it_is_like(answer, message):
    with pytest.raises(Wrong, match=re.escape(message)):
        compare("99.1", answer, [(3,), (5,)], {"as it was": lambda x: x}, "add it")
