"""What the judge must not accept: none of the world's subjects, and where they should be."""

import numpy as np
import pytest

from recipes.impostors import empty_stage, ragged, trails, wrong_body
from vidgen_lab.toyworld import Scene, render
from vidgen_lab.toyworld.subjects import DRAWINGS

SIZE = (96, 64, 8)


def scene_of(subject="cube", motion="left", **rest):
    return Scene(subject, "red", motion, "desert", seed=3, **rest)


@pytest.mark.parametrize("subject", ["ball", "ring", "star", "fish", "robot"])
def test_a_wrong_body_is_there_and_is_not_the_subject(subject):
    scene = scene_of(subject)
    true, shapes = render(scene, *SIZE), set()
    for seed in range(6):
        drawing = wrong_body(scene, np.random.default_rng(seed))
        made = render(scene, *SIZE, drawing=drawing)
        assert made.masks.any((1, 2)).all()
        difference = (made.masks ^ true.masks)[3].sum() / true.masks[3].sum()
        painted = np.abs(made.clip.frames[3].astype(int) - true.clip.frames[3])[true.masks[3]]
        assert difference > 0.1 or painted.mean() > 10
        again = render(scene, *SIZE, drawing=wrong_body(scene, np.random.default_rng(seed)))
        assert np.array_equal(made.clip.frames, again.clip.frames)
        shapes.add(made.masks.tobytes())
    assert len(shapes) > 3


def test_ragged_clips_differ_around_the_subject_alone():
    made = render(scene_of(), *SIZE)
    clip = ragged(made.clip.frames, made.masks, np.random.default_rng(0))
    changed = (clip != made.clip.frames).any(-1)
    assert changed[made.masks].mean() > 0.1
    rows, columns = np.nonzero(made.masks[3])
    away = np.ones(SIZE[1::-1], bool)
    away[rows.min() - 3 : rows.max() + 4, columns.min() - 3 : columns.max() + 4] = False
    assert not changed[3][away].any()


def test_trails_begin_with_the_second_frame():
    clip = np.zeros((3, 2, 2, 3), np.uint8)
    clip[0] = 200
    assert trails(clip, 0.5)[:, 0, 0, 0].tolist() == [200, 100, 50]


def test_an_empty_stage_shows_everything_but_the_subject():
    scene = scene_of()
    made, stage = render(scene, *SIZE), empty_stage(scene, SIZE)
    changed = (stage != made.clip.frames).any(-1)
    assert changed[made.masks].all()
    for mask, difference in zip(made.masks, changed, strict=True):
        rows, columns = np.nonzero(mask)
        difference[rows.min() - 4 : rows.max() + 5, columns.min() - 4 : columns.max() + 5] = False
    assert not changed.any()
    assert set(DRAWINGS) >= {"robot", "mushroom"}
