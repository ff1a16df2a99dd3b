import json

from tests.pipeline.samples import film, moving, save
from vidgen_lab.pipeline.annotate.videos import ScalableAnnotationPipeline


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
