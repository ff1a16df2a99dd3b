import json

import cv2
import numpy as np
import pytest

from tests.pipeline.samples import film, moving, picture, save
from vidgen_lab.pipeline.annotate.videos import (
    ScalableAnnotationPipeline,
    Segment,
    blur_regions,
    extract_annotated_clips,
)
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


def test_detections_grow_together_to_spans():
    hits = [
        {"action": "run", "frame_id": f, "score": s} for f, s in ((10, 0.5), (12, 0.9), (14, 1))
    ]
    hits += [{"action": "run", "frame_id": 60}, {"action": "sit", "frame_id": 13}]
    hits += [{"label": "run", "start": 80, "end": 95, "confidence": 0.7}]
    spans = extract_annotated_clips(hits, "run", num_frames=96, pad=2)
    assert spans == [Segment(8, 17, 1.0, pytest.approx(0.8)), Segment(78, 96, 0.7, 0.7)]
    assert extract_annotated_clips(hits, "fly", 96) == []
    with pytest.raises(ValueError, match="frame_id"):
        extract_annotated_clips([{"action": "run"}], "run", 96)


def test_hidden_regions_lose_their_detail_and_the_rest_stays():
    frame = picture(1)
    frame[20:40, 30:60] = np.random.default_rng(0).integers(0, 255, (20, 30, 3))
    clip = Clip(np.repeat(frame[None], 4, axis=0), 8)
    found = iter([[[30, 20, 30, 20]], [], [], []])  # seen once, in the first frame
    made = blur_regions(clip, lambda f: next(found), grow=0)

    def detail(frames, n):
        return cv2.Laplacian(frames[n, 20:40, 30:60], cv2.CV_64F).var()

    assert detail(made.frames, 0) < 0.05 * detail(clip.frames, 0)
    assert np.array_equal(made.frames[1], made.frames[0])  # the neighbour too
    assert np.array_equal(made.frames[2], clip.frames[2])
    assert np.array_equal(made.frames[0][:20], clip.frames[0][:20])
