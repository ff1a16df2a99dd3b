"""Chapter 4: the reader builds, and the exercises are asked."""

import nbformat

from tests.workbook import built_here
from vidgen_lab.paths import notebooks_dir
from vidgen_lab.workbook.exercises import exercises


def _cells(tag):
    notebook = nbformat.read(notebooks_dir() / "04_training.ipynb", as_version=4)
    return [c.source for c in notebook.cells if tag in c.metadata.get("tags", [])]


def test_the_reader_builds_and_what_is_the_packages_too_is_the_same():
    cells = [cell for cell in _cells("build-it") if not cell.startswith("import")]
    names = [name for cell in cells for name in built_here.bare(cell)]
    assert len(cells) >= 15 and len(set(names)) == len(names)
    same = [cell for cell in cells if "def warmup_cosine" in cell]
    assert len(same) == 1 and not list(built_here.differing(same, ["vidgen_lab.training.optim"]))


def test_every_exercise_has_its_cell():
    asked = "\n".join(_cells("exercise"))
    assert all(f'check("{name}", answer)' in asked for name in exercises(4))
    assert len(exercises(4)) >= 8
