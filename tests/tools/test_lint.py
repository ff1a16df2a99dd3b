import subprocess
import sys
import tempfile
from types import SimpleNamespace

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools import lint
from vidgen_lab.paths import notebooks_dir
from vidgen_lab.workbook import runner

ROOT = notebooks_dir().parent
BOOTSTRAP = (ROOT / "colab" / "bootstrap.py").read_text(encoding="utf-8").strip()
PARAMETERS = """\
tier: str = "auto"  # hardware settings
seed: int = 0  # same seed, same result
out_dir: str = ""  # where artefacts go
"""
BADGE = (
    "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    f"({lint.BADGE}09_x.ipynb)"
)


def chapter() -> nbformat.NotebookNode:
    """A chapter that is fit to be committed."""
    cells = [
        new_markdown_cell(f"# A title\n\n{BADGE}\n\nYou will build x. Prerequisites: y. Time: z."),
        new_code_cell(BOOTSTRAP, metadata={"tags": ["colab"]}, execution_count=1),
        new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}, execution_count=2),
        new_code_cell(
            "1 + 1",
            execution_count=3,
            outputs=[new_output("execute_result", {"text/plain": "2"}, execution_count=3)],
        ),
        new_markdown_cell("## Recap\n\nx\n\n## Next\n\ny"),
    ]
    notebook = new_notebook(cells=cells)
    notebook.metadata |= {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "vidgen_lab": {"artefacts": ["*.mp4"]},
    }
    return notebook


def faults(notebook, tmp_path) -> list[str]:
    path = tmp_path / "09_x.ipynb"
    nbformat.write(notebook, path)
    return lint.lint(path)


def test_a_fit_chapter_passes(tmp_path):
    assert faults(chapter(), tmp_path) == []


def test_recap_and_next_in_one_cell_count(tmp_path):
    notebook = chapter()
    notebook.cells[-1] = new_markdown_cell("## Recap and next")
    assert faults(notebook, tmp_path) == []


def edit(cell: int, **changes):
    def apply(notebook):
        notebook.cells[cell].update(changes)

    return apply


def output(kind: str, **content):
    return lambda notebook: notebook.cells[3].outputs.append(new_output(kind, **content))


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda n: n.metadata.update(widgets={}), '-  "widgets": {}'),
        (lambda n: n.cells[3].metadata.update(execution={}), '-    "execution": {}'),
        (lambda n: n.metadata.kernelspec.update(name="conda-x"), '-   "name": "conda-x"'),
        (lambda n: n.metadata.pop("vidgen_lab"), "declares no artefacts"),
        (lambda n: n.cells[2].metadata.clear(), "tagged 'parameters'"),
        (edit(2, source='tier: str = "auto"'), "'seed'"),
        (edit(2, source=PARAMETERS + "steps = 3"), "'steps' needs a type"),
        (lambda n: n.cells.insert(0, n.cells.pop()), "the first cell must be the title"),
        (lambda n: n.cells.clear(), "the first cell must be the title"),
        (lambda n: n.cells[1].metadata.clear(), "tagged 'colab'"),
        (edit(0, source=f"# T\n\n{BADGE}\n\nYou will build x. Prerequisites."), "'time'"),
        (edit(1, source="pass"), "colab/bootstrap.py"),
        (edit(3, execution_count=7), '-   "execution_count": 7'),
        (edit(3, execution_count=None), '-   "execution_count": null'),
        (edit(3, source="!pip install x"), "magic"),
        (edit(3, source="x = 1\n%time x"), "line 2: no plain Python"),
        (edit(3, source="def f():\n    pass"), "defines f()"),
        (edit(3, source="if x:\n    async def f():\n        pass"), "defines f()"),
        (edit(3, source="x = 1\n" * 40), "lines"),
        (edit(0, source="# T\n\nYou will build x. Prerequisites. Time."), "badge"),
        (edit(0, source=f"# T\n\n{BADGE.replace('09', '08')}"), "badge"),
        (edit(4, source="## Recap"), "'next'"),
        (edit(4, source="## Recap\n\n## Next\n\n![](figure.png)"), "alternative text"),
        (edit(4, source="## Recap\n\n## Next\n\n<img src='a.png'>"), "alternative text"),
        (edit(4, source="## Recap\n\n## Next\n\n![a](https://x.org/a.png)"), "from the network"),
        (output("stream", name="stderr", text="warning"), "standard error"),
        (output("stream", name="stdout", text="/home/me/data"), "private path"),
        (output("stream", name="stdout", text="hf_" + "a" * 30), "access token"),
        (output("display_data", data={"text/html": "<img src='a.png'>"}), "alternative text"),
        (output("stream", name="stdout", text="x" * 3_100_000), "bytes"),
        (output("error", ename="ValueError", evalue="no", traceback=[]), "ValueError"),
    ],
)
def test_each_fault_is_found(tmp_path, spoil, fault):
    notebook = chapter()
    spoil(notebook)
    assert any(fault in f for f in faults(notebook, tmp_path)), faults(notebook, tmp_path)


def test_ruff_names_star_imports_in_a_chapter(tmp_path):
    notebook = chapter()
    notebook.cells[3].source = "from math import *"
    nbformat.write(notebook, tmp_path / "09_x.ipynb")
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--config"]
    command += [str(ROOT / "pyproject.toml"), str(tmp_path)]
    assert "F403" in subprocess.run(command, capture_output=True, text=True).stdout


def test_a_chapter_that_was_run_anew_is_fit(tmp_path, monkeypatch):
    path = tmp_path / "09_x.ipynb"
    nbformat.write(chapter(), path)

    def run_notebook(source, parameters, folder):
        notebook = nbformat.read(source, as_version=4)
        injected = new_code_cell("seed = 7", metadata={"tags": ["injected-parameters"]})
        notebook.cells.insert(3, injected)
        for number, cell in enumerate(notebook.cells[1:5]):
            cell.execution_count = number + 11
            cell.metadata["papermill"] = {"duration": 1}
            cell.metadata["execution"] = {}
        notebook.cells[0].metadata["papermill"] = {}
        notebook.metadata |= {"papermill": {}, "widgets": {"state": {}}}
        wrote = new_output("stream", text=f"wrote {folder}/artefacts/a.mp4\n")
        notebook.cells[4].outputs.append(wrote)
        nbformat.write(notebook, folder / path.name)
        assert lint.lint(folder / path.name)
        return SimpleNamespace(notebook=folder / path.name)

    monkeypatch.setattr(runner, "run_notebook", run_notebook)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    lint.refresh(path, "tiny")
    assert lint.lint(path) == []
    assert list(tmp_path.glob("09_x*/09_x.ipynb")), "the run itself is kept"
    notebook = nbformat.read(path, as_version=4)
    assert notebook.cells[3].outputs[1].text == "wrote runs/09_x/artefacts/a.mp4\n"
    assert notebook.metadata.vidgen_lab == {"artefacts": ["*.mp4"]}


@pytest.mark.parametrize("path", runner.chapters().values(), ids=lambda p: p.stem)
def test_the_committed_chapters_are_fit(path):
    assert lint.lint(path) == []
