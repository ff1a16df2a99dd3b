"""The grammar: what exists, what makes sense, what is held out."""

import numpy as np
import pytest

from vidgen_lab.toyworld import (
    ATTRIBUTES,
    BACKGROUNDS,
    COLOURS,
    Scene,
    is_held_out,
    sample_scene,
)
from vidgen_lab.toyworld.world import (
    LEGAL_MOTIONS,
    MOTIONS,
    RESERVED_STYLES,
    RESERVED_SUBJECTS,
    STYLES,
    SUBJECTS,
    legal_backgrounds,
)


def test_the_world_is_as_large_as_promised():
    sizes = [len(v) for v in (SUBJECTS, COLOURS, MOTIONS, BACKGROUNDS, STYLES)]
    assert all(size >= least for size, least in zip(sizes, (14, 7, 8, 8, 3), strict=True))
    assert set(LEGAL_MOTIONS) == set(SUBJECTS + RESERVED_SUBJECTS)
    assert {m for motions in LEGAL_MOTIONS.values() for m in motions} == set(MOTIONS)
    assert all(legal_backgrounds(subject) for subject in SUBJECTS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subject": "submarine"}, "unknown subject 'submarine'; choose one of ball"),
        ({"colour": "grey"}, "unknown colour"),
        ({"subject": "aurora"}, "a aurora cannot do 'left'; it can do in_place"),
        ({"subject": "car", "background": "ocean"}, "no car in 'ocean'; possible: meadow"),
    ],
)
def test_scenes_outside_the_grammar_are_refused(change, message):
    scene = {"subject": "ball", "colour": "red", "motion": "left", "background": "desert"}
    with pytest.raises(ValueError, match=message):
        Scene(**scene | change)


def test_black_and_white_film_hides_the_colour():
    scene = Scene("ball", "red", "left", "desert", "vintage")
    assert scene.visible == {
        "subject": "ball", "motion": "left", "background": "desert", "style": "vintage",
    }  # fmt: skip
    assert set(Scene("ball", "red", "left", "desert").visible) == set(ATTRIBUTES)


def test_training_scenes_and_held_out_compositions_never_meet():
    rng = np.random.default_rng(0)
    key = ("subject", "colour", "motion")

    def compositions(held_out, count):
        scenes = [sample_scene(rng, held_out) for _ in range(count)]
        return {tuple(getattr(s, name) for name in key) for s in scenes}

    training, unseen = compositions(False, 4000), compositions(True, 600)
    assert not training & unseen
    # Every single value of every attribute is trained on: only combinations are new.
    for position, name in enumerate(key):
        usual = [v for v in ATTRIBUTES[name] if v not in RESERVED_SUBJECTS]
        assert {c[position] for c in training} == set(usual)


def test_the_held_out_set_is_fixed():
    """Shipped models were trained without these: a change of the rule would falsify their cards."""
    everything = [
        Scene(subject, colour, motion, legal_backgrounds(subject)[0])
        for subject in SUBJECTS
        for colour in COLOURS
        for motion in LEGAL_MOTIONS[subject]
    ]
    held_out = [f"{s.colour} {s.subject} {s.motion}" for s in everything if is_held_out(s)]
    assert len(held_out) / len(everything) == pytest.approx(0.1, abs=0.03)
    assert held_out[:3] == HELD_OUT_START


HELD_OUT_START = ["red ball bouncing", "orange ball up", "orange ball down"]


def test_what_is_reserved_comes_only_to_those_who_ask_for_it():
    rng = np.random.default_rng(0)
    usual = [sample_scene(rng, held_out=None) for _ in range(2000)]
    assert not any(scene.reserved for scene in usual)
    every = [sample_scene(rng, held_out=None, reserved=True) for _ in range(2000)]
    assert {scene.subject for scene in every} == set(ATTRIBUTES["subject"])
    assert {scene.style for scene in every} == set(ATTRIBUTES["style"])
    assert 0.1 < sum(scene.reserved for scene in every) / len(every) < 0.35


def test_a_scene_is_reserved_by_its_subject_or_its_style():
    ball, robot = Scene("ball", "red", "left", "desert"), Scene("robot", "red", "left", "desert")
    assert not ball.reserved and robot.reserved
    assert Scene("ball", "red", "left", "desert", "papercut").reserved
    assert len(RESERVED_SUBJECTS) == 2 and len(RESERVED_STYLES) == 1
    assert not set(RESERVED_SUBJECTS) & set(SUBJECTS) and not set(RESERVED_STYLES) & set(STYLES)
