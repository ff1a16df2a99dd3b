"""`vidgen-lab prepare` and people's files: nothing of theirs goes, no finished data set is lost."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from tests.pipeline.samples import moving, save
from vidgen_lab import cli
from vidgen_lab.pipeline.deliver.output import RECORD, Output, check_apart


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder and the hash of what is in it."""
    files = (p for p in folder.rglob("*") if p.is_file())
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files
    }


def unworked(folder: Path) -> dict[str, str]:
    """The same without what only spares work."""
    own = (RECORD, "work/")
    return {name: h for name, h in contents(folder).items() if not name.startswith(own)}


def refused(capsys, *arguments: object, words: str = "") -> None:
    """The command ends with 1 and one line, without having begun."""
    assert cli.main(["prepare", *map(str, arguments), "--executor", "serial"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ") and len(err.splitlines()) == 1, err
    assert words in err, err


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("given") / "videos"
    for n in (1, 2):
        save(moving(n), folder / f"{n}.mp4")
    return folder


@pytest.fixture(scope="module")
def finished(videos, tmp_path_factory):
    """A data set as the command leaves it."""
    out = tmp_path_factory.mktemp("finished") / "out"
    assert cli.main(["prepare", str(videos), str(out), "--executor", "serial"]) == 0
    return out


@pytest.fixture
def dataset(finished, tmp_path):
    """A copy of it that may be spoilt."""
    return Path(shutil.copytree(finished, tmp_path / "out"))


@pytest.mark.parametrize("source, out", [("p/clips", "p"), ("p", "p"), ("p", "p/out")])
def test_the_videos_and_the_output_lie_apart(source, out, tmp_path, capsys):
    save(moving(1), tmp_path / "p" / "clips" / "mine.mp4")
    before = contents(tmp_path)
    refused(capsys, tmp_path / source, tmp_path / out, words="must lie apart")
    assert contents(tmp_path) == before


def test_a_link_is_no_way_around_it(tmp_path):
    (tmp_path / "p" / "clips").mkdir(parents=True)
    (tmp_path / "other").symlink_to(tmp_path / "p", target_is_directory=True)
    with pytest.raises(ValueError, match="must lie apart"):
        check_apart(tmp_path / "p" / "clips", tmp_path / "other")


@pytest.mark.parametrize(
    "name",
    ["clips/mine.mp4", "dataset/labels.csv", "shards/own.tar", "manifest.jsonl", "work/a.jsonl"],
)
def test_a_folder_with_files_of_the_user_is_refused(name, videos, tmp_path, capsys):
    own = tmp_path / "out" / name
    own.parent.mkdir(parents=True)
    own.write_text("years of work")
    refused(capsys, videos, tmp_path / "out", words="was not written by prepare")
    assert contents(tmp_path / "out") == {name: hashlib.sha256(b"years of work").hexdigest()}


@pytest.mark.parametrize(
    "name",
    ["clips/mine.mp4", "dataset/labels.csv", "dataset/train/videos/own.mp4", "shards/own.tar"],
)
def test_what_the_user_adds_to_an_output_stays(name, dataset, videos, capsys):
    own = dataset / name
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text("years of work")
    assert cli.main(["prepare", str(videos), str(dataset), "--executor", "serial"]) == 0
    assert own.read_text() == "years of work"


def test_what_the_user_changes_is_set_aside_and_not_overwritten(dataset, videos, capsys):
    prompts = dataset / "dataset" / "train" / "prompts.txt"
    written = prompts.read_bytes()
    prompts.write_text("captions corrected by hand\n")
    assert cli.main(["prepare", str(videos), str(dataset), "--executor", "serial"]) == 0
    assert prompts.read_bytes() == written
    aside = dataset / "set_aside" / "dataset" / "train" / "prompts.txt"
    assert aside.read_text() == "captions corrected by hand\n"
    assert "not as it was written" in capsys.readouterr().err


def test_a_second_run_changes_no_file(finished, videos, capsys):
    shutil.rmtree(finished / "work" / "hashes", ignore_errors=True)  # grows when files have aged
    before = contents(finished)
    assert cli.main(["prepare", str(videos), str(finished), "--executor", "serial"]) == 0
    shutil.rmtree(finished / "work" / "hashes", ignore_errors=True)
    assert contents(finished) == before


def test_a_file_of_the_user_in_the_way_is_named(dataset, videos, capsys):
    shutil.rmtree(dataset)
    (out := Output(dataset)).write({"manifest.jsonl": ""})
    (dataset / "funnel.png").write_text("a picture of the user's")
    with pytest.raises(FileExistsError, match=r"funnel\.png was not written by prepare"):
        out.claim(["funnel.png"])
    assert (dataset / "funnel.png").read_text() == "a picture of the user's"


@pytest.mark.parametrize(
    "name", ["../mine.mp4", "clips/../../mine.mp4", "/etc/passwd", "C:/mine.mp4", "clips\\..\\x"]
)
def test_a_record_that_was_tampered_with_names_nothing_outside(name, dataset):
    (dataset.parent / "mine.mp4").write_text("of the user")
    with (dataset / RECORD).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"path": name, "sha256": ""}) + "\n")
    assert name not in Output(dataset)


def test_a_record_of_something_else_is_no_record(tmp_path, videos, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / RECORD).write_text('{"a": "diary"}\n')
    refused(capsys, videos, tmp_path / "out", words="is not of prepare")


def test_a_torn_record_loses_only_its_last_line(tmp_path):
    out = Output(tmp_path / "out")
    out.write({"a.txt": "a"})
    with (tmp_path / "out" / RECORD).open("a") as file:
        file.write('{"path": "b.t')
    Output(tmp_path / "out").write({"c.txt": "c"})
    again = Output(tmp_path / "out")
    assert "a.txt" in again and "c.txt" in again and "b.t" not in again


SLIPS = (
    ("media.preset=ultrafst", "preset must be one of ultrafast"),
    ("media.fps=1.0e+12", "fps must lie in"),
    ("media.fps=1e12", "fps"),
    ("media.fps=.nan", "fps"),
    ("media.size=[20000, 20000]", "size"),
    ("media.crf=99", "crf"),
    ("annotate.captioner=templat", "captioner must be one of template"),
    ("annotate.detector=yolo", "detector must be one of motion"),
    ("annotate.embedder=cilp", "embedder must be one of judge"),
    ("annotate.actor=x", "actor must be one of flow"),
    ("gates.min_side=.nan", "min_side"),
    ("gates.min_side=-1", "min_side must be 0 or more"),
    ("gates.max_dark=80", "max_dark must lie in 0..1"),
    ("gates.min_seconds=.inf", "min_seconds"),
    ("gates.min_sied=256", "min_sied"),
    ("gates.min_side={", "min_side"),
    ("scenes.detector=adaptiv", "adaptiv"),
    ("scenes.threshold=-3", "threshold must be 0.001 or more"),
    ("score.samples_per_second=.inf", "samples_per_second"),
    ("duplicates.max_bits=65", "max_bits"),
    ("duplicates.max_difference=-1", "max_difference"),
    ("duplicates.min_cosine=7", "min_cosine"),
    ("balance.floor=-1", "floor"),
    ("balance.temperature=.nan", "temperature"),
    ("split.val=1", "val"),
    ("seed=-1", "seed must lie in"),
    ("limit=.nan", "limit"),
    ("limit=0", "limit"),
)


@pytest.mark.parametrize("pair, words", SLIPS, ids=[pair for pair, _ in SLIPS])
def test_a_mistyped_setting_is_refused_before_any_work(pair, words, finished, videos, capsys):
    before = contents(finished)
    refused(capsys, videos, finished, pair, words=words)
    assert contents(finished) == before


@pytest.mark.parametrize("workers", ["-3", "0"])
def test_workers_are_counted_from_one(workers, finished, videos, capsys):
    refused(capsys, videos, finished, "--workers", workers, words="workers must be 1 or more")


@pytest.mark.parametrize("shard", ["4/4", "-1/2", "0/0", "1"])
def test_a_shard_is_one_of_some(shard, finished, videos, capsys):
    refused(capsys, videos, finished, f"--shard={shard}")


@pytest.mark.parametrize("text", ["gates: {min_side: 3", "- a\n- b\n", "just words", "\tx: 1"])
def test_a_broken_file_of_settings_is_one_line(text, finished, videos, tmp_path, capsys):
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    refused(capsys, videos, finished, "--config", path, words="settings.yaml")


@pytest.mark.parametrize(
    "content",
    [b'file,licence\n1.mp4,"' + b"x" * 200_000 + b'"\n', b"file,licence\n\xff\xfe,x\n"],
    ids=["long field", "not UTF-8"],
)
def test_a_broken_table_of_rights_is_one_line(content, videos, tmp_path, capsys):
    given = Path(shutil.copytree(videos, tmp_path / "videos"))
    (given / "rights.csv").write_bytes(content)
    refused(capsys, given, tmp_path / "out", words="rights.csv")
    assert not (tmp_path / "out").exists()


def test_a_run_in_which_every_clip_fails_replaces_nothing(dataset, videos, monkeypatch, capsys):
    from vidgen_lab.pipeline import tasks

    def fails(task):
        raise OSError("no space left on device")

    before = unworked(dataset)
    for stage in ("score", "embed", "export", "annotate"):
        with monkeypatch.context() as patch:
            patch.setattr(tasks, stage, fails)
            patch.setitem(tasks.RECIPES, stage, (99, ()))
            code = cli.main(["prepare", str(videos), str(dataset), "--executor", "serial"])
        assert code == 1 and "all 2 ended in an error" in capsys.readouterr().err
        assert unworked(dataset) == before


@pytest.mark.parametrize("more", [(), ("duplicates.min_cosine=0.9",)])
def test_a_run_in_which_no_clip_passes_replaces_nothing(more, dataset, videos, capsys):
    before = unworked(dataset)
    code = cli.main(["prepare", str(videos), str(dataset), "gates.min_side=2560", *more])
    err = capsys.readouterr().err.splitlines()
    assert code == 1 and "no clip passes (2 quality: too_small)" in err[-1]
    assert unworked(dataset) == before


def test_scoring_alone_leaves_the_finished_manifest(dataset, videos, capsys):
    before = (dataset / "manifest.jsonl").read_bytes()
    arguments = [str(videos), str(dataset), "--score-only", "--executor", "serial"]
    assert cli.main(["prepare", *arguments]) == 0
    assert (dataset / "manifest.jsonl").read_bytes() == before
    assert (dataset / "scored.jsonl").exists()


def test_toyworld_refuses_a_folder_with_something_in_it(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    assert cli.main(["toyworld", str(tmp_path), "--count", "1"]) == 1
    assert "is not empty" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
