"""One command says what is wrong, and says so to whoever called it."""

import pytest

from tools import __main__ as tools


@pytest.fixture
def quiet(monkeypatch):
    """No check looks at anything, or finds anything."""
    monkeypatch.setattr(tools.book_map, "load_map", lambda: None)
    for module, name in (
        (tools.lint, "lint"),
        (tools.book_map, "problems"),
        (tools.pages, "outdated"),
    ):
        monkeypatch.setattr(module, name, lambda *given, **options: [])
    return monkeypatch


def test_a_repository_in_order(quiet, capsys):
    assert tools.main([]) == 0
    assert "in order" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("part", "name"),
    [
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
