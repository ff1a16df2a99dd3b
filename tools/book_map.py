"""The map of the book: for every topic and erratum, the code, the section and the test.

The map itself is ``book_map.yaml`` beside this file. ``python -m tools.book_map``
checks that every entry leads somewhere and that the two pages made from it, and the measured parts
of the README, are up to date; ``--write`` writes them.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, NamedTuple

import nbformat
import yaml

from tools.readme import fill
from vidgen_lab.paths import notebooks_dir

FILE = Path(__file__).with_name("book_map.yaml")
MADE = "<!-- made from tools/book_map.yaml: make notebooks -->"


@dataclass(frozen=True)
class Entry:
    """One row of the book, or one erratum.

    id: "1.07" or "E14". topic: what it is about, in our words. code: import paths, or the cell
    "notebook@cell-id" in which the reader builds it. section:
    "notebook#Heading" places. test: "file::name" ids. left: why there is no code and no test, if
    so. found: for an erratum, what checking showed. listing: the book's, if it has one, with names.
    delivers: each thing that the book's row promises, with its proof: "notebook#Heading::text" or
    "notebook@cell-id::text", a text in the code or the output of a cell there; or a test id; or
    "left: reason".
    """

    id: str
    topic: str
    code: tuple[str, ...] = ()
    section: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    left: str = ""
    found: str = ""
    listing: str = ""
    delivers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BookMap:
    """All rows and errata, in order, and the spans of rows that each chapter must have."""

    rows: list[Entry]
    errata: list[Entry]
    chapters: dict[int, list[str]]

    def expected(self) -> list[str]:
        """Row ids of the chapters: [1-25, 45-56] of chapter 5 are 5.01 to 5.25 and 5.45 to 5.56."""
        ids = []
        for chapter, spans in self.chapters.items():
            for first, last in (map(int, span.split("-")) for span in spans):
                ids += [f"{chapter}.{n:02d}" for n in range(first, last + 1)]
        return ids


def load_map(path: Path = FILE) -> BookMap:
    """Read the map; ValueError names an entry with an unknown or missing field."""
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    groups: dict[str, list[Entry]] = {"rows": [], "errata": []}
    for group, entries in groups.items():
        for name, given in raw[group].items():
            for key in given.keys() & {"code", "section", "test"}:
                given[key] = (given[key],) if isinstance(given[key], str) else tuple(given[key])
            try:
                entries.append(Entry(id=name, **given))
            except TypeError as error:
                raise ValueError(f"{path.name}, {name}: {error}") from None
    return BookMap(**groups, chapters=raw["rows_per_chapter"])


# does every entry lead somewhere? ---------------------------------------------------------------


def problems(book: BookMap, root: Path) -> Iterator[str]:
    """Yield one sentence for everything in the map that leads nowhere.

    root: the checkout, for the tests.
    """
    rows, expected = [e.id for e in book.rows], book.expected()
    if rows != expected:
        differing = sorted(set(rows) ^ set(expected)) or "order"
        yield f"the rows are not those of the book: {differing}"
    yield from (f"{e.id}: says nothing about what was found" for e in book.errata if not e.found)
    for entry in book.rows + book.errata:
        if entry.left and (entry.code or entry.test):
            yield f"{entry.id}: either left, with the reason, or answered"
        if not entry.left and not (entry.code and entry.section and entry.test):
            yield f"{entry.id}: needs code, section and test, or left with the reason"
        yield from (f"{entry.id}: no {p}" for p in entry.code if not _importable(p))
        texts = {s: _text(s) for s in entry.section}
        yield from (f"{entry.id}: no section {s!r}" for s, text in texts.items() if not text)
        yield from (f"{entry.id}: no test {t}" for t in entry.test if not _test(root, t))
        shown, names = " ".join(texts.values()), [p.rpartition(".")[2] for p in entry.code]
        # a cell that builds the code shows it; of an import path its last name is looked for
        if names and texts and not any("@" in n or re.search(rf"\b{n}\b", shown) for n in names):
            yield f"{entry.id}: none of its sections mentions its code"
        for item, place in entry.delivers.items():
            if fault := _undelivered(root, place):
                yield f"{entry.id}, {item}: {fault}"


def _undelivered(root: Path, place: str) -> str:
    """Why a place proves nothing; empty if it does."""
    if place.startswith("left:"):
        return "" if place.removeprefix("left:").strip() else "left without a reason"
    where, _, text = place.partition("::")
    if where.startswith("tests/"):
        return "" if _test(root, place) else f"no test {place}"
    if not (found := re.fullmatch(r"(\w+)([@#])(.+)", where)) or not text:
        return f"{place!r} is neither notebook#Heading::text, notebook@cell-id::text nor a test"
    notebook, mark, spot = found.groups()
    shown = [c for c in cells(notebook) if c.id and spot == (c.id if mark == "@" else c.heading)]
    if not shown:
        return f"no cell at {where}"
    is_there = any(text in c.source or text in c.output for c in shown)
    return "" if is_there else f"{text!r} is not shown at {where}"


@cache
def _importable(path: str) -> bool:
    """Whether a dotted path is a module, or something in one; or a cell that there is."""
    notebook, at, spot = path.partition("@")
    if at:
        return any(cell.id == spot for cell in cells(notebook))
    try:
        return resolve_name(path) is not None
    except (ImportError, AttributeError):
        return False


def _text(section: str) -> str:
    """Text and code under a heading, "notebook#Heading"; empty if there is none."""
    notebook, _, heading = section.partition("#")
    return "".join(f"{cell.source}\n" for cell in cells(notebook) if cell.heading == heading)


class Cell(NamedTuple):
    """A code cell, or the text below one heading: where it stands, its source, and what a code cell
    shows, as text."""

    heading: str
    source: str
    id: str = ""
    output: str = ""


@cache
def cells(notebook: str) -> tuple[Cell, ...]:
    """The cells of a chapter, given by its stem; () if there is none."""
    path = notebooks_dir() / f"{notebook}.ipynb"
    found, heading = [], ""
    for cell in nbformat.read(path, as_version=4).cells if path.is_file() else ():
        if cell.cell_type == "code":
            shown = "\n".join(text for output in cell.outputs for text in _texts(output))
            found.append(Cell(heading, cell.source, cell.get("id", ""), shown))
            continue
        before, *parts = re.split(r"^#+ +(.+)$", cell.source, flags=re.M)
        found.append(Cell(heading, before))
        for title, text in zip(parts[::2], parts[1::2], strict=True):
            heading = title.strip()
            found.append(Cell(heading, text))
    return tuple(found)


def _texts(output: Any) -> Iterator[str]:
    """What a reader, or a screen reader, finds in an output."""
    yield output.get("text", "")
    yield from (m["alt"] for m in output.get("metadata", {}).values() if "alt" in m)
    yield from (str(v) for k, v in output.get("data", {}).items() if k.startswith("text/"))


@cache
def _test(root: Path, test: str) -> bool:
    name, _, function = test.partition("::")
    text = (root / name).read_text(encoding="utf-8") if (root / name).is_file() else ""
    return function.startswith("test") and f"\ndef {function}(" in text


# the pages made from it -------------------------------------------------------------------------


def pages(book: BookMap) -> dict[str, str]:
    """The generated pages by file name in docs/: topics with code, section and test; and what
    checking the book by running it corrected."""
    rows = [
        MADE,
        "# The map of the book",
        "",
        "Every topic of the chapters built so far, and where the workbook answers it: the block to "
        "import, the section that shows it, the test that proves it. In brackets: the listing "
        "and the names that the book has for it.",
    ]
    for chapter, entries in groupby(book.rows, lambda entry: entry.id.partition(".")[0]):
        rows += ["", f"## Chapter {chapter}", "", "| | topic | code | section | test |"]
        rows += ["|---|---|---|---|---|"]
        rows += [f"| {entry.id} | {_topic(entry)} | {_places(entry)} |" for entry in entries]
    errata = [
        MADE,
        "# Errata of the book",
        "",
        "What running, counting and looking up corrected, for the chapters built so far. Where a "
        "measurement is meant, the section named shows it on your machine.",
        "",
        "| | topic | what was found | code | section | test |",
        "|---|---|---|---|---|---|",
    ]
    for entry in sorted(book.errata, key=lambda e: (len(e.id), e.id)):  # chapters append theirs
        errata.append(f"| {entry.id} | {_topic(entry)} | {entry.found} | {_places(entry)} |")
    return {"book_map.md": "\n".join(rows) + "\n", "errata.md": "\n".join(errata) + "\n"}


def _topic(entry: Entry) -> str:
    """The topic, and in brackets the listing of the book and its names, by which readers search."""
    return f"{entry.topic} ({entry.listing})" if entry.listing else entry.topic


def _places(entry: Entry) -> str:
    """The last three columns: code, sections, tests."""

    def link(place: str, mark: str, words: str = "") -> str:
        notebook, _, heading = place.partition(mark)
        return f"[{words or heading}](../notebooks/{notebook}.ipynb)"

    code = [
        link(path, "@", "built in view") if "@" in path else f"`{path.removeprefix('vidgen_lab.')}`"
        for path in entry.code
    ]
    sections = [link(section, "#") for section in entry.section]
    tests = [f"[{t.partition('::')[2]}](../{t.partition('::')[0]})" for t in entry.test]
    return " | ".join("<br>".join(cell) for cell in (code or [entry.left], sections, tests))


def main() -> int:
    """Check the map and all pages that are made, or write those; 1 when something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tools.book_map", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/ and README.md")
    args = parser.parse_args()
    root, book = notebooks_dir().parent, load_map()
    faults = list(problems(book, root))
    made = {root / "docs" / name: text for name, text in pages(book).items()}
    made[root / "README.md"] = fill((root / "README.md").read_text(encoding="utf-8"))
    for page, text in made.items():
        if args.write:
            page.write_text(text, encoding="utf-8")
        elif not page.is_file() or page.read_text(encoding="utf-8") != text:
            faults.append(f"{page.relative_to(root)} is not up to date: make notebooks")
    told = sum(bool(entry.delivers or entry.left) for entry in book.rows)
    count = len(book.rows + book.errata)
    words = f"{count} entries, each leads somewhere; {told} of {len(book.rows)} rows say"
    print("\n".join(faults) or f"{words} what they deliver and where; README.md states its numbers")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
