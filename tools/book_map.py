"""The map of the book, book_map.yaml: every topic and erratum leads to code, section and test."""

import re
from collections.abc import Iterator
from functools import cache
from pkgutil import resolve_name
from typing import Annotated

import nbformat
import yaml
from pydantic import BaseModel, BeforeValidator

from vidgen_lab.paths import notebooks_dir
from vidgen_lab.workbook.runner import HEADING

ROOT = notebooks_dir().parent
Places = Annotated[tuple[str, ...], BeforeValidator(lambda p: (p,) if isinstance(p, str) else p)]


class Entry(BaseModel, extra="forbid"):
    """One row of the book, or one erratum; the head of book_map.yaml explains the fields."""

    topic: str
    code: Places = ()
    section: Places = ()
    test: Places = ()
    left: str = ""
    found: str = ""
    listing: str = ""
    delivers: dict[str, str] = {}


class BookMap(BaseModel, extra="forbid"):
    """All rows and errata, in order, and the rows of the book: 5.45-56 are 5.45 to 5.56."""

    spans: list[str]
    rows: dict[str, Entry]
    errata: dict[str, Entry]


def load_map() -> BookMap:
    """Read the map; ValueError names every entry with an unknown, missing or unfit field."""
    text = (ROOT / "tools" / "book_map.yaml").read_text(encoding="utf-8")
    return BookMap.model_validate(yaml.safe_load(text))


def problems(book: BookMap) -> Iterator[str]:
    """Yield one sentence for everything in the map that leads nowhere."""
    spans = (re.split("[.-]", span) for span in book.spans)
    rows = [f"{c}.{n:02d}" for c, a, z in spans for n in range(int(a), int(z) + 1)]
    if rows != list(book.rows):
        yield f"the rows are not those of the book: {sorted({*rows} ^ {*book.rows}) or 'order'}"
    bare = [name for name, entry in book.rows.items() if not (entry.delivers or entry.left)]
    yield from (f"{name}: delivers nothing" for name in bare)
    yield from (f"{n}: does not say what was found" for n, e in book.errata.items() if not e.found)
    for name, entry in (book.rows | book.errata).items():
        yield from (f"{name}: {fault}" for fault in _astray(entry))
        for item, place in entry.delivers.items():
            yield from (f"{name}, {item}: {fault}" for fault in _undelivered(place))


def _astray(entry: Entry) -> Iterator[str]:
    if entry.left and (entry.code or entry.test):
        yield "either left, with the reason, or answered"
    if not entry.left and not (entry.code and entry.section and entry.test):
        yield "needs code, section and test, or left with the reason"
    for kind, there in (("code", _is_code), ("section", cells_at), ("test", _is_test)):
        yield from (f"no {kind} {place}" for place in getattr(entry, kind) if not there(place))
    shown = " ".join(cell.source for place in entry.section for cell in cells_at(place))
    names = [path.rpartition(".")[2] for path in entry.code]
    # a cell that builds the code shows it; of an import path its last name is looked for
    if names and shown and not any("@" in n or re.search(rf"\b{n}\b", shown) for n in names):
        yield "none of its sections mentions its code"


def _undelivered(place: str) -> Iterator[str]:
    """Why a place proves nothing."""
    if _is_test(place) or re.match(r"left:\s*\S", place):
        return
    where, _, text = place.partition("::")
    shown = [cell for cell in cells_at(where) if cell.cell_type == "code"]
    if not (shown and text):
        fits = "notebook#Heading::text, notebook@cell-id::text (in a code cell) or 'left: reason'"
        yield f"{place!r} is no test that there is, nor {fits}"
    elif not any(text in part for cell in shown for part in (cell.source, *_texts(cell.outputs))):
        yield f"{text!r} is not shown at {where}"


def _is_code(path: str) -> bool:
    """Whether a dotted path is a module, or something in one; or a cell that there is."""
    try:
        return bool(cells_at(path)) if "@" in path else resolve_name(path) is not None
    except (ImportError, AttributeError, ValueError):
        return False


def _is_test(test: str) -> bool:
    name, _, function = test.partition("::")
    text = (ROOT / name).read_text(encoding="utf-8") if (ROOT / name).is_file() else ""
    return function.startswith("test") and f"\ndef {function}(" in text


def cells_at(place: str) -> list[nbformat.NotebookNode]:
    """The cells at "notebook#Heading" or "notebook@cell-id"; none if there is no such place."""
    notebook, mark, spot = re.fullmatch(r"([^#@]*)([#@]?)(.*)", place).groups()
    key = {"#": "heading", "@": "id"}.get(mark)
    return [cell for cell in cells(notebook) if cell.get(key) == spot] if mark else []


@cache
def cells(notebook: str) -> list[nbformat.NotebookNode]:
    """The cells of a chapter, given by its stem, each with the heading that it stands under; a
    Markdown cell is taken apart at its headings. None if there is no such chapter."""
    path, found, heading = notebooks_dir() / f"{notebook}.ipynb", [], ""
    for cell in nbformat.read(path, as_version=4).cells if path.is_file() else ():
        prose = cell.cell_type == "markdown"
        for part in re.split(r"^(?=#+ )", cell.source, flags=re.M) if prose else [cell.source]:
            if prose and (title := HEADING.match(part)):
                heading, part = title[1].strip(), part[title.end() :]
            found.append(nbformat.from_dict(cell | {"heading": heading, "source": part}))
    return found


def _texts(outputs: list[nbformat.NotebookNode]) -> Iterator[str]:
    """What a reader, or a screen reader, finds in outputs."""
    for output in outputs:
        yield output.get("text", "")
        yield from (m["alt"] for m in output.get("metadata", {}).values() if "alt" in m)
        yield from (str(v) for k, v in output.get("data", {}).items() if k.startswith("text/"))
