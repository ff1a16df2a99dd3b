"""`vidgen-lab video` from the prompt to the file, and what it says when it cannot."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.tiny_models import build_tiny
from vidgen_lab import cli
from vidgen_lab.settings import tiers
from vidgen_lab.video.reader import read_clip

SMALL = ("--tier", "ci", "--steps", "2", "--height", "32", "--width", "32", "--frames", "9")


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return build_tiny(tmp_path_factory.mktemp("cli") / "tiny model")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with a space and a letter beyond ASCII in its name."""
    folder = tmp_path / "vidéo läb"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def video(model, *argv: str) -> int:
    return cli.main(["video", *argv, "--model", str(model), *SMALL])


def test_a_prompt_becomes_a_video_and_its_recipe_repeats_it(model, here, capsys):
    assert video(model, "a red ball", "--seed", "3", "--out", "one.mp4") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "one.mp4" in out
    assert "Denoising: 2/2 steps" in out
    recipe = json.loads((here / "one.json").read_text(encoding="utf-8"))
    assert (recipe["prompt"], recipe["seed"], recipe["num_frames"]) == ("a red ball", 3, 9)
    assert (recipe["fps"], recipe["guidance_scale"]) == (8, 6)  # not the tier's, which are toy's

    assert cli.main(["video", "--recipe", "one.json", "--out", "two.mp4"]) == 0
    one, two = read_clip("one.mp4"), read_clip("two.mp4")
    assert one.frames.shape == (9, 32, 32, 3)
    np.testing.assert_array_equal(one.frames, two.frames)

    other = ["video", "--recipe", "one.json", "--seed", "4", "--tier", "ci", "--out", "three.mp4"]
    assert cli.main(other) == 0
    assert (read_clip("three.mp4").frames != one.frames).any()


def test_a_listed_model_has_its_own_rate_and_guidance(model, here, monkeypatch):
    facts = tiers.ModelFacts(str(model), "float32", fps=16, guidance_scale=5)
    monkeypatch.setattr(tiers, "model_facts", lambda name: facts)
    assert video(model, "a red ball", "--out", "a.mp4") == 0
    assert video(model, "a red ball", "--out", "b.mp4", "--guidance", "2") == 0
    recipes = [json.loads((here / f"{n}.json").read_text("utf-8")) for n in "ab"]
    assert [(r["fps"], r["guidance_scale"]) for r in recipes] == [(16, 5), (16, 2)]


def test_the_file_is_named_after_the_prompt_and_never_overwritten(model, here):
    assert video(model, "A red ball, bouncing!") == 0
    assert video(model, "A red ball, bouncing!") == 0
    names = sorted(p.name for p in here.glob("*.mp4"))
    assert names == ["a-red-ball-bouncing-2.mp4", "a-red-ball-bouncing.mp4"]


def test_files_of_the_users_own_are_refused_before_the_work(model, here, capsys):
    (here / "data.json").write_text('{"mine": 1}')
    (here / "holiday.mp4").write_bytes(b"mine")
    for name in ("data.mp4", "holiday.mp4"):
        assert video(model, "a red ball", "--out", name) == 1
        out, err = capsys.readouterr()
        assert "Denoising" not in out
        assert err.startswith("error: ") and err.count("\n") == 1
    assert (here / "data.json").read_text() == '{"mine": 1}'
    assert (here / "holiday.mp4").read_bytes() == b"mine"
    assert len(list(here.iterdir())) == 2


def test_two_at_once_write_two_clips(model, here):
    argv = [sys.executable, "-m", "vidgen_lab", "video", "a red ball", "--model", str(model)]
    both = [subprocess.Popen([*argv, *SMALL, "--seed", seed], cwd=here) for seed in "12"]
    assert [one.wait() for one in both] == [0, 0]
    recipes = [json.loads(p.read_text()) for p in sorted(here.glob("*.json"))]
    assert sorted(recipe["seed"] for recipe in recipes) == [1, 2]
    assert len(list(here.iterdir())) == 4


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("a ball", "--frames", "47"), r"41 or 49"),
        (("a ball", "--height", "481"), r"480 or 496"),
        ((" ".join(["ball"] * 1000),), r"shorten"),
        (("  ",), r"prompt is empty"),
        (("a ball", "--model", "no/such/folder"), r"no model folder"),
        (("a ball", "--recipe", "nothing.json"), r"nothing\.json"),
        (("a ball", "--out", "file/a.mp4"), r"a\.mp4"),
        (("a ball", "--tier", "h900"), r"unknown tier 'h900'; known: auto, ci, tiny"),
    ],
    ids=lambda value: value[0][:10] + "".join(value[1:3]) if isinstance(value, tuple) else "",
)
def test_each_mistake_is_one_clear_line_and_leaves_nothing(model, here, capsys, argv, says):
    (here / "file").touch()
    assert cli.main(["video", "--model", str(model), *SMALL, *argv]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert re.search(says, err), err
    assert [p.name for p in here.iterdir()] == ["file"]


def test_a_truncated_weight_file_is_named(model, here, capsys, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    weights = next((broken / "transformer").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    assert video(broken, "a ball") == 1
    assert weights.name in capsys.readouterr().err
    assert list(here.iterdir()) == []


def test_a_full_disk_is_found_before_the_work(model, here, capsys, monkeypatch):
    from vidgen_lab.generation import recipe

    monkeypatch.setattr(recipe, "free_disk_gib", lambda folder: 0.0)
    assert video(model, "a ball") == 1
    assert "No space left on device" in capsys.readouterr().err
    assert list(here.iterdir()) == []


def test_evaluate_measures_a_file(here, capsys):
    from vidgen_lab.toyworld import Scene, render
    from vidgen_lab.video.writer import write_clip

    scene = Scene("ball", "red", "left", "desert", "cartoon", 1)
    write_clip(render(scene).clip, "ball.mp4")
    assert cli.main(["evaluate", "ball.mp4", "--json"]) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert numbers["num_frames"] == 17
    assert cli.main(["evaluate", "ball.mp4"]) == 0
    assert f"{numbers['consistency']:.3f}" in capsys.readouterr().out
    assert cli.main(["evaluate", "none.mp4"]) == 1


def test_evaluate_holds_a_file_against_a_prompt_where_that_can_be_measured(here, capsys):
    from vidgen_lab.toyworld import Scene, render
    from vidgen_lab.video.writer import write_clip

    write_clip(render(Scene("ball", "red", "left", "desert", "cartoon", 1)).clip, "ball.mp4")

    def adherence(prompt: str) -> dict:
        assert cli.main(["evaluate", "ball.mp4", "--prompt", prompt, "--json"]) == 0
        return json.loads(capsys.readouterr().out)["adherence"]

    right, wrong = adherence("a red ball in a desert"), adherence("a blue ball in a desert")
    assert right["score"] > 0.9 > wrong["score"]
    assert wrong["seen"]["colour"] == "red"
    for prompt in ("a lawyer reading a newspaper", ""):
        assert adherence(prompt)["measurable"] is False and adherence(prompt)["score"] is None
    assert cli.main(["evaluate", "ball.mp4", "--prompt", "a lawyer reading a newspaper"]) == 0
    assert capsys.readouterr().out.startswith("Prompt: not measurable")


def test_evaluate_leads_with_the_prompt_and_keeps_the_rest_behind_all(here, capsys):
    from vidgen_lab.toyworld import Scene, render
    from vidgen_lab.video.writer import write_clip

    write_clip(render(Scene("ball", "red", "left", "desert", "cartoon", 1)).clip, "ball.mp4")
    argv = ["evaluate", "ball.mp4", "--prompt", "two red balls on a skatebord, not blue"]
    assert cli.main(argv) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["Prompt", "Not judged", "Ignored"]
    assert "skatebord" in lines[2]
    assert cli.main([*argv, "--all"]) == 0
    assert capsys.readouterr().out.splitlines()[:3] == lines


def test_words_the_embedded_model_never_saw_are_named(here, capsys):
    argv = ["video", "a red bal on a skatebord", "--tier", "ci", "--steps", "1", "--frames", "8"]
    cli.main(argv)  # 8 frames are too few for one model and right for another
    out = capsys.readouterr().out
    assert "Ignored: bal (ball?), skatebord." in out
    assert cli.main(["words"]) == 0
    shown = capsys.readouterr().out
    assert "golden retriever" in shown and "toadstool  (kept for chapter 5)" in shown


def test_subjects_kept_for_chapter_5_are_named_before_the_wait(here, capsys):
    argv = ["video", "a red robot, paper collage", "--tier", "ci", "--steps", "1", "--frames", "8"]
    cli.main(argv)
    assert (
        "Kept for chapter 5: robot, papercut. The model never saw one." in capsys.readouterr().out
    )


def test_a_lora_file_changes_the_clip_and_stands_in_its_recipe(model, here, capsys):
    from tests.finetuning.trained import trained_transformer
    from vidgen_lab.finetuning.export import save_lora

    file = save_lora(trained_transformer("2b", rank=4), here / "ink.safetensors").path
    again = ("a red ball", "--seed", "3")
    assert video(model, *again, "--out", "base.mp4") == 0
    assert video(model, *again, "--lora", str(file), "--lora-scale", "0", "--out", "off.mp4") == 0
    assert video(model, *again, "--lora", file.name, "--lora-scale", "4", "--out", "on.mp4") == 0
    base, off, on = (read_clip(f"{name}.mp4").frames for name in ("base", "off", "on"))
    np.testing.assert_array_equal(off, base)
    assert (on != base).any()
    recipe = json.loads((here / "on.json").read_text(encoding="utf-8"))
    assert recipe["lora"][0]["file"] == file.name and recipe["lora"][0]["scale"] == 4
    assert cli.main(["video", "--recipe", "on.json", "--out", "again.mp4"]) == 0
    np.testing.assert_array_equal(read_clip("again.mp4").frames, on)
    away = here / "elsewhere"
    away.mkdir()
    with pytest.MonkeyPatch.context() as patch:  # a recipe does not depend on where one works
        patch.chdir(away)
        assert cli.main(["video", "--recipe", "../on.json", "--lora-scale", "0"]) == 0
    (written,) = away.glob("*.mp4")
    np.testing.assert_array_equal(read_clip(written).frames, base)
    capsys.readouterr()
    assert video(model, *again, "--lora-scale", "2", "--out", "no.mp4") == 2
    assert "give --lora-scale once for every LoRA file" in capsys.readouterr().err


def test_a_model_of_another_size_than_the_tiers_needs_no_sizes(model, here):
    asked = ["video", "a red ball", "--tier", "ci", "--steps", "1", "--model", str(model)]
    assert cli.main([*asked, "--out", "own.mp4"]) == 0
    assert read_clip("own.mp4").frames.shape == (9, 32, 32, 3)
