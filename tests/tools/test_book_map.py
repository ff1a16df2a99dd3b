import pytest

from tools import book_map
from tools.book_map import BookMap

BOOK = book_map.load_map()
CHAPTER_1_ERRATA = {14, 16, 59, 60, 61, 62, 63, 68, 78, 80, 90, 91, 92, 93, 94, 95, 97, 98}
SECTION = "01_first_video#Load, generate, save"
TEST = "tests/video/test_clip.py::test_properties"
GOOD = {
    "topic": "x",
    "code": "vidgen_lab.generation.generate.generate",
    "section": [SECTION],
    "test": TEST,
    "delivers": {"a thing": TEST},
}


def book(rows: dict, errata: dict | None = None, span: str = "1.01-01") -> BookMap:
    return BookMap(rows=rows, errata=errata or {}, spans=[span])


def problems(*given) -> list[str]:
    return list(book_map.problems(book(*given)))


def test_every_entry_leads_somewhere():
    assert list(book_map.problems(BOOK)) == []


def test_every_row_and_erratum_of_the_chapters_built_is_there():
    assert sum(name.startswith("1.") for name in BOOK.rows) == 72
    assert {f"E{n}" for n in CHAPTER_1_ERRATA} <= BOOK.errata.keys()


def test_nothing_is_left_but_a_paragraph_and_an_opinion():
    assert [name for name, e in (BOOK.rows | BOOK.errata).items() if e.left] == ["1.35", "1.68"]


def test_a_good_entry_passes():
    assert problems({"1.01": GOOD}) == []


@pytest.mark.parametrize("change", [{"tset": TEST}, {"topic": None}, {"found": 3}])
def test_an_entry_with_an_unknown_missing_or_unfit_field_is_named(change):
    with pytest.raises(ValueError, match=rf"1\.01.*{next(iter(change))}"):
        book({"1.01": {n: v for n, v in (GOOD | change).items() if v}})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"code": "vidgen_lab.video.clip.Clap"}, "no code vidgen_lab.video.clip.Clap"),
        ({"code": "vidgen_lab.nowhere"}, "no code vidgen_lab.nowhere"),
        ({"section": "01_first_video#No such heading"}, "no section"),
        ({"section": "01_first_video#Recap"}, "none of its sections mentions"),
        ({"test": "tests/video/test_clip.py::test_nothing"}, "no test"),
        ({"test": "tests/video/test_clap.py::test_properties"}, "no test"),
        ({"test": ()}, "needs code, section and test"),
        ({"left": "too dated"}, "either left"),
        ({"delivers": {}}, "delivers nothing"),
    ],
)
def test_an_entry_that_leads_nowhere_is_named(change, problem):
    assert any(problem in p for p in problems({"1.01": GOOD | change}))


def test_rows_must_be_those_of_the_book_in_their_order():
    for rows, span in ((["1.02"], "1.01-01"), (["1.01"], "1.01-02"), (["1.02", "1.01"], "1.01-02")):
        (said,) = problems(dict.fromkeys(rows, GOOD), {}, span)
        assert "rows are not those of the book" in said


def test_an_erratum_says_what_was_found():
    found = problems({"1.01": GOOD}, {"E14": GOOD})
    assert found == ["E14: does not say what was found"]


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
        ("01_first_video#No such heading::x", "nor notebook#Heading::text"),
        ("01_first_video@0000::x", "nor notebook#Heading::text"),
        ("99_nothing#Recap::x", "nor notebook#Heading::text"),
        (TEST + "x", "is no test that there is"),
        (FIRST, "nor notebook#Heading::text"),
        ("left: ", "nor notebook#Heading::text"),
    ],
)
def test_each_thing_that_is_delivered_has_its_proof(place, fault):
    known = next(
        c
        for c in book_map.cells("01_first_video")
        if c.cell_type == "code" and "load_pipeline" in c.source
    )
    found = problems({"1.01": GOOD | {"delivers": {"a thing": place.format(id=known.id)}}})
    assert (fault in found[0] and "1.01, a thing" in found[0]) if fault else found == []
