"""Shipping measures what it copied, and writes cards that state it."""

import json
from functools import partial
from shutil import copytree

import numpy as np
import pytest

from recipes import measure
from recipes.make import SHIPPED
from recipes.scenes import render_clips, sample_scenes
from vidgen_lab.toyworld import ATTRIBUTES


@pytest.fixture(scope="module")
def models(trained, tmp_path_factory):
    """What `ship` and `ship-latte` make of the smallest models, with few prompts."""
    models = tmp_path_factory.mktemp("models")
    fresh = render_clips(sample_scenes(4, 9, held_out=None, reserved=True), 96, 64, 16)
    small = {
        "judge_accuracy": partial(measure.judge_accuracy, count=6),
        "measure_latte": partial(measure.measure_latte, count=4),
        "fresh_clips": lambda count, frames=16: fresh[:, :, :frames],
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, function in small.items():
            patch.setattr(measure, name, function)
        patch.setattr(measure, "sample_clips", partial(measure.sample_clips, num_inference_steps=2))
        patch.setattr(measure, "LATTE_STEPS", 2)
        patch.setattr(measure, "REPEATS", 2)
        for part, folders in SHIPPED.items():
            for source, target in folders.items():
                copytree(trained / source, models / target)
            measure.write_cards(part, trained, models, prompts=4)
    return models


def test_the_report_is_what_the_card_says(models):
    report = json.loads((models / "toy-cogvideox" / "report.json").read_text())
    card = (models / "toy-cogvideox" / "README.md").read_text()
    judge = (models / "toy-judge" / "README.md").read_text()
    for name in ATTRIBUTES:
        assert f"| {name} | {report['adherence'][name]:.1%} |" in card
        assert f"| {name} | {report['judge_accuracy'][name]:.1%} |" in judge
    for name in ("mean", "worst", "noise_0.3", "moving", "still"):
        assert f"{report['vae_psnr_db'][name]:.1f} dB" in card
    assert "4 held-out prompts" in card
    latte = json.loads((models / "toy-latte" / "report.json").read_text())
    card = (models / "toy-latte" / "README.md").read_text()
    assert f"| colour | {latte['adherence']['colour']:.1%} |" in card and "4 prompts" in card
    assert f"{latte['vae_psnr_db']['mean']:.1f} dB" in card


def test_nothing_of_a_template_is_left_open_and_nothing_private_is_told(models):
    for card in models.glob("*/README.md"):
        text = card.read_text()
        assert "{" not in text and "nan" not in text
        assert "/tmp" not in text and "/root" not in text


def test_recipes_logs_and_sheets_lie_beside_the_weights(models):
    kept = {f.name for f in (models / "toy-cogvideox" / "recipe").iterdir()}
    runs = ("vae_0", "vae_1", "text", "transformer")
    assert kept == {
        "vae.yaml", "text.yaml", "transformer.yaml",
        *(f"{run}_{end}" for run in runs for end in ("log.jsonl", "run.json")),
    }  # fmt: skip
    for name in ("held_out_prompts.png", "vae_worst_round_trips.png", "adherence.csv"):
        assert (models / "toy-cogvideox" / name).stat().st_size > 500
    assert (models / "toy-latte" / "held_out_prompts.png").exists()
    assert not list(models.rglob("checkpoints"))


def test_a_sheet_has_two_columns():
    scenes = sample_scenes(3, 0)
    clips = [
        measure.Clip(c.permute(1, 2, 3, 0).numpy(), 8) for c in render_clips(scenes, 96, 64, 5)
    ]
    sheet = measure.sheet_of(["a", "b", "c"], clips, 3, num=2)
    assert sheet.dtype == np.uint8 and sheet.shape[2] == 3
    assert 2 * (2 * 96) < sheet.shape[1] < 3 * (2 * 96) and sheet.shape[0] > 2 * 64


def test_a_card_tells_by_which_commits_the_weights_were_trained(models, tmp_path):
    recipe = copytree(models / "toy-latte" / "recipe", tmp_path / "toy-latte" / "recipe")
    for file, code in zip(
        recipe.glob("*_run.json"), ("abc1234", "abc1234, def5678+", ""), strict=True
    ):
        file.write_text(json.dumps({"code": code}))
    report = json.loads((models / "toy-latte" / "report.json").read_text())
    measure.fill(tmp_path / "toy-latte", report)
    card = (tmp_path / "toy-latte" / "README.md").read_text()
    assert "abc1234, def5678+, unknown" in card
