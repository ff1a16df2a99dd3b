"""Keep the chapter notebooks fit to be committed: check them, clean them, run them afresh.

``python -m tools.lint`` checks every chapter and lists what is wrong;
``--execute tiny`` runs each from a clean kernel at that tier, cleans it and writes it back;
``--record`` also adds time and memory to the recorded runs.
"""

import argparse
import ast
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import nbformat

from vidgen_lab.files import write_files
from vidgen_lab.paths import notebooks_dir
from vidgen_lab.settings.tiers import load_tiers
from vidgen_lab.workbook import recording, runner
from vidgen_lab.workbook.artefacts import declared_artefacts
from vidgen_lab.workbook.parameters import read_parameters

MAX_BYTES = 3_000_000
MAX_LINES, MAX_BUILT = 30, 45  # of one code cell; of one in which the reader builds
REPOSITORY = "vidgen-lab/vidgen-lab"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
CORE_PARAMETERS = ("tier", "seed", runner.OUT_DIR)

PRIVATE = re.compile(
    r"(?:/home/|/Users/|/root/|/tmp/|/private/var/|/work/|[A-Z]:\\\\?Users\\)[^\s\"'<>\\]*"
)
_BASE64 = re.compile(r"[A-Za-z0-9+/=]{200,}")  # embedded media spell any short word somewhere
_TOKEN = re.compile(r"\b(?:hf_[A-Za-z0-9]{20,}|ghp_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9]{20,})")
BADGE = re.compile(r"colab\.research\.google\.com/github/([^/]+/[^/]+)/blob/[^/]+/([^)\s\"]+)")
_IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)|<img\b([^>]*)>")


def lint(path: Path) -> list[str]:
    """Return what is wrong with a chapter notebook, one sentence each; empty when it is fit."""
    text = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    faults = [f"{len(text):,} bytes, at most {MAX_BYTES:,}"] if len(text) > MAX_BYTES else []
    faults += [f"private path {m}" for m in sorted(set(PRIVATE.findall(_BASE64.sub("", text))))[:3]]
    faults += ["looks like an access token"] * bool(_TOKEN.search(text))
    for check in (_metadata, _parameters, _structure, _badge, _code, _outputs, _pictures):
        try:
            faults += check(notebook, path)  # what it finds before it stops counts, too
        except ValueError as error:
            faults.append(str(error))
    return faults


def _metadata(notebook: nbformat.NotebookNode, path: Path) -> Iterator[str]:
    if dict(notebook.metadata.get("kernelspec", {})) != KERNEL:
        yield f"kernelspec must be {KERNEL}"
    for key in ("widgets", "papermill", "execution"):
        if any(key in part.metadata for part in (notebook, *notebook.cells)):
            yield f"metadata.{key} must not be committed"
    declared_artefacts(notebook)


def _parameters(notebook: nbformat.NotebookNode, path: Path) -> Iterator[str]:
    known = read_parameters(notebook)
    for name in CORE_PARAMETERS:
        if name not in known:
            yield f"the parameter {name!r}, common to all chapters, is missing"
    for parameter in known.values():
        if not parameter.annotation or not parameter.help:
            yield f"parameter {parameter.name!r} needs a type and a comment"


def _structure(notebook: nbformat.NotebookNode, path: Path) -> Iterator[str]:
    """Title and orientation first, bootstrap and parameters next, recap and outlook last."""
    cells = notebook.cells
    if not cells or not cells[0].source.startswith("# "):
        yield "the first cell must be the title"
    tags = [t for c in cells for t in c.metadata.get("tags", []) if t in ("colab", "parameters")]
    if tags != ["colab", "parameters"]:
        yield "needs one cell tagged 'colab' and after it one tagged 'parameters'"
        return
    start = next(i for i, c in enumerate(cells) if "colab" in c.metadata.get("tags", []))
    bootstrap = notebooks_dir().parent / "colab" / "bootstrap.py"
    if bootstrap.is_file() and cells[start].source != bootstrap.read_text(encoding="utf-8").strip():
        yield "the cell tagged 'colab' must equal colab/bootstrap.py"
    before = _markdown(cells[:start]).lower()
    for word in ("you will build", "prerequisites", "time"):
        if word not in before:
            yield f"nothing is said about {word!r} before the first code"
    headings = " ".join(runner.HEADING.findall(_markdown(cells[-6:]))).lower()
    for word in ("recap", "next"):
        if word not in headings:
            yield f"the chapter must end with a heading that says {word!r}"


def _badge(notebook: nbformat.NotebookNode, path: Path) -> Iterator[str]:
    found = BADGE.findall(_markdown(notebook.cells))
    if found != [(REPOSITORY, f"notebooks/{path.name}")]:
        yield f"needs one Colab badge, to {REPOSITORY} and notebooks/{path.name}; found {found}"


def _code(notebook: nbformat.NotebookNode, path: Path) -> Iterator[str]:
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        where = f"cell {number}"
        tags = cell.metadata.get("tags", [])
        lines = cell.source.count("\n") + 1
        most = MAX_BUILT if "build-it" in tags else MAX_LINES
        if lines > most:
            yield f"{where} has {lines} lines, at most {most}"
        if re.search(r"^\s*[!%]", cell.source, re.M):
            yield f"{where} uses a shell or magic command, which a plain run cannot check"
            continue
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.ImportFrom) and any(a.name == "*" for a in node.names):
                yield f"{where} has a star import"
            defines = isinstance(node, (ast.FunctionDef, ast.ClassDef))
            if defines and not {"build-it", "exercise"} & set(tags):
                yield f"{where} defines {node.name}(): move it to the package or tag it 'build-it'"


def _outputs(notebook: nbformat.NotebookNode, path: Path) -> Iterator[str]:
    cells = [c for c in notebook.cells if c.cell_type == "code" and c.source.strip()]
    counts = [c.execution_count for c in cells]
    if counts != list(range(1, len(cells) + 1)):
        yield "not executed in order from a clean kernel: make notebooks"
    for output in (o for c in cells for o in c.outputs):
        if output.output_type == "error":
            yield f"contains the error {output.ename}: {output.evalue}"
        if output.get("name") == "stderr":
            yield f"contains output on standard error: {output.text.strip()[:80]!r}"


def _pictures(notebook: nbformat.NotebookNode, path: Path) -> Iterator[str]:
    html = [
        "".join(o.data["text/html"])
        for c in notebook.cells
        for o in c.get("outputs", [])
        if "text/html" in o.get("data", {})
    ]
    for alt, target, attributes in _IMAGE.findall(_markdown(notebook.cells) + "\n".join(html)):
        source = target or "".join(re.findall(r"src=[\"']?([^\"'\s>]+)", attributes))
        if not (alt or re.search(r"alt=[\"'][^\"']", attributes)):
            yield f"picture without alternative text: {source[:60]}"
        if source.startswith("http") and "colab-badge" not in source:
            yield f"picture from the network: {source[:80]}"


def _markdown(cells: Sequence[nbformat.NotebookNode]) -> str:
    return "\n".join(c.source for c in cells if c.cell_type == "markdown")


def clean(notebook: nbformat.NotebookNode, private: dict[str, str]) -> None:
    """Strip in place what depends on the run and not on the chapter.

    private: text to replace in outputs, such as the folder of the run.
    """
    from nbconvert.preprocessors import ClearMetadataPreprocessor, TagRemovePreprocessor

    keep = {"vidgen_lab", "colab", "accelerator"}
    strip = ClearMetadataPreprocessor(
        preserve_cell_metadata_mask={"tags", "jupyter"}, preserve_nb_metadata_mask=keep
    )
    for step in (TagRemovePreprocessor(remove_cell_tags={"injected-parameters"}), strip):
        step.preprocess(notebook, {})
    notebook.metadata |= {"kernelspec": dict(KERNEL), "language_info": {"name": "python"}}
    for cell in notebook.cells:  # the step above leaves the texts as they are
        cell.metadata.pop("papermill", None)
    run = (c for c in notebook.cells if c.cell_type == "code")
    for count, cell in enumerate(run, start=1):
        cell.execution_count = count
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = cell.execution_count
            _replace_text(output, private)


def _replace_text(output: nbformat.NotebookNode, private: dict[str, str]) -> None:
    for holder in (output, output.get("data", {})):
        for key, value in holder.items():
            if isinstance(value, str) and not key.startswith(("image/", "video/")):
                for old, new in private.items():
                    value = value.replace(old, new)
                holder[key] = value


def refresh(path: Path, tier: str, record: str | None = None) -> None:
    """Run a chapter at a tier from a clean kernel and write the cleaned result over it.

    record: a note with which the run is added to the recorded runs; None does not add it.
    """
    with tempfile.TemporaryDirectory() as folder:
        run = runner.run_notebook(path, runner.prepare(path, {"tier": tier}), Path(folder))
        notebook = nbformat.read(run.notebook, as_version=4)
        shown = f"runs/{path.stem}"
        clean(notebook, {str(run.folder): shown, str(Path(folder).resolve()): shown})
        if record is not None:
            recording.record_chapter(run, load_tiers()[tier], record)
    write_files({path: nbformat.writes(notebook) + "\n"})


def main(argv: Sequence[str] | None = None) -> int:
    """Check the chapters (or the given files), after running them if asked; 1 if one is unfit."""
    parser = argparse.ArgumentParser(prog="python -m tools.lint", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--execute", metavar="TIER", help="run and clean the notebooks first")
    parser.add_argument(
        "--record", nargs="?", const="", metavar="NOTE", help="add these runs to the recorded ones"
    )
    args = parser.parse_args(argv)
    unfit = 0
    for path in args.files or runner.chapters().values():
        if args.execute:
            refresh(path, args.execute, args.record)
        faults = lint(path)
        unfit += bool(faults)
        print(f"{path.name}: " + ("fit" if not faults else "".join(f"\n  {f}" for f in faults)))
    return 1 if unfit else 0


if __name__ == "__main__":
    sys.exit(main())
