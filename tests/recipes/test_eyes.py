"""Viewings and the judge are compared as the notes say, from files that anybody can look at."""

import cv2
import numpy as np
import pandas as pd
import pytest

from recipes import eyes
from recipes.scenes import sample_scenes
from vidgen_lab.toyworld import ATTRIBUTES, render


@pytest.fixture(scope="module")
def clips():
    return [render(scene, 96, 64, 16).clip for scene in sample_scenes(3, 0)]


def test_clips_come_back_from_their_picture(clips, tmp_path):
    picture = eyes.pack(clips)
    assert picture.shape == (3 * 64, 8 * 96, 3)
    for clip, again in zip(clips, eyes.unpack(picture), strict=True):
        chosen = np.linspace(0, 15, 8).round().astype(int)
        assert np.array_equal(again.frames, clip.frames[chosen])
    cv2.imwrite(str(tmp_path / "eyes.jpg"), picture[..., ::-1])
    pd.DataFrame({"subject_1": ["ball", "none", "cube"]}).to_csv(tmp_path / "eyes.csv")
    labels, again = eyes.load_eyes(tmp_path)
    assert labels.subject_1.tolist() == ["ball", "none", "cube"]
    assert np.abs(eyes.pack(again).astype(int) - picture).mean() < 4  # a JPEG


def test_the_judge_is_held_against_the_majority(monkeypatch):
    answers = {
        "1": ["ball", "ball", "cube", "none"],
        "2": ["ball", "cube", "cube", "none"],
        "3": ["ball", "ball", "star", "none"],
    }
    labels = pd.DataFrame({f"{n}_{v}": a for n in ATTRIBUTES for v, a in answers.items()})
    assert eyes.majority(labels, "subject").tolist() == ["ball", "ball", "cube", "none"]
    labels.loc[1, ["colour_1", "colour_2", "colour_3"]] = ["ball", "cube", "star"]
    labels.loc[3, ["style_1", "style_2", "style_3"]] = "hidden"
    assert eyes.majority(labels, "colour")[1] == "unclear"
    said = ["ball", "cube", "cube", eyes.NONE]
    tables = [{name: {word: 0.9, "other": 0.1} for name in ATTRIBUTES} for word in said]
    monkeypatch.setattr(eyes, "judge_clips", lambda clips, judge: tables)
    table = eyes.agreement(labels, [None] * 4, judge=None)
    assert table.loc["subject", "judge agrees"] == 0.75
    assert table.loc["colour", "judge agrees"] == 1 and table.loc["colour", "clips"] == 3
    assert table.loc["style", "judge agrees"] == pytest.approx(2 / 3)
    # by hand, for 1 and 2, 1 and 3, 2 and 3: (seen - expected by chance) / (1 - expected)
    kappas = [(12 - 5) / (16 - 5), (12 - 5) / (16 - 5), (8 - 3) / (16 - 3)]
    assert table.loc["subject", "kappa"] == pytest.approx(np.mean(kappas))
