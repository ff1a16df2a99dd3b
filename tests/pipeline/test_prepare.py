import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from tests.pipeline.samples import blurred, film, moving, save
from vidgen_lab.files import file_sha256
from vidgen_lab.pipeline import manifest, tasks
from vidgen_lab.pipeline.config import Config, load_config
from vidgen_lab.pipeline.deliver.cut import MediaSettings
from vidgen_lab.pipeline.prepare import NothingLeft, prepare
from vidgen_lab.pipeline.read.probing import probe_file
from vidgen_lab.pipeline.runner import Execution
from vidgen_lab.pipeline.select.gates import GateSettings
from vidgen_lab.video.clip import Clip

SERIAL = Execution("serial")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A small folder with one file of each fate."""
    folder = tmp_path_factory.mktemp("raw") / "videos"
    save(moving(1), folder / "good.mp4")
    save(moving(2), folder / "a" / "x.mp4")
    save(moving(4), folder / "b" / "x.mp4")
    save(film((3, 5), 12), folder / "film.mp4")
    save(blurred(moving(6)), folder / "soft.mp4")
    still = np.repeat(moving(7).frames[:1], 16, axis=0)
    save(Clip(still, 8), folder / "still.mp4")
    shutil.copyfile(folder / "good.mp4", folder / "zz copy.mp4")
    (folder / "broken.mp4").write_bytes(b"no video at all")
    (folder / "notes.txt").write_text("not a candidate")
    (folder / "rights.csv").write_text("file,licence,url,consent\n*,CC0,,yes\ngood.mp4,CC-BY,u,\n")
    return folder


@pytest.fixture(scope="module")
def whole(videos, tmp_path_factory):
    """An uninterrupted serial run: (folder, rows)."""
    out = tmp_path_factory.mktemp("whole")
    return out, prepare(videos, out, execution=SERIAL)


def last(table, source):
    """Every clip's last row of a source, by place."""
    ended = {}
    for row in manifest.sort_rows(table):
        if row.source == source and (row.stage != "read" or row.status != "kept"):
            ended[row.clip_id] = row
    return list(ended.values())


def test_every_file_ends_one_of_three_ways(whole):
    out, table = whole
    ends = {s: [(r.stage, r.status, r.reason) for r in last(table, s)] for s in (
        "good.mp4", "a/x.mp4", "b/x.mp4", "film.mp4", "soft.mp4", "still.mp4", "zz copy.mp4",
        "broken.mp4",
    )}  # fmt: skip
    done = ("split", "kept", "")
    assert ends["good.mp4"] == ends["a/x.mp4"] == ends["b/x.mp4"] == [done]
    assert ends["film.mp4"] == [done, done]
    assert ends["soft.mp4"] == [("quality", "rejected", "blurred")]
    assert ends["still.mp4"] == [("quality", "rejected", "frozen")]
    assert ends["zz copy.mp4"] == [("duplicates", "rejected", "duplicate: of good.mp4")]
    assert ends["broken.mp4"][0][:2] == ("read", "error")
    assert "notes.txt" not in {r.source for r in table}
    manifest.check_funnel(manifest.read_manifest(out / "manifest.jsonl"))


def test_clips_are_what_the_manifest_says(whole):
    out, table = whole
    final = [r for r in table if r.stage == "split"]
    assert len(final) == 5 == len(list((out / "clips").iterdir()))
    for row in final:
        clip = row.info["clip"]
        facts = probe_file(out / clip["file"])
        assert facts.num_frames == clip["num_frames"] == row.frames[1] - row.frames[0]
        assert file_sha256(out / clip["file"]) == clip["sha256"]
        assert row.info["caption"] and row.info["split"] in ("train", "val")
        assert row.sha256 and row.versions
    rights = {r.source: r.rights for r in final}
    assert rights["good.mp4"]["licence"] == "CC-BY" and rights["film.mp4"]["licence"] == "CC0"


def test_nothing_of_this_machine_is_in_the_manifest(whole, videos):
    out, _ = whole
    text = (out / "manifest.jsonl").read_text(encoding="utf-8")
    assert str(videos.parent) not in text and str(out) not in text


def test_processes_write_the_same_bytes(whole, videos, tmp_path):
    prepare(videos, tmp_path, execution=Execution("process", workers=2))
    assert (tmp_path / "manifest.jsonl").read_bytes() == (whole[0] / "manifest.jsonl").read_bytes()


@pytest.mark.slow
def test_ray_writes_the_same_bytes(ray_node, whole, videos, tmp_path):
    prepare(videos, tmp_path, execution=Execution("ray", workers=1))
    assert (tmp_path / "manifest.jsonl").read_bytes() == (whole[0] / "manifest.jsonl").read_bytes()


@pytest.fixture
def calls(monkeypatch):
    """Which tasks really run: (stage, path's name or clip id)."""
    made = []

    def spy_on(stage):
        function = getattr(tasks, stage)

        def spy(task):
            for clip in task.get("clips", [task]):
                made.append((stage, os.path.basename(clip.get("out", task["path"]))))
            return function(task)

        monkeypatch.setattr(tasks, stage, spy)

    for stage in ("score", "embed", "export", "annotate"):
        spy_on(stage)
    return made


def again(whole, videos, tmp_path, config=None):
    """A second run over a copy of the first one's results."""
    out = tmp_path / "again"
    shutil.copytree(whole[0], out)
    return out, prepare(videos, out, config, SERIAL)


def test_a_second_run_does_nothing_and_changes_nothing(whole, videos, tmp_path, calls):
    out, _ = again(whole, videos, tmp_path)
    assert calls == []
    assert (out / "manifest.jsonl").read_bytes() == (whole[0] / "manifest.jsonl").read_bytes()


def test_a_new_threshold_costs_no_decoding_and_counts(whole, videos, tmp_path, calls):
    config = replace(Config(), gates=replace(GateSettings(), min_edge_steepness=None))
    _, table = again(whole, videos, tmp_path, config)
    assert last(table, "soft.mp4")[0].stage == "split"
    assert {stage for stage, _ in calls} == {"embed", "export", "annotate"} and len(calls) == 3


def test_a_new_size_makes_new_clips_and_scores_nothing_again(whole, videos, tmp_path, calls):
    config = replace(Config(), media=MediaSettings(size=(64, 64)))
    out, table = again(whole, videos, tmp_path, config)
    assert {s for s, _ in calls} == {"export", "annotate"} and len(calls) == 10
    clips = [r.info["clip"] for r in table if r.stage == "export"]
    assert {(c["width"], c["height"]) for c in clips} == {(64, 64)}


def test_a_lost_or_spoilt_clip_is_made_again(whole, videos, tmp_path, calls):
    out = tmp_path / "again"
    shutil.copytree(whole[0], out)
    one, two, *_ = sorted((out / "clips").iterdir())
    one.unlink()
    two.write_bytes(b"spoilt")
    half = out / "clips" / f".{'0' * 32}.part.mp4"
    half.write_bytes(b"left by a kill")
    with pytest.warns(UserWarning, match="not as it was written"):
        prepare(videos, out, execution=SERIAL)
    assert sorted(calls) == [("export", one.name), ("export", two.name)]
    assert (out / "manifest.jsonl").read_bytes() == (whole[0] / "manifest.jsonl").read_bytes()
    assert not half.exists() and (out / "set_aside" / "clips" / two.name).exists()


def test_changed_content_redoes_that_file_alone(whole, videos, tmp_path, calls):
    changed = tmp_path / "videos"
    shutil.copytree(videos, changed)
    save(moving(8), changed / "b" / "x.mp4")
    again(whole, changed, tmp_path)
    assert [name for stage, name in calls if stage == "score"] == ["x.mp4"]
    assert len(calls) == 4


def test_errors_are_remembered_until_asked_to_retry(whole, videos, tmp_path, calls):
    out = tmp_path / "again"
    shutil.copytree(whole[0], out)
    prepare(videos, out, execution=Execution("serial", retry_errors=True))
    assert calls == [("score", "broken.mp4")]


@pytest.fixture
def single(tmp_path):
    """A folder with one good video, and a place for what is made of it."""
    save(moving(1), tmp_path / "videos" / "good.mp4")
    return tmp_path / "videos", tmp_path / "out"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every name is text")
def test_a_name_that_is_no_text_stops_nobody(single, capsys):
    from vidgen_lab import cli

    videos, out = single
    name = os.fsdecode(b"caf\xe9.mp4")  # as an archive from an old computer leaves it
    (videos / "good.mp4").rename(videos / name)
    assert cli.main(["prepare", str(videos), str(out), "--executor", "serial"]) == 0
    (row,) = [r for r in manifest.read_manifest(out / "manifest.jsonl") if r.stage == "split"]
    assert row.source == name and (videos / row.source).exists()
    lines = (out / "dataset" / "train" / "metadata.jsonl").read_text(encoding="utf-8")
    assert json.loads(lines)["source"] == r"caf\udce9.mp4"
    said, noted = capsys.readouterr()
    assert noted == ""  # of a failure
    assert [line.partition(":")[0] for line in said.splitlines()[:5]] == [
        "hash", "score", "embed", "export", "annotate",
    ]  # fmt: skip


def test_a_reason_names_no_folder_of_this_machine(single):
    videos, out = single
    (videos / "two  blanks.mp4").write_bytes(b"no video at all")
    table = prepare(videos, out, execution=SERIAL, score_only=True)
    (lost,) = last(table, "two  blanks.mp4")
    assert lost.reason.startswith("the file is not a readable video")


def test_permission_to_download_tries_again_what_lacked_it(single, monkeypatch):
    def embed(task):
        if not task["download"]:
            raise FileNotFoundError("the weights are not on this machine")
        return [{"value": [1.0, 0.0]}]

    monkeypatch.setattr(tasks, "embed", embed)
    with pytest.raises(NothingLeft, match="the weights"):
        prepare(*single, execution=SERIAL)
    allowed = load_config(None, ["annotate.download=true"])
    assert last(prepare(*single, allowed, SERIAL), "good.mp4")[0].stage == "split"


def test_weights_that_are_missing_are_noticed_before_anything_is_done(single, calls):
    for name in ("captioner=smolvlm", "embedder=clip"):
        config = load_config(None, [f"annotate.{name}"])
        with pytest.raises(
            NothingLeft, match=rf"annotate.{name} .*annotate\.download=true\. .* MB"
        ):
            prepare(*single, config, SERIAL)
        assert calls == []
        prepare(*single, config, SERIAL, score_only=True)  # needs none of them
        calls.clear()


def test_a_worker_killed_from_outside_is_no_verdict_on_its_clip(single, monkeypatch):
    def lost(function, todo, *how):
        return ((n, {"error": "killed: signal 9"}) for n in range(len(todo)))

    with monkeypatch.context() as patch:
        patch.setattr("vidgen_lab.pipeline.runner.run_tasks", lost)
        with pytest.raises(NothingLeft, match="killed: signal 9"):
            prepare(*single, execution=SERIAL, score_only=True)
    again = prepare(*single, execution=SERIAL, score_only=True)
    assert last(again, "good.mp4")[-1].status == "kept"


def test_shards_together_are_the_whole(whole, videos, tmp_path, calls):
    for index in range(2):
        part = prepare(videos, tmp_path, execution=SERIAL, shard=(index, 2))
        assert {r.stage for r in part} == {"read"}
    scored = len(calls)
    prepare(videos, tmp_path, execution=SERIAL)
    assert sum(stage == "score" for stage, _ in calls) == scored == 7  # the copy is scored once
    assert (tmp_path / "manifest.jsonl").read_bytes() == (whole[0] / "manifest.jsonl").read_bytes()


def test_score_only_cuts_nothing(videos, tmp_path):
    table = prepare(videos, tmp_path, execution=SERIAL, score_only=True)
    assert {r.stage for r in table} == {"read", "scenes", "quality"}
    assert not (tmp_path / "clips").exists()


def test_a_folder_of_nothing_but_broken_videos_says_so(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.mp4").write_bytes(b"")
    with pytest.raises(NothingLeft, match="all 1 ended in an error at the stage read.*is empty"):
        prepare(tmp_path / "in", tmp_path / "out", execution=SERIAL)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="kill -9 is a POSIX thing")
def test_a_run_killed_at_any_moment_goes_on_to_the_same_manifest(whole, videos, tmp_path):
    # one process pays for the imports; those that work and are killed are forked from it, each with
    # a little more time than the one before, until one comes to the end
    code = """if True:
        import itertools, os, random, signal, sys, time
        import av, cv2, scenedetect, sklearn.cluster, torch
        from vidgen_lab.metrics import judge
        from vidgen_lab.pipeline.prepare import Execution, prepare
        draw = random.Random(0)
        for n in itertools.count(1):
            if not (pid := os.fork()):
                prepare(sys.argv[1], sys.argv[2], execution=Execution("serial"))
                os._exit(7)
            end = time.monotonic() + n * draw.uniform(0.01, 0.03)
            while not (ended := os.waitpid(pid, os.WNOHANG))[0] and time.monotonic() < end:
                time.sleep(0.005)
            if ended[0]:
                sys.exit(os.waitstatus_to_exitcode(ended[1]))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    """
    command = [sys.executable, "-c", code, str(videos), str(tmp_path)]
    assert subprocess.run(command).returncode == 7
    prepare(videos, tmp_path, execution=SERIAL)
    assert (tmp_path / "manifest.jsonl").read_bytes() == (whole[0] / "manifest.jsonl").read_bytes()


def test_settings_come_from_file_and_pairs_and_mistakes_are_named(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("gates: {min_side: 256}\nseed: 3\n")
    config = load_config(
        path, ["gates.min_flow_speed=0.5", "media.size=[64, 64]", "gates.max_bars=null"]
    )
    assert (config.seed, config.gates.min_side, config.gates.min_flow_speed) == (3, 256, 0.5)
    assert config.media.size == (64, 64) and config.gates.max_bars is None
    for pair, words in (
        ("gates.min_sied=3", "no setting gates.min_sied"),
        ("gates.min_side=big", "gates.min_side cannot be 'big'"),
        ("seed=true", "seed cannot be True"),
        ("media.size=64", "media.size cannot be 64"),
        ("media.audio=1", "media.audio cannot be 1"),
        ("gates=3", "settings of its own"),
        ("seed", "name=value"),
    ):
        with pytest.raises(ValueError, match=words):
            load_config(None, [pair])


def test_the_command_prints_the_funnel_and_writes_everything(videos, tmp_path, capsys):
    from vidgen_lab import cli

    code = cli.main(
        ["prepare", str(videos), str(tmp_path / "out"), "--executor", "serial", "split.val=0.5"]
    )
    printed = capsys.readouterr().out
    assert code == 0
    assert "quality" in printed and "read: the file is not a readable video" in printed
    out = tmp_path / "out"
    for name in ("manifest.jsonl", "funnel.png", "borderline.png", "dataset/train/videos.txt"):
        assert (out / name).stat().st_size > 0
    first = json.loads((out / "manifest.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert {"source", "clip_id", "stage", "status", "reason", "metrics", "span"} <= set(first)
    assert cli.main(["prepare", str(videos), str(out), "gates.nothing=1"]) == 1
    assert cli.main(["prepare", str(tmp_path / "nowhere"), str(out)]) == 1
