"""The judge's training: what it is told to see, that it learns, and how sure it may be."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLCogVideoX

from recipes.judge import (
    IGNORE,
    KINDS,
    calibrate,
    judge_accuracy,
    judge_clip,
    judge_clips_of,
    judge_loss,
    none_of_these,
    save_judge,
    unfinished_clips,
)
from recipes.vae import reconstruct
from tests.recipes.samples import JUDGE, survives
from vidgen_lab.metrics.judge import ToyJudge, load_judge
from vidgen_lab.toyworld import ATTRIBUTES, Scene
from vidgen_lab.training.stream import Draw
from vidgen_lab.video.tensors import to_model_range

SCENE = Scene("cube", "red", "left", "desert", seed=3)


def test_a_killed_training_ends_as_if_it_had_not_been(trained, tmp_path):
    assert survives("judge", trained, tmp_path, 3)


def targets(kind, scene=SCENE, seed=0):
    frames, target = judge_clip(kind, scene, np.random.default_rng(seed))
    assert frames.shape == (16, 64, 96, 3) and frames.dtype == np.uint8
    told = {}
    for name, index in target.items():
        values = (*ATTRIBUTES[name], "none", "anything")
        told[name] = values[index if index != IGNORE else -1]
    return told


def test_a_render_is_what_its_scene_says_as_far_as_it_can_be_seen():
    seen = {"subject": "cube", "colour": "red", "motion": "left", "background": "desert",
            "style": "cartoon"}  # fmt: skip
    assert targets("render") == seen
    vintage = targets("render", replace(SCENE, style="vintage"))
    assert vintage == seen | {"colour": "anything", "style": "vintage"}


def test_impostors_are_none_of_the_subjects():
    for kind in ("wrong_body", "ragged"):
        told = targets(kind)
        assert (told["subject"], told["motion"], told["background"]) == (
            "none", "anything", "desert",
        )  # fmt: skip
    told = targets("empty")
    assert [told[name] for name in ATTRIBUTES] == ["none", "none", "none", "desert", "cartoon"]


def test_two_scenes_in_one_are_neither():
    told = targets("mixture")
    known = {name: getattr(SCENE, name) for name in ATTRIBUTES}
    assert all(told[name] in (known[name], "none") for name in ATTRIBUTES)
    assert list(told.values()).count("none") >= 2


def test_what_smears_too_much_has_no_subject():
    subjects = [targets("smeared", seed=seed)["subject"] for seed in range(12)]
    assert set(subjects) == {"cube", "anything", "none"}
    still = replace(SCENE, motion="spinning")  # where nothing moves, nothing smears
    assert {targets("smeared", still, seed)["subject"] for seed in range(12)} == {"cube"}


def test_clips_of_all_kinds_are_drawn_alike_every_time(trained):
    vae = AutoencoderKLCogVideoX.from_pretrained(trained / "vae" / "vae")
    clips, target = judge_clips_of(JUDGE, 4, 5, vae)
    assert clips.shape == (4, 3, 8, 64, 96) and clips.dtype == torch.uint8
    assert all(len(column) == 4 for column in target.values())
    assert torch.equal(clips, judge_clips_of(JUDGE, 4, 5, vae)[0])
    assert len(JUDGE.shares) == len(KINDS) and sum(JUDGE.shares) == pytest.approx(1)


def test_unfinished_clips_have_places_and_no_subject(trained):
    clips, target = unfinished_clips(trained / "early" / "pipeline", 2, 0)
    assert clips.shape == (2, 3, 8, 64, 96) and clips.dtype == torch.uint8
    assert torch.equal(clips[:, :, 0], clips[:, :, 1]) and clips.float().std() > 1
    assert target["subject"].tolist() == [none_of_these("subject")] * 2
    assert target["motion"].tolist() == [IGNORE] * 2
    assert (target["background"] < none_of_these("background")).all()


def test_noise_on_the_latents_changes_a_round_trip(trained):
    vae = AutoencoderKLCogVideoX.from_pretrained(trained / "vae" / "vae")
    pixels = torch.from_numpy(judge_clip("render", SCENE, np.random.default_rng(0))[0].copy())
    pixels = pixels.permute(3, 0, 1, 2)[None, :, :2]
    clean, again, shaken = (reconstruct(vae, pixels, noise) for noise in (0.0, 0.0, 0.5))
    assert clean.shape == pixels.shape
    assert torch.equal(clean, again) and not torch.equal(clean, shaken)


@pytest.fixture(scope="module")
def taught():
    """A small judge that knows eight clips by heart, and the clips."""
    torch.manual_seed(0)
    only_renders = replace(JUDGE, shares=(1.0, 0, 0, 0, 0, 0, 0))
    clips, target = judge_clips_of(only_renders, 6, 5, vae=None)
    judge = ToyJudge(channels=(8, 8, 16, 16), joint=(16, 16))
    optimizer = torch.optim.AdamW(judge.parameters(), lr=1e-2)
    draw = Draw(0, 0, torch.Generator().manual_seed(0))
    losses = []
    for _ in range(25):
        loss = judge_loss(judge, {"video": clips} | target, draw)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.4 * losses[0]
    return judge.eval(), clips, target


def test_the_judge_survives_saving(taught, tmp_path):
    judge, clips, target = taught
    calibrate(judge, clips, target)
    save_judge(judge, tmp_path)
    again = load_judge(tmp_path)
    assert again.settings == judge.settings
    with torch.no_grad():
        one, other = (j(to_model_range(clips)) for j in (judge, again))
    for name in ATTRIBUTES:
        assert torch.allclose(one[name], other[name], atol=0.1)


class Sure(torch.nn.Module):
    """A judge that gives the first value the confidence that is written in the clip."""

    def __init__(self):
        super().__init__()
        self.temperature = dict.fromkeys(ATTRIBUTES, 1.0)
        self.unsure_below = dict.fromkeys(ATTRIBUTES, 0.0)

    def forward(self, video):
        confidence = (video[:, 0, 0, 0, 0] + 1) / 2
        logits = {}
        for name in ATTRIBUTES:
            rest = none_of_these(name)
            p = torch.cat(
                [confidence[:, None], ((1 - confidence) / rest)[:, None].expand(-1, rest)], 1
            )
            logits[name] = 2 * p.log() / self.temperature[name]  # twice as sure as it may be
        return logits


def test_calibration_finds_how_sure_the_judge_may_be():
    torch.manual_seed(0)
    confidence = torch.rand(4000) * 0.5 + 0.49
    pixels = (confidence * 255).round().to(torch.uint8).view(-1, 1, 1, 1, 1).expand(-1, 3, 1, 1, 1)
    right = torch.rand(4000) < confidence
    target = {name: torch.where(right, 0, 1) for name in ATTRIBUTES}
    judge = Sure()
    calibrate(judge, pixels, target)
    assert judge.temperature["subject"] == pytest.approx(2, abs=0.25)
    sure = judge.unsure_below["subject"]
    assert sure > 0.85
    assert right[confidence > sure].float().mean() >= 0.95


def test_accuracy_counts_what_can_be_seen(trained):
    accuracy = judge_accuracy(trained / "judge" / "judge", count=6)
    assert accuracy.keys() == ATTRIBUTES.keys()
    assert all(0 <= share <= 1 for share in accuracy.values())


def test_an_unknown_answer_is_nobodys_loss(taught):
    judge, clips, target = taught
    draw = Draw(0, 0, torch.Generator().manual_seed(0))
    hidden = {name: torch.full_like(column, IGNORE) for name, column in target.items()}
    assert judge_loss(judge, {"video": clips} | hidden, draw).item() == 0
