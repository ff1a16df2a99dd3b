"""Adherence counts what a prompt names, and refuses to invent a number for what it cannot read."""

import numpy as np
import pytest
import torch

from vidgen_lab.metrics import judge as judging
from vidgen_lab.metrics.adherence import adherence_of, prompt_adherence
from vidgen_lab.toyworld import ATTRIBUTES, Scene, render
from vidgen_lab.video.clip import Clip


class SureJudge(judging.ToyJudge):
    """Always sees a red ball moving left in a desert, a cartoon; 90 % sure."""

    SEES = dict(zip(ATTRIBUTES, ("ball", "red", "left", "desert", "cartoon"), strict=True))

    def forward(self, video):
        logits = {}
        for name, values in self.answers.items():
            chance = torch.full((len(video), len(values)), 0.1 / (len(values) - 1))
            chance[:, values.index(self.SEES[name])] = 0.9
            logits[name] = chance.log()
        return logits


@pytest.fixture
def clip():
    return render(Scene("ball", "red", "left", "desert")).clip


def test_only_what_is_named_counts(clip):
    found = prompt_adherence(clip, "a red ball", SureJudge())
    assert found.named == {"subject": "ball", "colour": "red"}
    assert found.all_right is True and found.score == pytest.approx(0.9)
    found = prompt_adherence(clip, "a blue ball moving left", SureJudge())
    assert found.right == {"subject": True, "colour": False, "motion": True}
    assert found.all_right is False and 0.5 < found.score < 0.7
    assert str(found) == "subject ball ✓ · colour blue ✗ (red) · motion left ✓"


def test_a_prompt_from_another_world_is_not_measurable(clip):
    found = prompt_adherence(clip, "a submarine exploding", SureJudge())
    assert not found.measurable and found.score is None and found.all_right is None
    assert "not measurable" in str(found)


def test_many_clips_keep_their_order(clip):
    prompts = ["a red ball", "a submarine", "a green ball"]
    found = adherence_of([clip] * 3, prompts, SureJudge())
    assert [f.all_right for f in found] == [True, None, False]
    assert [f.prompt for f in found] == prompts
    with pytest.raises(ValueError):
        adherence_of([clip], prompts, SureJudge())


def test_any_clip_fits_the_judge(clip):
    other = Clip(np.zeros((33, 480, 720, 3), np.uint8), fps=16)
    video = judging.judge_input([clip, other], 9)
    assert video.shape == (2, 3, 9, 64, 96)
    assert video[1].unique().tolist() == [-1.0]
    assert torch.equal(
        video[0, :, 0], torch.from_numpy(clip.frames[0]).permute(2, 0, 1) / 127.5 - 1
    )
    assert torch.equal(
        video[0, :, -1], torch.from_numpy(clip.frames[-1]).permute(2, 0, 1) / 127.5 - 1
    )
