"""Every chapter, from the very file readers open, at tier ci and without the network."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from vidgen_lab import cli
from vidgen_lab.workbook import runner

pytestmark = pytest.mark.timeout(1800)  # minutes of work where other programs run beside it
CHAPTERS = pytest.mark.parametrize("path", runner.chapters().values(), ids=lambda path: path.stem)


def test_there_is_a_chapter():
    assert 1 in runner.chapters()


def checked_outputs(path: Path) -> dict[str, str]:
    """What the cells tagged `checked-output` print and show as text, by the id of the cell."""
    found = {}
    for cell in nbformat.read(path, as_version=4).cells:
        if "checked-output" in cell.metadata.get("tags", []):
            texts = [o.get("text", "") for o in cell.outputs]
            data = [o.data for o in cell.outputs if "data" in o]
            texts += [d.get("text/markdown", d.get("text/plain", "")) for d in data]
            found[cell.id] = "".join(texts)
    return found


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
    committed = checked_outputs(path)
    assert committed, "tag some cells whose output must not drift with `checked-output`"
    assert checked_outputs(out / path.name) == committed


@CHAPTERS
def test_an_unknown_parameter_stops_a_chapter_before_it_starts(path, tmp_path, capsys):
    argv = ["chapter", path.stem[:2], "-p", "promt", "a ball", "--out", str(tmp_path / "x")]
    assert cli.main(argv) == 2
    err = capsys.readouterr().err
    assert "'promt'" in err
    assert "tier" in err
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
