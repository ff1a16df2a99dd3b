import numpy as np

from tests.pipeline.samples import moving, save
from vidgen_lab.metrics.judge import judge_input, load_judge
from vidgen_lab.pipeline import tasks
from vidgen_lab.pipeline.annotate.annotators import (
    FlowActions,
    JudgeEmbedder,
    MotionDetector,
    annotate_clip,
)
from vidgen_lab.video.clip import Clip


def test_other_annotators_take_the_place():
    class Fixed:
        name = "fixed"

        def caption(self, clip, objects, actions):
            return "a caption"

    made = annotate_clip(moving(), MotionDetector(), FlowActions(), Fixed())
    assert made["caption"] == "a caption" and made["annotators"][-1] == "fixed"


def test_objects_lie_in_frames_and_pixels_of_the_file(tmp_path):
    """Annotators see every other frame of a clip this long, at five sixths of its size."""
    frames = np.full((96, 600, 640, 3), 90, np.uint8)
    frames[91:, 300:420, 450:570] = (250, 40, 40)
    path = save(Clip(frames, 8), tmp_path / "long.mp4")
    names = {"detector": "motion", "actor": "flow", "captioner": "template"}
    (thing,) = tasks.annotate({"path": str(path), **names})["objects"]
    assert thing["frame"] == 94 and np.allclose(thing["box"], [450, 300, 120, 120], atol=3)


def test_a_judge_that_embedded_clips_can_still_be_learnt_from():
    """It is loaded once for all, so not in inference mode, which would forbid its gradients."""
    load_judge.cache_clear()
    assert np.isfinite(JudgeEmbedder().embed(moving())).all()
    judge = load_judge()
    clips = judge_input([moving()], judge.frames).requires_grad_()
    judge.features(clips).sum().backward()
    assert clips.grad.abs().max() > 0
