"""One command says what is wrong, and says so to whoever called it."""

import pandas as pd
import pytest

from tools import __main__ as tools


@pytest.fixture
def quiet(monkeypatch):
    """No check looks at anything, or finds anything."""
    monkeypatch.setattr(tools.floors, "modules_in", lambda folder: [])
    monkeypatch.setattr(tools.floors, "sizes", lambda modules: pd.DataFrame({"lines": [2499]}))
    monkeypatch.setattr(tools.book_map, "load_map", lambda: None)
    for module, name in (
        (tools.floors, "upward"),
        (tools.floors, "circles"),
        (tools.floors, "too_large"),
        (tools.floors, "requirements"),
        (tools.lint, "lint"),
        (tools.book_map, "problems"),
        (tools.pages, "outdated"),
    ):
        monkeypatch.setattr(module, name, lambda *given, **options: [])
    return monkeypatch


def test_a_repository_in_order(quiet, capsys):
    assert tools.main([]) == 0
    said = capsys.readouterr().out
    assert "in order" in said and "2499" in said


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("floors", "upward"),
        ("floors", "circles"),
        ("floors", "too_large"),
        ("floors", "requirements"),
        ("lint", "lint"),
        ("book_map", "problems"),
        ("pages", "outdated"),
    ],
)
def test_each_fault_is_said_and_fails(quiet, capsys, part, name):
    quiet.setattr(getattr(tools, part), name, lambda *given, **options: ["something is wrong"])
    assert tools.main(["1"]) == 1
    assert "something is wrong" in capsys.readouterr().out


def test_chapters_are_made_anew_by_number_and_the_pages_after_them(quiet):
    done = []
    quiet.setattr(tools.lint, "refresh", lambda path, *how: done.append((path.name[:2], *how)))
    quiet.setattr(tools.pages, "outdated", lambda book, write: done.append(write) or [])
    assert tools.main(["3", "--execute", "tiny", "--record", "quiet machine"]) == 0
    assert done == [("03", "tiny", "quiet machine"), True]
