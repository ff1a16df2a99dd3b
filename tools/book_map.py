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
from typing import Any

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
    so. found: for an erratum, what checking showed. listing: the book's, if it has one.
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
    delivers: tuple[tuple[str, str], ...] = ()

    @property
    def is_erratum(self) -> bool:
        return self.id.startswith("E")


@dataclass(frozen=True)
class BookMap:
    """All entries, in order, and the ids that the chapters built so far must cover."""

    entries: tuple[Entry, ...]
    rows: dict[int, int | list[str]] = field(default_factory=dict)

    def expected(self) -> list[str]:
        """Row ids of the chapters built so far: chapter 1 with 72 rows is 1.01 to 1.72, and of one
        that is built in part with [1-25, 45-56] those."""
        ids = []
        for chapter, built in self.rows.items():
            for span in [f"1-{built}"] if isinstance(built, int) else built:
                first, last = map(int, span.split("-"))
                ids += [f"{chapter}.{n:02d}" for n in range(first, last + 1)]
        return ids


def load_map(path: Path = FILE) -> BookMap:
    """Read the map; ValueError names an entry with an unknown or missing field."""
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    entries = []
    for group in ("rows", "errata"):
        for name, given in raw[group].items():
            try:
                entries.append(Entry(id=str(name), **{k: _listed(k, v) for k, v in given.items()}))
            except TypeError as error:
                raise ValueError(f"{path.name}, {name}: {error}") from None
    return BookMap(tuple(entries), raw["rows_per_chapter"])


def _listed(key: str, value: Any) -> Any:
    if key == "delivers":
        left = {item: f"left: {p['left']}" for item, p in value.items() if isinstance(p, dict)}
        return tuple((str(item), str(place)) for item, place in (value | left).items())
    if key not in ("code", "section", "test"):
        return str(value)
    return (value,) if isinstance(value, str) else tuple(value)


# does every entry lead somewhere? ---------------------------------------------------------------


def problems(book: BookMap, root: Path) -> Iterator[str]:
    """Yield one sentence for everything in the map that leads nowhere.

    root: the checkout, for the tests.
    """
    rows = [e.id for e in book.entries if not e.is_erratum]
    if rows != book.expected():
        differing = sorted(set(rows) ^ set(book.expected())) or "order"
        yield f"the rows are not those of the book: {differing}"
    for entry in book.entries:
        if entry.is_erratum and not entry.found:
            yield f"{entry.id}: says nothing about what was found"
        if entry.left and (entry.code or entry.test):
            yield f"{entry.id}: either left, with the reason, or answered"
        if not entry.left and not (entry.code and entry.section and entry.test):
            yield f"{entry.id}: needs code, section and test, or left with the reason"
        yield from (f"{entry.id}: no {p}" for p in entry.code if not _importable(p))
        yield from (f"{entry.id}: no section {s!r}" for s in entry.section if not _text(s))
        yield from (f"{entry.id}: no test {t}" for t in entry.test if not _test(root, t))
        if entry.code and entry.section and not _shown(entry):
            yield f"{entry.id}: none of its sections mentions its code"
        for item, place in entry.delivers:
            if fault := _undelivered(root, place):
                yield f"{entry.id}, {item}: {fault}"


def _undelivered(root: Path, place: str) -> str:
    """Why a place proves nothing; empty if it does."""
    if place.startswith("left: "):
        return "" if place.removeprefix("left: ").strip() else "left without a reason"
    where, _, text = place.partition("::")
    if where.startswith("tests/"):
        return "" if _test(root, place) else f"no test {place}"
    notebook, mark, spot = where.partition("@" if "@" in where.partition("#")[0] else "#")
    if not (mark and spot and text):
        return f"{place!r} is neither notebook#Heading::text, notebook@cell-id::text nor a test"
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


@cache
def _text(section: str) -> str:
    """Text and code under a heading, "notebook#Heading"; empty if there is none."""
    notebook, _, heading = section.partition("#")
    return "".join(f"{cell.source}\n" for cell in cells(notebook) if cell.heading == heading)


def _shown(entry: Entry) -> bool:
    """Whether a cell that builds the code, or the last name of an import path, is in a section."""
    text, names = " ".join(map(_text, entry.section)), [p.rpartition(".")[2] for p in entry.code]
    return any("@" in name or re.search(rf"\b{name}\b", text) for name in names)


@dataclass(frozen=True)
class Cell:
    """A code cell, or the text below one heading: where it stands, its source, and what a code cell
    shows, as text."""

    heading: str
    source: str
    id: str = ""
    output: str = ""


@cache
def cells(notebook: str) -> tuple[Cell, ...]:
    """The cells of a chapter, given by its stem; () if there is none."""
    import nbformat

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


def _test(root: Path, test: str) -> bool:
    name, _, function = test.partition("::")
    return function in _tests_in(root / name)


@cache
def _tests_in(path: Path) -> frozenset[str]:
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return frozenset(re.findall(r"^def (test\w*)\(", text, re.M))


# the pages made from it -------------------------------------------------------------------------


def rows_page(book: BookMap) -> str:
    """The reader's table: book, code, section, test."""
    lines = [
        MADE,
        "# The map of the book",
        "",
        "Every topic of the chapters built so far, and where the workbook answers it: the block to "
        "import, the section that shows it, the test that proves it.",
    ]
    rows = (entry for entry in book.entries if not entry.is_erratum)
    for chapter, entries in groupby(rows, lambda entry: entry.id.partition(".")[0]):
        lines += ["", f"## Chapter {chapter}", "", "| | topic | code | section | test |"]
        lines += ["|---|---|---|---|---|"]
        lines += [f"| {entry.id} | {entry.topic} | {_places(entry)} |" for entry in entries]
    return "\n".join(lines) + "\n"


def errata_page(book: BookMap) -> str:
    """What checking the book by running it corrected."""
    lines = [
        MADE,
        "# Errata of the book",
        "",
        "What running, counting and looking up corrected, for the chapters built so far. Where a "
        "measurement is meant, the section named shows it on your machine.",
        "",
        "| | topic | what was found | code | section | test |",
        "|---|---|---|---|---|---|",
    ]
    errata = (e for e in book.entries if e.is_erratum)
    for entry in sorted(errata, key=lambda e: (len(e.id), e.id)):  # chapters add theirs at the end
        topic = f"{entry.topic} ({entry.listing})" if entry.listing else entry.topic
        lines.append(f"| {entry.id} | {topic} | {entry.found} | {_places(entry)} |")
    return "\n".join(lines) + "\n"


def _places(entry: Entry) -> str:
    def link(notebook: str, words: str) -> str:
        return f"[{words}](../notebooks/{notebook}.ipynb)"

    code = [
        link(path.partition("@")[0], "built in view")
        if "@" in path
        else f"`{path.removeprefix('vidgen_lab.')}`"
        for path in entry.code
    ]
    sections = [link(*section.split("#", 1)) for section in entry.section]
    tests = [f"[{t.partition('::')[2]}](../{t.partition('::')[0]})" for t in entry.test]
    return " | ".join("<br>".join(cell) for cell in (code or [entry.left], sections, tests))


def pages(book: BookMap) -> dict[str, str]:
    """The generated pages by file name in docs/."""
    return {"book_map.md": rows_page(book), "errata.md": errata_page(book)}


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
    rows = [entry for entry in book.entries if not entry.is_erratum]
    told = sum(bool(entry.delivers or entry.left) for entry in rows)
    words = f"{len(book.entries)} entries, each leads somewhere; {told} of {len(rows)} rows say"
    print("\n".join(faults) or f"{words} what they deliver and where; README.md states its numbers")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
