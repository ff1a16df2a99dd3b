"""The check of pixels accepts what the caption says, and nothing else."""

from dataclasses import replace

import pytest

from recipes.pixels import SIZE, check_body, checkable_scenes
from vidgen_lab.toyworld import Scene, render
from vidgen_lab.toyworld.subjects import DRAWINGS

SCENE = Scene("cube", "blue", "left", "desert", seed=3)


def checked(**changes):
    drawing = changes.pop("drawing", None)
    made = render(replace(SCENE, **changes), *SIZE, drawing=drawing)
    return check_body(made.clip, render(SCENE, *SIZE))


def drawn(factor):
    parts = DRAWINGS[SCENE.subject]
    return lambda t: [part._replace(points=part.points * factor) for part in parts(t)]


def test_the_scene_with_other_small_variations_is_right():
    for seed in (3, 4, 5):
        assert checked(seed=seed) == {"colour": True, "size": True, "path": True}


def test_another_colour_is_wrong():
    assert not checked(colour="red")["colour"]


@pytest.mark.parametrize("motion", ["right", "up", "spinning", "orbiting"])
def test_another_motion_is_wrong(motion):
    found = checked(motion=motion)
    assert found["colour"] and not found["path"]


@pytest.mark.parametrize("factor", [0.65, 1.6])
def test_another_size_is_wrong(factor):
    assert checked()["size"] and not checked(drawing=drawn(factor))["size"]


def test_what_grows_must_grow():
    growing = replace(SCENE, motion="growing")
    truth = render(growing, *SIZE)
    assert check_body(truth.clip, truth)["size"]
    assert not check_body(render(replace(SCENE, motion="spinning"), *SIZE).clip, truth)["size"]


def test_only_scenes_are_asked_for_that_can_be_checked():
    truths = checkable_scenes(2)
    assert len({truth.scene for truth in truths}) == 2
    for truth in truths:
        assert truth.scene.style == "cartoon" and not truth.scene.reserved
        assert all(check_body(truth.clip, truth).values())
