"""Exercises with an instant answer: ``check("1.1", my_answer)``, ``solution("1.1")``.

Exercise 1.1 is the function ``exercise_1_1`` of ``vidgen_lab.workbook.exercises.chapter01``. Its
docstring holds the task and below it the solution, Python source that assigns `answer`. It takes an
answer, whatever the task asks for, and raises Wrong, mostly by `need` or `compare`, when it is not
right; it may return a remark to show with the praise; it takes less than five seconds. It
explains what is wrong with an answer and never shows the right one.
"""

import copy
import html
import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin

import numpy as np

# With this type a result is also stored in the executed notebook, where the runner collects it.
MIME = "application/vnd.vidgen-lab.exercise+json"
_LOOKS = {"right": ("✔", "#2a9d5c"), "wrong": ("✘", "#d1603d"), "open": ("…", "#8a8f98")}


class Wrong(Exception):
    """Raised by a checker; the message tells the reader what to look at next."""


@dataclass(frozen=True)
class Result:
    """The verdict on an answer; the last expression of a cell shows it."""

    id: str
    status: str  # "right", "wrong" or "open"
    message: str

    def __str__(self) -> str:
        return f"{_LOOKS[self.status][0]} Exercise {self.id}: {self.message}"

    __repr__ = __str__

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        colour = _LOOKS[self.status][1]
        box = f"border-left: 4px solid {colour}; padding: 0.3em 0.8em; margin: 0.3em 0"
        return {
            "text/plain": str(self),
            "text/html": f'<div style="{box}">{html.escape(str(self))}</div>',
            MIME: {"id": self.id, "status": self.status, "message": self.message},
        }


@dataclass(frozen=True)
class Solution:
    """A solution that stays folded until the reader opens it."""

    id: str
    source: str

    def __repr__(self) -> str:
        return f"Solution of exercise {self.id}: open this notebook to unfold it"

    def _repr_html_(self) -> str:
        summary, source = f"Solution of exercise {self.id}", html.escape(self.source)
        return f"<details><summary>{summary}</summary><pre>{source}</pre></details>"


def exercises(chapter: int) -> dict[str, Callable[[Any], str | None]]:
    """Return the checkers of a chapter's exercises by id, in order."""
    name = f"vidgen_lab.workbook.exercises.chapter{chapter:02d}"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ValueError(f"chapter {chapter} has no exercises") from None
    names = ((re.fullmatch(r"exercise_(\d+)_(\d+)", n), f) for n, f in vars(module).items())
    return {".".join(numbers.groups()): function for numbers, function in names if numbers}


def check(exercise_id: str, answer: Any) -> Result:
    """Say whether an answer is right, and if not, what to look at; no wrong answer makes it raise,
    so a notebook with open exercises runs through.

    Args:
        exercise_id: such as "1.1".
        answer: whatever the exercise asks for, a value or a function; ``...`` or None counts as not
            answered yet. A number may be of any library; a generator is as good as a list.
    """
    checker, task, _ = _find(exercise_id := str(exercise_id))
    if answer is None or answer is ...:
        return Result(exercise_id, "open", task)
    kind = checker.__annotations__.get("answer", Any)
    try:
        if Callable in (kind, get_origin(kind)):
            need(callable(answer), "hand in the function itself, not what it gives")
            answer = _asked(answer, (get_args(kind) or (Any,))[-1])
        else:
            called = not callable(answer) or kind is Any
            need(called, "hand in what the function gives, not the function itself")
            answer = _plain(answer, kind)
        return Result(exercise_id, "right", checker(answer) or "right")
    except (Wrong, AssertionError) as error:
        said = str(error) or "not yet; read the task once more"
    except Exception as error:  # raised inside the reader's own code
        said = f"your answer stopped with {type(error).__name__}: {error}"
    return Result(exercise_id, "wrong", said)


def _asked(answer: Callable[..., Any], kind: Any) -> Callable[..., Any]:
    """The reader's function, which must give something of a kind."""

    def ask(*given: Any) -> Any:
        try:
            got = answer(*given)
        except Exception as error:
            if isinstance(error, Wrong) or not all(isinstance(v, int | float) for v in given):
                raise
            said = f"{_call(given)} stopped with {type(error).__name__}: {error}"
            raise Wrong(said) from error
        need(got is not None, "the function gives nothing back; does it end with return?")
        return _plain(got, kind)

    return ask


def _plain(value: Any, kind: Any) -> Any:
    """A generator's items as a list, a number of any library as Python's own."""
    if isinstance(value, Iterator):
        return list(value)
    if getattr(value, "ndim", None) == 0:
        value = value.item()
    if kind not in (int, float) or isinstance(value, int | float):
        return value
    try:
        return float(value)
    except (TypeError, ValueError):
        raise Wrong(f"a number is wanted, not {value!r:.60}") from None


def solution(exercise_id: str) -> Solution:
    """Return the solution, shown folded."""
    return Solution(exercise_id, _find(exercise_id)[2].strip())


def solved(exercise_id: str) -> Any:
    """What the solution hands in."""
    space: dict[str, Any] = {}
    exec(_find(exercise_id)[2], space)
    return space["answer"]


def drawn(*shape: int, seed: int = 0) -> Any:
    """A tensor of normal random numbers, the same every time."""
    import torch

    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def need(holds: Any, otherwise: str) -> None:
    """Raise Wrong unless something holds; `otherwise` is what to look at."""
    if not holds:
        raise Wrong(otherwise)


def compare(
    exercise_id: str,
    answer: Callable[..., Any],
    cases: Iterable[tuple],
    slips: Mapping[str, Callable[..., Any]],
    otherwise: str,
    praise: str = "",
) -> str:
    """Raise Wrong at the first of some cases in which an answer and the solution differ.

    Args:
        exercise_id: whose solution is right.
        answer: the reader's function.
        cases: arguments, numbers or arrays.
        slips: hint -> the wrong function that needs it; one that is like an answer on this case
            gives its hint.
        otherwise: the hint for any other answer.
        praise: what is returned for an answer that is right in all.
    """
    right = solved(exercise_id)
    for case in cases:
        got, wanted = answer(*copy.deepcopy(case)), right(*case)  # an answer may work in place
        if _alike(got, wanted):
            continue
        if hasattr(wanted, "shape") and not hasattr(got, "shape"):
            kind, other = type(wanted).__name__.lower(), type(got).__name__
            raise Wrong(f"the answer gives a {other}; a {kind} is wanted")
        hint = next((said for said, slip in slips.items() if _alike(got, slip(*case))), otherwise)
        if isinstance(wanted, int) and isinstance(got, float) and got % 1:
            hint = "whole numbers are wanted; divide with //"
        if hasattr(wanted, "shape") and hint == otherwise and got.shape != wanted.shape:
            hint = f"wanted shape {tuple(wanted.shape)}, got {tuple(got.shape)}; {otherwise}"
        if any(np.ndim(value) for value in (*case, wanted)):
            raise Wrong(hint)
        raise Wrong(f"{_call(case)} should be {_short(wanted)}, not {_short(got)}: {hint}")
    return praise


def _alike(a: Any, b: Any) -> bool:
    """Whether two numbers, arrays or tensors are equal, up to rounding if one of them rounds."""
    a, b = (np.asarray(x.detach() if hasattr(x, "detach") else x) for x in (a, b))
    kinds = a.dtype.kind + b.dtype.kind
    if a.shape != b.shape or not set(kinds) <= set("biuf") or kinds.count("b") == 1:
        return False
    return np.allclose(a, b, rtol=1e-4, atol=1e-4) if "f" in kinds else np.array_equal(a, b)


def _call(given: Iterable[Any]) -> str:
    return f"answer({', '.join(f'{v:.6g}' if isinstance(v, float) else str(v) for v in given)})"


def _short(value: Any) -> str:
    if type(value) not in (int, float):
        return repr(value)
    return f"{value:,.0f}" if value % 1 == 0 else f"{value:,.6g}"


def results_in(notebook: dict) -> list[dict[str, str]]:
    """Return the results stored in an executed notebook, the last one of each exercise."""
    outputs = (output for cell in notebook.get("cells", []) for output in cell.get("outputs", []))
    stored = (output.get("data", {}).get(MIME) for output in outputs)
    return list({result["id"]: dict(result) for result in stored if result}.values())


def _find(exercise_id: str) -> tuple[Callable[[Any], str | None], str, str]:
    """Checker, task and solution."""
    chapter = exercise_id.partition(".")[0]
    known = exercises(int(chapter)) if chapter.isdecimal() else {}
    if exercise_id not in known:
        listed = ", ".join(known) or "ids look like '1.1'"
        raise ValueError(f"there is no exercise {exercise_id!r}; {listed}")
    task, _, solution = inspect.getdoc(known[exercise_id]).partition("\n\n")
    return known[exercise_id], task, solution
