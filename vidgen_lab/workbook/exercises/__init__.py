"""Exercises with an instant answer: ``check("1.1", my_answer)``, ``solution("1.1")``.

A chapter's exercises are the tuple EXERCISES of ``vidgen_lab.workbook.exercises.chapter01`` and so
on. A checker explains what is wrong with an answer; it never shows the answer.
"""

import html
import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# With this type a result is also stored in the executed notebook, where the runner collects it.
MIME = "application/vnd.vidgen-lab.exercise+json"


class Wrong(Exception):
    """Raised by a checker; the message tells the reader what to look at next."""


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    id: "chapter.number". task: what to do, one line. check: takes the answer and raises Wrong (or
    fails an assert that has a message) when it is not right; may return a remark to show with the
    praise; must take less than five seconds. solution: Python source that assigns `answer`.
    """

    id: str
    task: str
    check: Callable[[Any], str | None]
    solution: str


@dataclass(frozen=True)
class Result:
    """The verdict on an answer; the last expression of a cell shows it."""

    id: str
    status: str  # "right", "wrong" or "open"
    message: str

    def __str__(self) -> str:
        mark = {"right": "✔", "wrong": "✘", "open": "…"}[self.status]
        return f"{mark} Exercise {self.id}: {self.message}"

    __repr__ = __str__

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        colour = {"right": "#2a9d5c", "wrong": "#d1603d", "open": "#8a8f98"}[self.status]
        box = f"border-left: 4px solid {colour}; padding: 0.3em 0.8em; margin: 0.3em 0"
        return {
            "text/plain": str(self),
            "text/html": f'<div style="{box}">{html.escape(str(self))}</div>',
            MIME: {"id": self.id, "status": self.status, "message": self.message},
        }


@dataclass(frozen=True)
class Solution:
    """A solution that stays folded until the reader opens it."""

    exercise: Exercise

    def __repr__(self) -> str:
        return f"Solution of exercise {self.exercise.id}: open this notebook to unfold it"

    def _repr_html_(self) -> str:
        source = html.escape(self.exercise.solution.strip())
        summary = f"Solution of exercise {self.exercise.id}"
        return f"<details><summary>{summary}</summary><pre>{source}</pre></details>"


def exercises(chapter: int) -> dict[str, Exercise]:
    """Return the exercises of a chapter by id, in order."""
    name = f"vidgen_lab.workbook.exercises.chapter{chapter:02d}"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ValueError(f"chapter {chapter} has no exercises") from None
    return {e.id: e for e in module.EXERCISES}


def check(exercise_id: str, answer: Any) -> Result:
    """Say whether an answer is right, and if not, what to look at.

    answer: whatever the exercise asks for, a value or a function; ``...`` or None counts as not
    answered yet. Never raises for a wrong answer, so a notebook with open exercises runs through.
    """
    exercise = _find(exercise_id)
    if answer is None or answer is ...:
        return Result(exercise.id, "open", exercise.task)
    try:
        remark = exercise.check(answer)
    except (Wrong, AssertionError) as error:
        return Result(exercise.id, "wrong", str(error) or "not yet; read the task once more")
    except Exception as error:  # raised inside the reader's own code
        return Result(
            exercise.id,
            "wrong",
            f"your answer stopped with {type(error).__name__}: {error}",
        )
    return Result(exercise.id, "right", remark or "right")


def solution(exercise_id: str) -> Solution:
    """Return the solution, shown folded."""
    return Solution(_find(exercise_id))


def results_in(notebook: dict) -> list[dict[str, str]]:
    """Return the results stored in an executed notebook, the last one of each exercise."""
    found = {}
    for cell in notebook.get("cells", []):
        for output in cell.get("outputs", []):
            stored = output.get("data", {}).get(MIME)
            if stored:
                stored = json.loads(stored) if isinstance(stored, str) else dict(stored)
                found[stored["id"]] = stored
    return list(found.values())


def _find(exercise_id: str) -> Exercise:
    chapter = exercise_id.partition(".")[0]
    known = exercises(int(chapter)) if chapter.isdecimal() else {}
    if exercise_id not in known:
        listed = ", ".join(known) or "ids look like '1.1'"
        raise ValueError(f"there is no exercise {exercise_id!r}; {listed}")
    return known[exercise_id]
