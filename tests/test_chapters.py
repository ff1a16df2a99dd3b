"""Every chapter, from the very file readers open, at tier ci and without the network."""

import ast
import importlib
import subprocess
import sys

import nbformat
import pytest

from vidgen_lab import cli
from vidgen_lab.workbook import runner

pytestmark = pytest.mark.timeout(1800)  # minutes of work where other programs run beside it
CHAPTERS = pytest.mark.parametrize("path", runner.chapters().values(), ids=lambda path: path.stem)


def test_there_is_a_chapter():
    assert 1 in runner.chapters()


@CHAPTERS
def test_a_chapter_runs_and_leaves_sound_artefacts(path, tmp_path):
    out = tmp_path / "rün 1"
    command = [sys.executable, "-m", "vidgen_lab", "chapter", path.stem[:2], "--tier", "ci"]
    command += ["--out", str(out)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for line in (out / path.name, (out / path.name).with_suffix(".html")):
        assert str(line) in done.stdout
    assert list(out.glob("artefacts/**/*.mp4"))
    assert [p.name for p in tmp_path.iterdir()] == [out.name], "files outside the run's folder"
    committed, run = (_checked(nbformat.read(p, as_version=4)) for p in (path, out / path.name))
    assert committed, "tag a cell whose output must never drift: nbval-check-output"
    assert run == committed


def _checked(notebook: nbformat.NotebookNode) -> dict[str, list[str]]:
    """What the cells show whose output is the same on every machine and at every tier, by id."""
    tagged = [c for c in notebook.cells if "nbval-check-output" in c.metadata.get("tags", [])]
    return {c.id: [_text(output) for output in c.outputs] for c in tagged}


def _text(output: nbformat.NotebookNode) -> str:
    data = output.get("data", {})
    return output.get("text") or data.get("text/markdown") or data["text/plain"]


@CHAPTERS
def test_everything_that_a_chapter_imports_from_here_exists(path):
    """Seconds instead of a chapter's minutes when a name has moved."""
    cells = nbformat.read(path, as_version=4).cells
    tree = ast.parse("\n".join(c.source for c in cells if c.cell_type == "code"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("vidgen_lab"):
            module = importlib.import_module(node.module)
            for alias in node.names:
                known = hasattr(module, alias.name)
                assert known or importlib.import_module(f"{node.module}.{alias.name}")


@CHAPTERS
def test_an_unknown_parameter_stops_a_chapter_before_it_starts(path, tmp_path, capsys):
    argv = ["chapter", path.stem[:2], "-p", "promt", "a ball", "--out", str(tmp_path / "x")]
    assert cli.main(argv) == 2
    err = capsys.readouterr().err
    assert "no setting promt; " in err
    assert not (tmp_path / "x").exists()


def test_the_python_example_of_the_readme_runs(tmp_path):
    readme = (runner.notebooks_dir().parent / "README.md").read_text(encoding="utf-8")
    example = readme.partition("```python\n")[2].partition("```")[0]
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["star.json", "star.mp4"]
    assert "consistency" in done.stdout
