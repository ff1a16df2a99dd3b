import errno
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest
from huggingface_hub import constants
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tests.settings.test_weights import put_in_hub_cache
from vidgen_lab.config import ConfigError
from vidgen_lab.generation.request import RequestError
from vidgen_lab.workbook import runner
from vidgen_lab.workbook.runner import ChapterError, prepare, run_notebook

PARAMETERS = 'tier: str = "auto"\nrate: float = 0.1\nout_dir: str = ""'
WRITE = """\
from pathlib import Path
(Path(out_dir) / "t.csv").write_text(f"name,rate\\n{tier},{rate}\\n")
print("cwd", Path.cwd().name)
verdict = {"id": "9.1", "status": "right", "message": "well done"}
display({"text/plain": "ok", "application/vnd.vidgen-lab.exercise+json": verdict}, raw=True)
"""


@pytest.fixture
def chapter(tmp_path):
    """Write a small chapter and return its path; `work` is the source of its one working cell."""

    def write(
        work: str = WRITE, artefacts: tuple[str, ...] = ("t.csv",), parameters: str = PARAMETERS
    ):
        cells = [
            new_markdown_cell("# A chapter"),
            new_code_cell(parameters, metadata={"tags": ["parameters"]}),
            new_markdown_cell("## Work"),
            new_code_cell(work),
        ]
        notebook = new_notebook(cells=cells)
        notebook.metadata["vidgen_lab"] = {"artefacts": list(artefacts)}
        path = tmp_path / "09_smäll chapter.ipynb"
        nbformat.write(notebook, path)
        return path

    return write


def test_a_run_keeps_notebook_html_and_artefacts(chapter, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = chapter()
    parameters = prepare(path, {"rate": "1e-3"}, {"tier": "ci"})
    run = run_notebook(path, parameters)

    assert run.folder.parent == tmp_path / "runs" / path.stem
    assert run.folder.is_absolute()
    assert [p.name for p in run.artefacts] == ["t.csv"]
    assert run.artefacts[0].read_text() == "name,rate\nci,0.001\n"
    assert "A chapter" in run.html.read_text(encoding="utf-8")
    executed = nbformat.read(run.notebook, as_version=4)
    assert executed.cells[-1].outputs[0].text == f"cwd {run.folder.name}\n"
    assert json.loads((run.folder / "exercises.json").read_text())[0]["status"] == "right"
    assert re.search(r": 4/4 cells, .*, Work\n$", capsys.readouterr().out)


def test_runs_that_begin_together_get_folders_of_their_own(chapter, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runner, "free_disk_gib", lambda folder: time.sleep(0.05) or 1.0)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(runner._make_folder, [chapter()] * 8, [None] * 8))
    assert len(set(made)) == 8


def test_a_run_says_nothing_on_standard_error(chapter, tmp_path, capfd):
    run_notebook(chapter(), {}, tmp_path / "out")
    out, err = capfd.readouterr()
    assert err == ""
    assert "09_smäll chapter: 4/4 cells" in out


def test_a_failing_cell_fails_the_run_and_keeps_the_copy(chapter, tmp_path):
    with pytest.raises(ChapterError, match=r"ValueError: no luck\. Everything"):
        run_notebook(chapter("raise ValueError('no luck.')"), {}, tmp_path / "out")
    assert {p.suffix for p in (tmp_path / "out").glob("*.*")} == {".html", ".ipynb", ".json"}


@pytest.mark.parametrize(
    ("work", "fault"),
    [("pass", "no such file"), (WRITE.replace("{rate}", "nan"), "NaN")],
)
def test_missing_or_degenerate_artefacts_fail_the_run(chapter, tmp_path, work, fault):
    with pytest.raises(ChapterError, match=fault):
        run_notebook(chapter(work), {}, tmp_path / "out")


def test_artefacts_of_an_earlier_run_do_not_count(chapter, tmp_path):
    (tmp_path / "out" / "artefacts").mkdir(parents=True)
    (tmp_path / "out" / "artefacts" / "t.csv").write_text("name,rate\nold,1\n")
    with pytest.raises(FileExistsError, match="not empty"):
        run_notebook(chapter("pass"), {}, tmp_path / "out")


def test_a_full_disk_is_noticed_before_the_run(chapter, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "free_disk_gib", lambda folder: 0.01)
    with pytest.raises(ChapterError, match="disk of .* is full: 10 MiB are free"):
        run_notebook(chapter(), {}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_disk_that_fills_up_on_the_way_leaves_no_broken_file(chapter, tmp_path, monkeypatch):
    from papermill.iorw import LocalHandler

    written = []

    def write(handler, text, path, **options):  # like a disk with room for two and a half saves
        written.append(path)
        full = len(written) > 2
        Path(path).write_text(text[: len(text) // 2] if full else text, encoding="utf-8")
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(LocalHandler, "write", write)
    monkeypatch.setattr(runner, "SAVE_EVERY", 0.0)
    with pytest.raises(ChapterError, match="No space left on device. Free some space"):
        run_notebook(chapter(), {}, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["artefacts"]


def test_what_is_done_is_saved_while_the_rest_is_at_work(chapter, tmp_path, monkeypatch):
    look = (
        "from pathlib import Path\n(saved,) = Path().glob('*.ipynb')\n"
        "assert 'comp' + 'leted' in saved.read_text('utf-8')\n"  # the cells before this one
    )
    monkeypatch.setattr(runner, "SAVE_EVERY", 0.0)
    run_notebook(chapter(look + WRITE), {}, tmp_path / "often")
    monkeypatch.setattr(runner, "SAVE_EVERY", 600.0)
    with pytest.raises(ChapterError, match="AssertionError"):
        run_notebook(chapter(look + WRITE), {}, tmp_path / "rarely")


def test_wrong_parameters_are_found_before_anything_runs(chapter):
    with pytest.raises(ConfigError, match="teir; did you mean tier"):
        prepare(chapter(), {"teir": "ci"})
    with pytest.raises(ConfigError, match="rate cannot be"):
        prepare(chapter(), {}, {"rate": "fast"})
    with pytest.raises(ValueError, match="declares no artefacts"):
        prepare(chapter(artefacts=()), {})


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"tier": "nope"}, "unknown tier 'nope'"),
        ({"tier": "5"}, "unknown tier '5'"),
        ({"tier": "[1]"}, "unknown tier"),
        ({"tier": ""}, "tier is empty"),
        ({"prompt": ""}, "prompt is empty; leave it out for 'a red ball'"),
        ({"prompt": " \u200b"}, "prompt is empty"),
        ({"prompt": "a \udcff ball"}, "no text at position 3"),
        ({"seed": "-1"}, "seed must be at least 0"),
        ({"seed": "1.5"}, "seed"),
        ({"num_frames": "13"}, "num_frames=13"),
        ({"width": "20000"}, "width must be at most"),
        ({"width": "-8"}, "width must be at least 1"),
        ({"guidance_scale": ".nan"}, "guidance_scale"),
    ],
)
def test_what_a_chapter_would_refuse_is_refused_before_it_starts(chapter, given, says):
    path = chapter()
    node = nbformat.read(path, as_version=4)
    node.cells[1].source += (
        '\nprompt: str = "a red ball"\nseed: int = 1\nnum_frames: int | None = None'
        "\nwidth: int | None = None\nguidance_scale: float | None = None"
    )
    nbformat.write(node, path)
    with pytest.raises(ValueError, match=re.escape(says)):
        prepare(path, given)
    assert prepare(path, {"prompt": "a blue ball", "seed": "3"})["seed"] == 3


def test_a_request_is_checked_against_weights_under_a_former_name(chapter, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    put_in_hub_cache(tmp_path / "cache", "THUDM/CogVideoX-2b")
    path = chapter(parameters=PARAMETERS + "\nnum_frames: int | None = None")
    with pytest.raises(RequestError, match="num_frames=13"):
        prepare(path, {"tier": "t4", "num_frames": "13"})


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"nbformat": 4}', '"x"', "\0", "[" * 9999]
)
def test_a_file_that_is_no_notebook(tmp_path, content):
    path = tmp_path / "x.ipynb"
    path.write_text(content)
    with pytest.raises(ValueError, match="is no notebook"):
        prepare(runner.find_chapter(str(path)), {})
    with pytest.raises(FileNotFoundError, match="no notebook"):
        runner.find_chapter(str(tmp_path / "none.ipynb"))


def test_a_parameters_cell_that_is_no_python(chapter):
    path = chapter()
    node = nbformat.read(path, as_version=4)
    for source in ("tier: str = (", "a = 'x", "\0"):
        node.cells[1].source = source
        nbformat.write(node, path)
        with pytest.raises(ConfigError, match="is not Python"):
            prepare(path, {})


def test_a_readers_own_copy_runs_with_a_time_limit_and_its_verdicts_count(
    chapter, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    path = runner.find_chapter(str(chapter().relative_to(tmp_path)))
    run = run_notebook(path, prepare(path, {}), limit=60)
    assert run.verdicts == {"right": 1}

    slow = chapter("import time\ntime.sleep(60)")
    with pytest.raises(ChapterError, match="a cell under 'Work' took longer than 1 s"):
        run_notebook(slow, prepare(slow, {}), tmp_path / "slow", limit=1)
    assert (tmp_path / "slow" / slow.name).is_file()


@pytest.mark.parametrize(
    "name", ["09_smäll chapter.ipynb", "09_smäll chapter.html", runner.VERDICTS]
)
def test_a_file_of_the_users_own_is_never_overwritten_by_a_run(chapter, tmp_path, name):
    path = chapter()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(FileExistsError, match="is there already"):
        run_notebook(path, prepare(path, {}), tmp_path / "out")
    assert (tmp_path / "out" / name).read_text() == "mine"
    assert [p.name for p in (tmp_path / "out").iterdir()] == [name]


def test_a_folder_for_artefacts_that_is_not_empty_leaves_no_run_folder(chapter, tmp_path):
    path = chapter()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    with pytest.raises(FileExistsError, match="not empty"):
        run_notebook(path, prepare(path, {"out_dir": str(tmp_path / "full")}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_relative_to_the_current_one_is_found_and_numbers_count(
    chapter, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my vidéos").mkdir()
    parameters = PARAMETERS + "\nsource: str | None = None\nnum_clips: int | None = None"
    path = chapter(parameters=parameters)
    assert prepare(path, {"source": "my vidéos"})["source"] == str(tmp_path / "my vidéos")
    assert prepare(path, {}, {"source": "hub/name"})["source"] == "hub/name"
    assert prepare(path, {"source": ""})["source"] == ""
    for few in ("0", "-2"):
        with pytest.raises(ValueError, match="num_clips must be at least 1"):
            prepare(path, {"num_clips": few})
