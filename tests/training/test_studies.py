"""The script of chapter 4's short trainings: its records are whole, and repeated by it."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import short_runs
from benchmarks.short_runs import PROMPTS, RUNS, encode
from tests.workbook.test_built import built

EVERY_RUN = pytest.mark.parametrize("name", RUNS)
recorded = built(4, "n035a", rerun=False, json=json, Path=Path).recorded


# the corner of the world
def test_words_decide_which_clips_are_held_out():
    known, unseen = short_runs.scenes(), short_runs.scenes(held_out=True)
    said = [{short_runs.words_of(s) for s in part} for part in (known, unseen)]
    assert len(known) == 36 and len(unseen) == 12 and not said[0] & said[1]
    assert len({tuple(words.flatten().tolist()) for words in short_runs.worded(known)}) == 18


def test_a_mosaic_keeps_the_place_of_everything():
    clips = short_runs.filmed(short_runs.scenes()[:2])
    latents = encode(clips)
    assert latents.shape == (2, 3, 3, 8, 12) and abs(latents.std() - 1) < 0.3
    assert torch.allclose(encode(short_runs.decode(latents)), latents, atol=1e-5)
    assert torch.allclose(short_runs.decode(encode(clips, 1), 1), clips, atol=1e-5)


def test_true_clips_show_all_words_and_others_do_not():
    true = short_runs.filmed(PROMPTS)
    assert short_runs.words_found(true) == 1.0
    assert short_runs.words_found(true.flip(0)) < 0.8


def test_the_chapter_builds_the_same_corner():
    from vidgen_lab.toyworld import Scene, render

    theirs = built(4, "n116b", Scene=Scene, render=render)
    assert theirs.prompts == PROMPTS[: short_runs.SHOWN]
    for held_out in (False, True):
        some = theirs.scenes(held_out)
        assert some == short_runs.scenes(held_out)
        clips, words = short_runs.corner(held_out=held_out)
        latents = theirs.mosaic(theirs.filmed(some))
        assert torch.equal(latents, clips) and torch.equal(theirs.worded(some), words)
        assert torch.equal(theirs.as_film(latents), short_runs.decode(clips))


# the records
@EVERY_RUN
def test_a_record_is_whole_and_of_these_settings(name):
    made = recorded(name)
    assert made.run == json.loads(json.dumps(asdict(RUNS[name])))
    assert max(made.curve("loss")) == max(made.curve("held_out")) == RUNS[name].steps
    assert len(made.clips) == short_runs.SHOWN
    assert made.clips[0].frames.shape == (short_runs.FRAMES, short_runs.HEIGHT, short_runs.WIDTH, 3)
    assert set(made.errors) == {f"{level:g}" for level in short_runs.LEVELS}


@EVERY_RUN
def test_the_first_steps_of_a_record_are_repeated(name, tmp_path, capsys):
    history = short_runs.build_trainer(RUNS[name], tmp_path, until=10).fit().history
    before = recorded(name).history
    for now, then in zip(history[:2], before[:2], strict=True):  # step 0, and the first ten
        assert now["step"] == then["step"]
        for number in set(then) & {"loss", "held_out", "seen", "grad_norm"}:
            assert now[number] == pytest.approx(then[number], rel=0.03), number


def test_records_are_small():
    files = list(short_runs.RECORDS.iterdir())
    assert {f.suffix for f in files} == {".json", ".png"}
    assert sum(f.stat().st_size for f in files) < 1_500_000


def burnt_out(made):
    """The share of values at one of the ends."""
    frames = np.stack([clip.frames for clip in made.clips])
    return np.isin(frames, (0, 255)).mean()


def test_faults_show_where_the_chapter_says():
    healthy = recorded("healthy")

    def last(name, curve):
        return list(recorded(name).curve(curve).values())[-1]

    assert last("rate too high", "loss") > 2 * last("healthy", "loss")
    assert last("no zero_grad", "grad_norm") > 10 * last("healthy", "grad_norm")
    assert abs(recorded("unscaled latents").curve("held_out")[0] - 1) > 1
    assert recorded("shuffled captions").adherence < healthy.adherence - 0.15
    assert last("EMA too slow", "held_out") > 3 * last("EMA too slow", "loss")
    burnt = {n: burnt_out(recorded(n)) for n in ("healthy", "timestep off", "ninth")}
    assert burnt["healthy"] < 0.1 < min(burnt["timestep off"], burnt["ninth"])
    gap = {n: last(n, "held_out") - last(n, "seen") for n in ("few clips", "leaked validation")}
    assert gap["leaked validation"] < 0.3 * gap["few clips"]


def test_a_run_is_recorded_where_it_shall_be_and_read_back(tmp_path, monkeypatch, capsys):
    brief = replace(RUNS["healthy"], steps=10)
    monkeypatch.setattr(short_runs, "RUNS", {"no name": brief})
    short_runs.main(["--folder", str(tmp_path / "a")])
    chapter = built(4, "n035a", rerun=False, json=json, Path=Path)
    chapter.recorded.__globals__["recordings"] = tmp_path / "a"
    made = chapter.recorded("no name")
    assert made.run["steps"] == 10 and list(made.curve("loss")) == [10] and len(made.clips) == 3
    assert 0 <= made.adherence <= 1 and made.seconds > 0
    monkeypatch.setattr(short_runs, "record", lambda *_: pytest.fail("it is there already"))
    short_runs.main(["--folder", str(tmp_path / "a")])


def test_an_unknown_run_is_refused_with_those_there_are(capsys):
    with pytest.raises(SystemExit):
        short_runs.main(["unheard of"])
    assert "healthy" in capsys.readouterr().err


def test_training_data_of_a_leak_holds_the_held_out_clips(tmp_path):
    leaking = short_runs.build_trainer(RUNS["leaked validation"], tmp_path / "a")
    honest = short_runs.build_trainer(RUNS["few clips"], tmp_path / "b")
    held = {clip.numpy().tobytes() for clip in leaking.held_out[0]["latents"]}

    def drawn(trainer):
        batches = (trainer.stream.data(n)["latents"] for n in range(20))
        return {clip.numpy().tobytes() for batch in batches for clip in batch}

    assert held <= drawn(leaking) and not held & drawn(honest)
