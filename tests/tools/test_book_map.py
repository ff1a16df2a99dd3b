from dataclasses import replace
from pathlib import Path

import pytest

from tools import book_map
from tools.book_map import BookMap, Entry

ROOT = Path(__file__).resolve().parents[2]
BOOK = book_map.load_map()
CHAPTER_1_ERRATA = {14, 16, 59, 60, 61, 62, 63, 68, 78, 80, 90, 91, 92, 93, 94, 95, 97, 98}
SECTION = "01_first_video#Load, generate, save"
GOOD = Entry(
    id="1.01",
    topic="x",
    code=("vidgen_lab.generation.generate.generate",),
    section=(SECTION,),
    test=("tests/video/test_clip.py::test_properties",),
)


def test_every_entry_leads_somewhere():
    assert list(book_map.problems(BOOK, ROOT)) == []


def test_every_row_and_erratum_of_the_chapters_built_is_there():
    assert BOOK.expected() == [entry.id for entry in BOOK.rows]
    assert len([i for i in BOOK.expected() if i.startswith("1.")]) == 72
    assert {f"E{n}" for n in CHAPTER_1_ERRATA} <= {entry.id for entry in BOOK.errata}


def test_nothing_is_left_but_a_paragraph_and_an_opinion():
    assert [entry.id for entry in BOOK.rows + BOOK.errata if entry.left] == ["1.35", "1.68"]


@pytest.mark.parametrize("name", ["book_map.md", "errata.md"])
def test_the_committed_pages_are_up_to_date(name):
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert page == book_map.pages(BOOK)[name], "make notebooks"


def test_a_good_entry_passes():
    assert list(book_map.problems(BookMap([GOOD], [], {1: ["1-1"]}), ROOT)) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"code": ("vidgen_lab.video.clip.Clap",)}, "no vidgen_lab.video.clip.Clap"),
        ({"code": ("vidgen_lab.nowhere",)}, "no vidgen_lab.nowhere"),
        ({"section": ("01_first_video#No such heading",)}, "no section"),
        ({"section": ("01_first_video#Recap",)}, "none of its sections mentions"),
        ({"test": ("tests/video/test_clip.py::test_nothing",)}, "no test"),
        ({"test": ("tests/video/test_clap.py::test_properties",)}, "no test"),
        ({"test": ()}, "needs code, section and test"),
        ({"left": "too dated"}, "either left"),
        ({"id": "1.02"}, "rows are not those of the book"),
    ],
)
def test_an_entry_that_leads_nowhere_is_named(change, problem):
    book = BookMap([replace(GOOD, **change)], [], {1: ["1-1"]})
    assert any(problem in p for p in book_map.problems(book, ROOT))


def test_an_erratum_says_what_was_found():
    book = BookMap([GOOD], [replace(GOOD, id="E14")], {1: ["1-1"]})
    assert list(book_map.problems(book, ROOT)) == ["E14: says nothing about what was found"]


TEST = "tests/video/test_clip.py::test_properties"
FIRST = "01_first_video#Load, generate, save"


@pytest.mark.parametrize(
    ("place", "fault"),
    [
        (f"{FIRST}::load_pipeline", ""),  # code
        (f"{FIRST}::toy-cogvideox in", ""),  # what it prints
        ("01_first_video@{id}::load_pipeline", ""),
        (TEST, ""),
        ("left: a price list of 2024", ""),
        (f"{FIRST}::a text encoder read your sentence", "is not shown"),  # prose proves nothing
        (f"{FIRST}::no such words", "is not shown"),
        ("01_first_video#No such heading::x", "no cell at"),
        ("01_first_video@0000::x", "no cell at"),
        ("99_nothing#Recap::x", "no cell at"),
        (TEST + "x", "no test"),
        (FIRST, "neither"),
        ("left: ", "without a reason"),
    ],
)
def test_each_thing_that_is_delivered_has_its_proof(place, fault):
    known = next(
        c for c in book_map.cells("01_first_video") if c.id and "load_pipeline" in c.source
    )
    delivering = replace(GOOD, delivers={"a thing": place.format(id=known.id)})
    book = BookMap([delivering], [], {1: ["1-1"]})
    found = list(book_map.problems(book, ROOT))
    assert (fault in found[0] and "1.01, a thing" in found[0]) if fault else found == []


def test_the_pages_link_sections_and_tests():
    left = Entry(id="1.02", topic="y", left="too dated")
    erratum = replace(GOOD, id="E14", found="wrong", listing="1.L10")
    pages = book_map.pages(BookMap([GOOD, left], [erratum], {1: ["1-2"]}))
    heading = SECTION.partition("#")[2]
    place = f"[{heading}](../notebooks/01_first_video.ipynb)"
    row = f"| 1.01 | x | `generation.generate.generate` | {place} |"
    assert row in pages["book_map.md"]
    assert "| [test_properties](../tests/video/test_clip.py) |" in pages["book_map.md"]
    assert "| 1.02 | y | too dated |  |  |" in pages["book_map.md"]
    assert "| E14 | x (1.L10) | wrong |" in pages["errata.md"]


def test_a_misspelt_field_is_named(tmp_path):
    path = tmp_path / "map.yaml"
    path.write_text("rows_per_chapter: {1: [1-1]}\nrows: {'1.01': {topik: x}}\nerrata: {}\n")
    with pytest.raises(ValueError, match="1.01.*topik"):
        book_map.load_map(path)
