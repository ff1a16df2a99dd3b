"""Every chapter, from the very file readers open, at tier ci and without the network."""

import os
import subprocess
import sys

import pytest

from vidgen_lab import cli
from vidgen_lab.workbook import runner

pytestmark = pytest.mark.timeout(1800)  # minutes of work where other programs run beside it
CHAPTERS = pytest.mark.parametrize("path", runner.chapters().values(), ids=lambda path: path.stem)


def test_there_is_a_chapter():
    assert 1 in runner.chapters()


@CHAPTERS
def test_a_chapter_runs_and_leaves_sound_artefacts(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "rün 1"
    assert cli.main(["chapter", path.stem[:2], "--tier", "ci", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    for line in (out / path.name, (out / path.name).with_suffix(".html")):
        assert str(line) in printed
    assert list(out.glob("artefacts/**/*.mp4"))
    assert [p.name for p in tmp_path.iterdir()] == [out.name], "files outside the run's folder"


@CHAPTERS
def test_an_unknown_parameter_stops_a_chapter_before_it_starts(path, tmp_path, capsys):
    argv = ["chapter", path.stem[:2], "-p", "promt", "a ball", "--out", str(tmp_path / "x")]
    assert cli.main(argv) == 2
    err = capsys.readouterr().err
    assert "no setting promt; " in err
    assert not (tmp_path / "x").exists()


@CHAPTERS
def test_checked_cells_still_show_what_was_committed(path, tmp_path):
    import papermill

    copy = tmp_path / path.name
    parameters = {"tier": "ci", runner.OUT_DIR: str(tmp_path / "artefacts")}
    papermill.execute_notebook(
        path, copy, parameters, prepare_only=True, kernel_name="python3", language="python"
    )
    (tmp_path / "artefacts").mkdir()
    nbval = ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=600"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *nbval, "-c", os.devnull, str(copy)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]


def test_the_python_example_of_the_readme_runs(tmp_path):
    readme = (runner.notebooks_dir().parent / "README.md").read_text(encoding="utf-8")
    example = readme.partition("```python\n")[2].partition("```")[0]
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["star.json", "star.mp4"]
    assert "consistency" in done.stdout
