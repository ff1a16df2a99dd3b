"""Chapter 4's recorded runs: complete, made by these settings, and repeated by their command."""

import json
from dataclasses import asdict

import nbformat
import numpy as np
import pytest
import torch

from tools import built_here
from vidgen_lab.paths import notebooks_dir
from vidgen_lab.workbook.ch04 import corner, short_runs
from vidgen_lab.workbook.ch04.short_runs import RUNS, recorded
from vidgen_lab.workbook.exercises import exercises

EVERY_RUN = pytest.mark.parametrize("name", RUNS)


# the corner of the world
def test_words_decide_which_clips_are_held_out():
    known, unseen = corner.scenes(), corner.scenes(held_out=True)
    said = [{corner.caption(s) for s in part} for part in (known, unseen)]
    assert len(known) == 36 and len(unseen) == 12 and not said[0] & said[1]
    assert len({tuple(words.flatten().tolist()) for words in corner.worded(known)}) == 18


def test_a_mosaic_keeps_the_place_of_everything():
    clips = corner.filmed(corner.scenes()[:2])
    latents = corner.encode(clips)
    assert latents.shape == (2, 3, 3, 8, 12) and abs(latents.std() - 1) < 0.3
    assert torch.allclose(corner.encode(corner.decode(latents)), latents, atol=1e-5)
    assert torch.allclose(corner.decode(corner.encode(clips, "pixels"), "pixels"), clips, atol=1e-5)


def test_true_clips_show_all_words_and_others_do_not():
    true = [short_runs.as_clip(video) for video in corner.filmed(corner.PROMPTS)]
    assert corner.words_found(true) == 1.0
    assert corner.words_found(true[::-1]) < 0.8


# the records
@EVERY_RUN
def test_a_record_is_whole_and_of_these_settings(name):
    said = json.loads(short_runs.file_of(name, "json").read_text(encoding="utf-8"))
    assert said["run"] == json.loads(json.dumps(asdict(RUNS[name])))
    assert name in said["command"]
    made = recorded(name)
    assert max(made.curve("loss")) == max(made.curve("held_out")) == RUNS[name].steps
    assert len(made.clips) == short_runs.SHOWN and made.clips[0].num_frames == corner.FRAMES
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
    files = list(short_runs.file_of("healthy", "json").parent.iterdir())
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


def test_an_unknown_run_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="healthy"):
        recorded("unheard of")


# the chapter
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


def test_training_data_of_a_leak_holds_the_held_out_clips(tmp_path):
    leaking = short_runs.build_trainer(RUNS["leaked validation"], tmp_path / "a")
    honest = short_runs.build_trainer(RUNS["few clips"], tmp_path / "b")
    held = {clip.numpy().tobytes() for clip in leaking.held_out[0]["latents"]}

    def drawn(trainer):
        batches = (trainer.stream.data(n)["latents"] for n in range(20))
        return {clip.numpy().tobytes() for batch in batches for clip in batch}

    assert held <= drawn(leaking) and not held & drawn(honest)
