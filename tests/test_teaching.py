"""How a chapter teaches, counted: what the reader builds, whose names appear, words at a figure."""

import ast
import re
import statistics

import nbformat
import pytest

from vidgen_lab.workbook import runner

LIBRARIES = ("vidgen_lab", "torch", "diffusers", "cv2")
SET_ASIDE = {"colab", "parameters", "exercise"}
CHAPTERS = pytest.mark.parametrize(
    "path", [p for n, p in runner.chapters().items() if n <= 3], ids=lambda path: path.stem
)


def _tags(cell):
    return set(cell.metadata.get("tags", []))


def _content(notebook):
    """Code cells that say something: no set-up, no exercise, no box."""
    return [
        c
        for c in notebook.cells
        if c.cell_type == "code"
        and not SET_ASIDE & _tags(c)
        and not re.match(r"(solution|from vidgen_lab.workbook.exercises)", c.source)
    ]


def _library_names(cells):
    """Names that cells import from the package or its libraries; the workbook's do not count."""
    names = set()
    for node in (n for c in cells for n in ast.walk(ast.parse(c.source))):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in LIBRARIES:
            if not node.module.startswith("vidgen_lab.workbook"):
                names |= {a.asname or a.name for a in node.names}
        elif isinstance(node, ast.Import):
            names |= {
                (a.asname or a.name).split(".")[0]
                for a in node.names
                if a.name.split(".")[0] in LIBRARIES
            }
    return names


def _built(cells):
    """What the reader has written."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    trees = [ast.parse(c.source) for c in cells if "build-it" in _tags(c)]
    return {n.name for tree in trees for n in tree.body if isinstance(n, kinds)}


def _objects(cells, names):
    """What cells assign from calls of the libraries: a pipeline, a clip, an array of one."""
    calls = [
        node
        for c in cells
        for node in ast.walk(ast.parse(c.source))
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
    ]
    return {
        target.id
        for node in calls
        if names & {n.id for n in ast.walk(node.value.func) if isinstance(n, ast.Name)}
        for part in node.targets
        for target in ast.walk(part)
        if isinstance(target, ast.Name)
    }


def _used(cell):
    return {n.id for n in ast.walk(ast.parse(cell.source)) if isinstance(n, ast.Name)}


@CHAPTERS
def test_the_reader_builds_and_works_with_the_libraries_themselves(path):
    cells = _content(nbformat.read(path, as_version=4))
    assert sum("build-it" in _tags(c) for c in cells) >= 12
    names = _library_names(cells)
    known = names | _objects(cells, names)  # what the reader has built does not count
    touching = [c for c in cells if known & _used(c) or _library_names([c])]
    assert len(touching) >= 0.6 * len(cells), f"{len(touching)} of {len(cells)}"


@CHAPTERS
def test_what_is_built_is_used_and_introduced(path):
    notebook = nbformat.read(path, as_version=4)
    cells = _content(notebook)
    code = "\n".join(c.source for c in notebook.cells if c.cell_type == "code")
    assert not {name for name in _built(cells) if code.count(name) < 2}
    words = [
        len(before.source.split())
        for before, cell in zip(notebook.cells, notebook.cells[1:], strict=False)
        if "build-it" in _tags(cell) and before.cell_type == "markdown"
    ]
    assert statistics.median(words) >= 40


@CHAPTERS
def test_a_figure_is_followed_by_words_on_what_is_in_it(path):
    """By text, by a sentence or box from code, or by one more figure that is."""
    cells = nbformat.read(path, as_version=4).cells
    bare = []
    for number, cell in enumerate(cells[:-1]):
        shown = {k for o in cell.get("outputs", []) for k in o.get("data", {})}
        if not any(k.startswith("image/") for k in shown):
            continue
        after = cells[number + 1 : number + 4]
        if not any(c.cell_type == "markdown" or "text/markdown" in str(c.outputs) for c in after):
            bare.append(cell.id)
    assert not bare


@CHAPTERS
def test_about_five_boxes_and_exercises_that_change_a_run(path):
    notebook = nbformat.read(path, as_version=4)
    boxes = [c for c in notebook.cells if c.cell_type == "code" and "measured(" in c.source]
    assert len([c for c in boxes if c.source.count("claim=")]) <= 8
    text = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    exercises = re.findall(r"\*\*Exercise \d\.\d+\*\* (★+) · (\d+) minutes(.*)", text)
    assert len(exercises) == len(re.findall(r"\*\*Exercise", text)) >= 7
    assert sum("changes a run" in rest for *_, rest in exercises) >= 2


def test_the_first_video_is_in_the_third_code_cell():
    cells = nbformat.read(runner.chapters()[1], as_version=4).cells
    third = [c for c in cells if c.cell_type == "code"][2]
    assert "CogVideoXPipeline.from_pretrained" in third.source
    assert third.source.splitlines()[-1].startswith("show_videos")
