"""The book's blocks, each used alone."""

import numpy as np
import pytest

from tests.pipeline.samples import FPS, blurred, moving
from vidgen_lab.metrics.flow import flow_magnitude
from vidgen_lab.metrics.judge import load_judge
from vidgen_lab.pipeline.annotate.annotators import (
    FlowActions,
    JudgeEmbedder,
    MotionDetector,
    TemplateCaptioner,
    annotate_clip,
    colour_name,
)
from vidgen_lab.video.clip import Clip


def test_motion_does_not_hang_on_the_sampling():
    clip = moving()

    def motion(places):
        pairs = (Clip(clip.frames[n : n + 2], clip.fps) for n in places)
        return float(np.mean([flow_magnitude(pair)[0] for pair in pairs]))

    few, many = motion([0, 14]), motion(range(0, 15, 2))
    assert few == pytest.approx(many, rel=0.35) and few > 0.3


def test_annotators_say_what_moves_where_and_which_way():
    clip = moving(2, 16)
    made = annotate_clip(clip, MotionDetector(), FlowActions(), TemplateCaptioner())
    assert made["actions"][0]["label"] == "right"
    last = [o for o in made["objects"] if o["frame"] == 15]
    x, y, w, h = last[0]["box"]
    assert abs(x + w - 54) <= 3 and abs(y - 20) <= 3 and abs(h - 24) <= 4
    assert "green" in made["caption"] and "moves right" in made["caption"]
    backwards = Clip(clip.frames[::-1].copy(), FPS)
    assert FlowActions().act(backwards)[0]["label"] == "left"
    still = Clip(np.repeat(clip.frames[:1], 5, axis=0), FPS)
    assert FlowActions().act(still)[0]["label"] == "still"
    assert MotionDetector().detect(still) == []


def test_a_box_between_pixels_is_described_too():
    """Trained detectors place boxes at fractions of a pixel."""
    thing = {"frame": 8, "box": [19.6, 19.7, 20.4, 24.5], "label": "lamp", "score": 1.0}
    caption = TemplateCaptioner().caption(moving(2), [thing], [{"label": "right", "score": 1.0}])
    assert caption.startswith("A green lamp moves right in ")


def test_embeddings_of_alike_clips_are_alike():
    embed = JudgeEmbedder().embed
    a, b, c = embed(moving(1)), embed(blurred(moving(1), 0.8)), embed(moving(4))

    def cosine(x, y):
        return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))

    assert a.shape == c.shape and cosine(a, b) > 0.95 > cosine(a, c)


def test_the_judge_embeds_any_clip_the_same_way_with_any_number_of_threads():
    import torch

    threads = torch.get_num_threads()
    a = JudgeEmbedder().embed(moving(1))
    torch.set_num_threads(2 if threads == 1 else 1)
    try:
        assert np.array_equal(JudgeEmbedder().embed(moving(1)), a)
        other = JudgeEmbedder().embed(moving(4, num_frames=3))
    finally:
        torch.set_num_threads(threads)
    width = 2 * load_judge().settings["joint"][-1]
    assert a.shape == (width,) == other.shape and not np.allclose(a, other, atol=1e-3)


def test_colours_have_common_names():
    names = {(250, 20, 20): "red", (20, 200, 40): "green", (30, 60, 230): "blue"}
    names |= {(250, 250, 250): "white", (5, 5, 5): "black", (128, 128, 128): "grey"}
    assert {rgb: colour_name(rgb) for rgb in names} == names
