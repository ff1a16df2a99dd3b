import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools import lint
from vidgen_lab.paths import notebooks_dir
from vidgen_lab.workbook import runner

BOOTSTRAP = (notebooks_dir().parent / "colab" / "bootstrap.py").read_text(encoding="utf-8").strip()
PARAMETERS = """\
tier: str = "auto"  # hardware settings
seed: int = 0  # same seed, same result
out_dir: str = ""  # where artefacts go
"""
BADGE = (
    "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    f"(https://colab.research.google.com/github/{lint.REPOSITORY}/blob/main/notebooks/09_x.ipynb)"
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
    notebook.metadata |= {"kernelspec": dict(lint.KERNEL), "vidgen_lab": {"artefacts": ["*.mp4"]}}
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
        (lambda n: n.metadata.update(widgets={}), "metadata.widgets"),
        (lambda n: n.metadata.kernelspec.update(name="conda-x"), "kernelspec"),
        (lambda n: n.metadata.pop("vidgen_lab"), "declares no artefacts"),
        (lambda n: n.cells[2].metadata.clear(), "tagged 'parameters'"),
        (edit(2, source='tier: str = "auto"'), "'seed'"),
        (edit(2, source=PARAMETERS + "steps = 3"), "'steps' needs a type"),
        (edit(1, source="pass"), "colab/bootstrap.py"),
        (edit(3, execution_count=7), "not executed in order"),
        (edit(3, source="from math import *"), "star import"),
        (edit(3, source="!pip install x"), "magic"),
        (edit(3, source="def f():\n    pass"), "defines f()"),
        (edit(3, source="x = 1\n" * 40), "lines"),
        (edit(0, source="# T\n\nYou will build x. Prerequisites. Time."), "badge"),
        (edit(4, source="## Recap"), "'next'"),
        (edit(4, source="## Recap\n\n## Next\n\n![](figure.png)"), "alternative text"),
        (edit(4, source="## Recap\n\n## Next\n\n![a](https://x.org/a.png)"), "from the network"),
        (output("stream", name="stderr", text="warning"), "standard error"),
        (output("stream", name="stdout", text="/home/me/data"), "private path"),
        (output("stream", name="stdout", text="x" * 3_100_000), "bytes"),
        (output("error", ename="ValueError", evalue="no", traceback=[]), "ValueError"),
    ],
)
def test_each_fault_is_found(tmp_path, spoil, fault):
    notebook = chapter()
    spoil(notebook)
    assert any(fault in f for f in faults(notebook, tmp_path)), faults(notebook, tmp_path)


def test_clean_makes_an_executed_copy_fit(tmp_path):
    notebook = chapter()
    injected = new_code_cell("seed = 7", metadata={"tags": ["injected-parameters"]})
    notebook.cells.insert(3, injected)
    for number, cell in enumerate(notebook.cells[1:5]):
        cell.execution_count = number + 11
        cell.metadata["papermill"] = {"duration": 1}
        cell.metadata["execution"] = {}
    notebook.metadata |= {"papermill": {}, "widgets": {"state": {}}}
    notebook.cells[4].outputs.append(new_output("stream", text="wrote /tmp/xyz/artefacts/a.mp4\n"))
    assert faults(notebook, tmp_path)

    lint.clean(notebook, {"/tmp/xyz": "runs/09_x"})
    assert faults(notebook, tmp_path) == []
    assert notebook.cells[3].outputs[1].text == "wrote runs/09_x/artefacts/a.mp4\n"
    assert notebook.metadata.vidgen_lab == {"artefacts": ["*.mp4"]}


@pytest.mark.parametrize("path", runner.chapters().values(), ids=lambda p: p.stem)
def test_the_committed_chapters_are_fit(path):
    assert lint.lint(path) == []
