"""Keep the chapter notebooks fit to be committed: check them, clean them, run them afresh."""

import ast
import difflib
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import mistune
import nbformat
from bs4 import BeautifulSoup

from vidgen_lab.files import write_files
from vidgen_lab.paths import notebooks_dir
from vidgen_lab.settings.tiers import load_tiers
from vidgen_lab.workbook import recording, runner
from vidgen_lab.workbook.artefacts import declared_artefacts
from vidgen_lab.workbook.parameters import read_parameters

MAX_BYTES = 3_000_000
MAX_LINES, MAX_BUILT = 30, 45  # of one code cell; of one in which the reader builds
BADGE = "https://colab.research.google.com/github/vidgen-lab/vidgen-lab/blob/main/notebooks/"
KEPT = {"vidgen_lab", "colab", "accelerator", "tags", "jupyter"}  # of all metadata
BOOTSTRAP = notebooks_dir().parent / "colab" / "bootstrap.py"
PRIVATE = re.compile(
    r"(?:/home/|/Users/|/root/|/tmp/|/private/var/|/work/|[A-Z]:\\\\?Users\\)[^\s\"'<>\\]*"
)
_BASE64 = re.compile(r"[A-Za-z0-9+/=]{200,}")  # embedded media spell any short word somewhere
_TOKEN = re.compile(r"\b(?:hf_[A-Za-z0-9]{20,}|ghp_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9]{20,})")


def lint(path: Path) -> list[str]:
    """Return what is wrong with a chapter notebook, one sentence each; empty when it is fit."""
    text = path.read_text(encoding="utf-8")
    notebook = runner.read_notebook(path)
    faults = [f"{len(text):,} bytes, at most {MAX_BYTES:,}"] if len(text) > MAX_BYTES else []
    faults += [f"private path {m}" for m in sorted(set(PRIVATE.findall(_BASE64.sub("", text))))[:3]]
    faults += ["looks like an access token"] * bool(_TOKEN.search(text))
    for check in (_structure, _code, _page):
        try:
            faults += check(notebook, path)  # what it finds before it stops counts, too
        except ValueError as error:
            faults.append(str(error))
    clean(notebook)  # it takes away metadata, and counts that are not those of one run in order
    after = nbformat.writes(notebook)
    changes = difflib.unified_diff(text.splitlines(), after.splitlines(), lineterm="", n=0)
    faults += (f"`make notebooks` writes {c}" for c in changes if re.match("[+-] ", c))
    return faults


def _structure(notebook: nbformat.NotebookNode, path: Path) -> Iterator[str]:
    """Title and orientation first, bootstrap and parameters next, recap and outlook last."""
    cells = notebook.cells
    if not _markdown(cells[:1]).startswith("# "):
        yield "the first cell must be the title"
    first = [(t, c.source) for c in cells for t in _tags(c) & {"colab", "parameters"}]
    if [t for t, _ in first] != ["colab", "parameters"]:
        yield "needs one cell tagged 'colab' and after it one tagged 'parameters'"
    if ("colab", BOOTSTRAP.read_text(encoding="utf-8").strip()) not in first:
        yield "the cell tagged 'colab' must equal colab/bootstrap.py"
    start = next((number for number, cell in enumerate(cells) if "colab" in _tags(cell)), 0)
    headings = "\n".join(runner.HEADING.findall(_markdown(cells[-6:])))
    for words, text, where in (
        (("you will build", "prerequisites", "time"), _markdown(cells[:start]), "before the code"),
        (("recap", "next"), headings, "by the headings at the end"),
    ):
        for word in words:
            if word not in text.lower():
                yield f"nothing is said about {word!r} {where}"
    known = read_parameters(notebook)
    if missing := {"tier", "seed", runner.OUT_DIR} - known.keys():
        yield f"parameters common to all chapters are missing: {sorted(missing)}"
    for parameter in known.values():
        if not parameter.annotation or not parameter.help:
            yield f"parameter {parameter.name!r} needs a type and a comment"
    declared_artefacts(notebook)


def _code(notebook: nbformat.NotebookNode, path: Path) -> Iterator[str]:
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        where, tags = f"cell {number}", _tags(cell)
        lines, most = cell.source.count("\n") + 1, MAX_BUILT if "build-it" in tags else MAX_LINES
        if lines > most:
            yield f"{where} has {lines} lines, at most {most}"
        for output in cell.outputs:
            if output.output_type == "error":
                yield f"{where} contains the error {output.ename}: {output.evalue}"
            if output.get("name") == "stderr":
                yield f"{where} contains output on standard error: {output.text.strip()[:80]!r}"
        try:
            tree = ast.parse(cell.source)
        except SyntaxError as error:
            yield f"{where}, line {error.lineno}: no plain Python, so no shell or magic command"
            continue
        for node in ast.walk(tree):
            defines = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            if defines and not {"build-it", "exercise"} & tags:
                yield f"{where} defines {node.name}(): move it to the package or tag it 'build-it'"


def _page(notebook: nbformat.NotebookNode, path: Path) -> Iterator[str]:
    """Pictures and the badge, as a browser sees them."""
    html = [mistune.html(c.source) for c in notebook.cells if c.cell_type == "markdown"]
    data = [o.get("data", {}) for c in notebook.cells for o in c.get("outputs", [])]
    html += [shown["text/html"] for shown in data if "text/html" in shown]
    page = BeautifulSoup("\n".join(html), "html.parser")
    for image in page.find_all("img"):
        source = image.get("src", "")
        if not image.get("alt"):
            yield f"picture without alternative text: {source[:60]}"
        if source.startswith("http") and "colab-badge" not in source:
            yield f"picture from the network: {source[:80]}"
    links = [a["href"] for a in page.select("a[href*='colab.research.google.com/github/']")]
    if links != [BADGE + path.name]:
        yield f"needs one Colab badge, to {BADGE}{path.name}; found {links}"


def _markdown(cells: Sequence[nbformat.NotebookNode]) -> str:
    return "\n\n".join(c.source for c in cells if c.cell_type == "markdown")


def _tags(cell: nbformat.NotebookNode) -> set[str]:
    return {*cell.metadata.get("tags", [])}


def clean(notebook: nbformat.NotebookNode) -> None:
    """Strip in place what depends on the run and not on the chapter."""
    notebook.cells = [c for c in notebook.cells if "injected-parameters" not in _tags(c)]
    for part in (notebook, *notebook.cells):
        for name in part.metadata.keys() - KEPT:
            del part.metadata[name]
    notebook.metadata |= {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    run = (c for c in notebook.cells if c.cell_type == "code" and c.source.strip())
    for count, cell in enumerate(run, start=1):
        cell.execution_count = count
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count


def refresh(path: Path, tier: str, record: str | None = None) -> None:
    """Run a chapter at a tier from a clean kernel and write the cleaned result over it.

    record: a note with which the run is added to the recorded runs; None does not add it.
    """
    folder = Path(tempfile.mkdtemp(prefix=path.stem)).resolve()  # stays, to see what went wrong
    run = runner.run_notebook(path, runner.prepare(path, {"tier": tier}), folder)
    if record is not None:
        recording.record_chapter(run, load_tiers()[tier], record)
    notebook = runner.read_notebook(run.notebook)
    clean(notebook)
    text = nbformat.writes(notebook).replace(str(folder), f"runs/{path.stem}")
    write_files({path: text + "\n"})
