"""Adherence counts what a prompt names, and refuses to invent a number for what it cannot read."""

import json

import numpy as np
import pytest
import torch

from recipes.judge import save_judge
from vidgen_lab.metrics import judge as judging
from vidgen_lab.metrics.adherence import adherence_of, prompt_adherence
from vidgen_lab.toyworld import ATTRIBUTES, Scene, render, sample_scene
from vidgen_lab.video.clip import Clip
from vidgen_lab.video.reader import VideoReader, read_clip
from vidgen_lab.video.writer import write_clip


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


@pytest.mark.parametrize("size", [(64, 64), (96, 48)])
def test_a_body_is_the_same_body_in_another_shape_of_frame(size):
    rng = np.random.default_rng(5)
    scenes = [sample_scene(rng, held_out=None) for _ in range(40)]
    tables = judging.judge_clips([render(s, *size, 8).clip for s in scenes], judging.load_judge())
    seen = [max(table["subject"], key=table["subject"].get) for table in tables]
    right = [scene.subject == name for scene, name in zip(scenes, seen, strict=True)]
    assert np.mean(right) > 0.8  # stretched to 3:2, square frames left 0.6


class Careful(judging.ToyJudge):
    """90 % sure of a red ball, 40 % of the motion, and sees no background that it knows."""

    def __init__(self):
        super().__init__(unsure_below={"motion": 0.5, "subject": 0.5})


@pytest.fixture
def careful(monkeypatch):
    table = {name: {value: 0.0 for value in values} for name, values in ATTRIBUTES.items()}
    table["subject"]["ball"] = table["colour"]["red"] = table["style"]["cartoon"] = 0.9
    table["motion"] |= {"left": 0.4, "up": 0.3}
    table["background"] |= {"desert": 0.2, judging.NONE: 0.8}
    monkeypatch.setattr(
        "vidgen_lab.metrics.adherence.judge_clips", lambda clips, judge: [table] * len(clips)
    )
    return Careful()


def test_none_of_these_is_an_answer_and_a_doubtful_one_does_not_count(clip, careful):
    found = prompt_adherence(clip, "a red ball moving left in a desert", careful)
    assert found.seen["background"] == "none of these"
    assert found.scores["background"] == 0.2 and found.confidence["background"] == 0.8
    assert found.unsure == ["motion"]
    assert found.right == {"subject": True, "colour": True, "motion": False, "background": False}
    assert str(found) == (
        "subject ball ✓ · colour red ✓ · motion left ? (unsure: left 40%) · "
        "background desert ✗ (none of these)"
    )
    json.dumps(found.to_dict())


def test_what_was_not_judged_is_told(clip):
    found = prompt_adherence(clip, "two red balls and no cat on a skatebord, a ring", SureJudge())
    assert found.describe().splitlines() == [
        "Prompt: subject ball ✓ · colour red ✓",
        "Not judged: negation (no cat on a skatebord); number (two); second subject (ring)",
        "Ignored: cat, skatebord (vidgen-lab words lists what is known)",
    ]


def test_of_a_file_only_the_judged_frames_are_read(clip, tmp_path, monkeypatch):
    path = write_clip(clip, tmp_path / "clip.mp4")
    torch.manual_seed(0)
    patient = judging.ToyJudge(frames=16).eval()  # looks at more frames than the shipped one
    whole = [prompt_adherence(read_clip(path), "a red ball", judge) for judge in (None, patient)]
    monkeypatch.setattr(VideoReader, "__iter__", lambda self: pytest.fail("read all"))
    found = [prompt_adherence(path, "a red ball", judge) for judge in (None, patient)]
    assert found == whole


def test_thresholds_come_from_the_judges_config(clip, tmp_path):
    save_judge(judging.ToyJudge(unsure_below={"colour": 1.1}), tmp_path)
    assert prompt_adherence(clip, "a red ball", judging.load_judge(tmp_path)).unsure == ["colour"]
