import json

import numpy as np

from tests.pipeline.samples import film, moving, save
from vidgen_lab.files import plain
from vidgen_lab.pipeline import tasks
from vidgen_lab.pipeline.annotate.videos import ScalableAnnotationPipeline
from vidgen_lab.video.clip import Clip


def test_every_scene_has_its_own_objects_and_caption(tmp_path):
    path = save(film((1, 2), 12), tmp_path / "film.mp4")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"x")
    one, other = ScalableAnnotationPipeline().annotate_video_batch([path, broken])
    assert [s["frames"] for s in one["scenes"]] == [[0, 12], [12, 24]]
    for scene in one["scenes"]:
        low, high = scene["frames"]
        assert scene["objects"] and all(low <= o["frame"] < high for o in scene["objects"])
        assert scene["caption"].endswith(".")
    assert one["scenes"][0]["caption"] != one["scenes"][1]["caption"]
    assert other["file"] == "broken.mp4" and "error" in other
    assert json.loads(json.dumps(one)) == one


def test_other_annotators_take_the_place(tmp_path):
    class Fixed:
        name = "fixed"

        def caption(self, clip, objects, actions):
            return "a caption"

    path = save(moving(), tmp_path / "x.mp4")
    made = ScalableAnnotationPipeline(captioner=Fixed()).annotate_single_video(path)
    assert made["scenes"][0]["caption"] == "a caption"
    assert made["scenes"][0]["annotators"][-1] == "fixed"


def test_objects_lie_in_frames_and_pixels_of_the_file(tmp_path):
    """Annotators see every other frame of a clip this long, at five sixths of its size."""
    frames = np.full((96, 600, 640, 3), 90, np.uint8)
    frames[91:, 300:420, 450:570] = (250, 40, 40)
    path = save(Clip(frames, 8), tmp_path / "long.mp4")
    names = {"detector": "motion", "actor": "flow", "captioner": "template"}
    (thing,) = tasks.annotate({"path": str(path), **names})["objects"]
    assert thing["frame"] == 94 and np.allclose(thing["box"], [450, 300, 120, 120], atol=3)
    (scene,) = ScalableAnnotationPipeline().annotate_single_video(path)["scenes"]
    assert scene["objects"] == plain([thing])
