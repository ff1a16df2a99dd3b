"""Pixels and ground truth agree."""

import cv2
import numpy as np
import pytest

from vidgen_lab.toyworld import ATTRIBUTES, COLOURS, Scene, render, sample_scene
from vidgen_lab.toyworld.renderer import PALETTE, boxes_of
from vidgen_lab.toyworld.subjects import DRAWINGS, Part, ellipse
from vidgen_lab.toyworld.world import LEGAL_MOTIONS, legal_backgrounds


def scene_of(subject="ball", colour="red", motion="left", background="desert", **rest):
    return Scene(subject, colour, motion, background, **rest)


def test_same_scene_same_bytes_other_seed_other_picture():
    scene = sample_scene(np.random.default_rng(0))
    first, again = render(scene), render(scene)
    assert np.array_equal(first.clip.frames, again.clip.frames)
    other = render(scene_of(seed=1)).clip.frames
    assert not np.array_equal(render(scene_of(seed=2)).clip.frames, other)


@pytest.mark.parametrize("subject", ATTRIBUTES["subject"])
@pytest.mark.parametrize("style", ATTRIBUTES["style"])
def test_every_subject_is_drawn_where_its_mask_says(subject, style):
    motion, background = LEGAL_MOTIONS[subject][0], legal_backgrounds(subject)[-1]
    made = render(Scene(subject, "purple", motion, background, style, seed=5), 144, 96, 5)
    assert made.clip.frames.shape == (5, 96, 144, 3)
    assert made.masks.shape == (5, 96, 144)
    for frame, mask, box in zip(made.clip.frames, made.masks, made.boxes, strict=True):
        assert 0.008 < mask.mean() < 0.5
        x0, y0, x1, y1 = box
        assert mask[y0:y1, x0:x1].sum() == mask.sum()
        if style == "vintage":
            assert np.ptp(frame.astype(int), axis=-1).max() == 0


@pytest.mark.parametrize("colour", COLOURS)
def test_bodies_have_exactly_their_colour_and_path(colour):
    made = render(scene_of("cube", colour, "right", "city", seed=7), 192, 128)
    # A cube's front face is the pure palette colour.
    x, y = made.centers[8]
    face = made.clip.frames[8, round(y) + 8, round(x) - 14]
    assert np.abs(face.astype(int) - PALETTE[colour]).max() <= 2
    middle = (made.boxes[:, :2] + made.boxes[:, 2:]) / 2
    inside = slice(3, -3)  # at the ends the frame's border cuts the cube
    assert np.abs(middle - made.centers)[inside].max() < 2
    steps = np.diff(made.centers[:, 0])
    assert steps.min() > 0 and np.allclose(steps, steps[0])


def test_each_motion_moves_as_its_name_says():
    def track(motion):
        made = render(scene_of(motion=motion, seed=3))
        return made.centers[:, 0], made.centers[:, 1], made.masks.sum((1, 2))

    assert np.all(np.diff(track("left")[0]) < 0)
    assert np.all(np.diff(track("up")[1]) < 0)
    assert np.all(np.diff(track("down")[1]) > 0)
    assert np.all(np.diff(track("growing")[2]) > 0)
    y = track("bouncing")[1]
    turns = np.diff(np.sign(np.diff(y)))
    assert (turns != 0).sum() == 2  # up, down, up
    x, y, _ = track("orbiting")
    assert np.ptp(x) > 30 and np.ptp(y) > 20
    across, down = (x - x[0]) / (0.28 * 64) + 1, (y - 32) / (0.2 * 64)
    assert np.allclose(np.hypot(across, down), 1)  # on an ellipse
    x, y, area = track("spinning")
    assert np.ptp(x) == np.ptp(y) == 0
    frames = render(scene_of(motion="spinning", seed=3)).clip.frames.astype(int)
    assert np.abs(frames[0] - frames[4]).mean() > 1  # the beach ball's wedges turn


def test_a_rocket_points_where_it_flies():
    made = render(scene_of("rocket", motion="left", seed=1), 192, 128)
    x0, y0, x1, y1 = made.boxes[8]
    assert x1 - x0 > y1 - y0
    made = render(scene_of("rocket", motion="up", seed=1), 192, 128)
    x0, y0, x1, y1 = made.boxes[8]
    assert y1 - y0 > x1 - x0


def test_supersampling_makes_soft_edges():
    """Anti-aliased edges hold colours between the body's and the background's."""
    frame = render(scene_of("heart", "red", "spinning", "snow", seed=2), 192, 128).clip.frames[0]
    assert len(np.unique(frame.reshape(-1, 3), axis=0)) > 300


def test_another_drawing_takes_the_place_and_the_path_of_the_subject():
    scene = scene_of("cube", "blue", seed=4)
    as_ever = render(scene, drawing=DRAWINGS["cube"])
    plain = render(scene)
    assert np.array_equal(as_ever.clip.frames, plain.clip.frames)
    blob = [Part(ellipse(0, 0, 0.4), "main")]
    made = render(scene, drawing=lambda t: blob)
    assert np.array_equal(made.centers, plain.centers)
    assert 0 < made.masks[8].sum() < plain.masks[8].sum()
    x, y = made.centers[8].round().astype(int)
    assert np.abs(made.clip.frames[8, y, x].astype(int) - PALETTE["blue"]).max() <= 2
    nothing = render(scene, drawing=lambda t: [])
    assert not nothing.masks.any() and not nothing.boxes.any()


def test_a_paper_cut_out_has_a_white_edge_and_a_shadow_on_bleached_ground():
    scene = scene_of("heart", "red", "spinning", "forest", seed=2)
    cartoon, paper = (
        render(scene_of("heart", "red", "spinning", "forest", seed=2, style=style), 192, 128)
        for style in ("cartoon", "papercut")
    )
    assert np.array_equal(cartoon.masks, paper.masks)
    assert scene.subject == paper.scene.subject
    mask = paper.masks[0]
    edge = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) & ~mask
    light = [made.clip.frames[0][edge].mean() for made in (cartoon, paper)]
    assert light[1] > light[0] + 60
    far = ~cv2.dilate(mask.astype(np.uint8), np.ones((41, 41), np.uint8)).astype(bool)
    assert paper.clip.frames[0][far].mean() > cartoon.clip.frames[0][far].mean() + 30
    # the shadow: to the lower right of the body it is darker than to the upper left
    near = 9
    shifted = {d: np.roll(mask, (d, d), (0, 1)) & ~mask & ~edge for d in (near, -near)}
    ground = {d: paper.clip.frames[0][where].mean() for d, where in shifted.items()}
    bare = {d: render(paper.scene, 192, 128, drawing=lambda t: []).clip.frames[0][where].mean()
            for d, where in shifted.items()}  # fmt: skip
    assert ground[near] - bare[near] < ground[-near] - bare[-near] - 5


def test_boxes_of_an_empty_mask_are_zero():
    masks = np.zeros((2, 4, 6), dtype=bool)
    masks[1, 1:3, 2:5] = True
    assert boxes_of(masks).tolist() == [[0, 0, 0, 0], [2, 1, 5, 3]]


@pytest.mark.parametrize("size", [{"width": 8}, {"num_frames": 0}])
def test_impossible_sizes_are_refused(size):
    with pytest.raises(ValueError, match="cannot render"):
        render(scene_of(), **size)
