"""The book's blocks, each used alone."""

import threading

import numpy as np
import pytest

from tests.pipeline.samples import FPS, blurred, film, moving, save
from vidgen_lab.pipeline.annotate.annotators import (
    AppearanceEmbedder,
    FlowActions,
    JudgeEmbedder,
    MotionDetector,
    TemplateCaptioner,
    annotate_clip,
    colour_name,
)
from vidgen_lab.pipeline.read.streaming import FrameBuffer, stream_video
from vidgen_lab.pipeline.read.workspace import (
    Gallery,
    Workspace,
    analyze_raw_video,
    tools_available,
)
from vidgen_lab.pipeline.select.quality import OpenCVQualityAssessor, ScalableFilteringPipeline
from vidgen_lab.video.clip import Clip


def test_assessor_probes_samples_and_measures(tmp_path):
    assessor = OpenCVQualityAssessor()
    path = save(moving(), tmp_path / "x.mp4")
    soft = save(blurred(moving()), tmp_path / "soft.mp4")
    assert assessor.probe(path) == (96, 64, FPS, 16, 2.0)
    assert assessor.sample_indices(16, 4) == [0, 5, 10, 15]
    assert assessor.sample_indices(1, 8) == [0]
    with pytest.raises(ValueError):
        assessor.sample_indices(0, 8)
    assert assessor.sharpness(path, [0, 8]) > 5 * assessor.sharpness(soft, [0, 8])


def test_motion_does_not_hang_on_the_sampling(tmp_path):
    assessor = OpenCVQualityAssessor()
    path = save(moving(), tmp_path / "x.mp4")
    few, many = assessor.motion(path, [0, 15]), assessor.motion(path, range(0, 16, 2))
    assert few == pytest.approx(many, rel=0.35) and few > 0.3


def test_filtering_pipeline_reports_every_file(tmp_path):
    paths = [save(film((1, 2), 12), tmp_path / "film.mp4")]
    paths.append(save(blurred(moving(3)), tmp_path / "soft.mp4"))
    paths.append(tmp_path / "broken.mp4")
    paths[-1].write_bytes(b"nothing")
    rows = [row for path in paths for row in ScalableFilteringPipeline().run(path)]
    assert [(r.source, r.status) for r in rows] == [
        ("film.mp4", "kept"), ("film.mp4", "kept"),
        ("soft.mp4", "rejected"), ("broken.mp4", "error"),
    ]  # fmt: skip
    assert rows[2].metric == "edge_steepness"


def test_a_stream_is_complete_in_order_and_bounded(tmp_path):
    path = save(moving(), tmp_path / "x.mp4")
    frames = list(stream_video(path, buffer_size=2))
    assert [f.number for f in frames] == list(range(16))
    assert [f.number for f in stream_video(path, max_frames=3)] == [0, 1, 2]
    before = threading.active_count()
    for _ in stream_video(path, buffer_size=1):
        break
    assert threading.active_count() == before


def test_a_full_buffer_drops_the_oldest_when_told_to():
    buffer = FrameBuffer(2, full="drop")
    for number in range(5):
        assert buffer.put(number, np.zeros(1))
    buffer.close()
    assert [f.number for f in buffer] == [3, 4] and buffer.dropped == 3
    assert not buffer.put(9, np.zeros(1))


def test_an_error_of_the_source_reaches_the_reader():
    def source():
        yield np.zeros(1)
        raise OSError("line cut")

    stream = stream_video(source())
    assert next(stream).number == 0
    with pytest.raises(OSError, match="line cut"):
        next(stream)


def test_workspace_gallery_and_raw_size(tmp_path):
    workspace = Workspace(tmp_path / "deep" / "work")
    assert workspace.raw.is_dir() and workspace.frames == tmp_path / "deep" / "work" / "frames"
    with pytest.raises(AttributeError, match="nowhere"):
        _ = workspace.nowhere
    save(moving(1), workspace.raw / "é 1.mp4")
    (workspace.raw / "broken.mp4").write_bytes(b"x")
    gallery = Gallery(workspace.raw)
    table = gallery.stats()
    assert table["file"].tolist() == ["é 1.mp4"] and table["num_frames"][0] == 16
    assert list(gallery.errors) == ["broken.mp4"]
    assert gallery.sheet(columns=2, width=100).shape == (78, 200, 3)
    raw = analyze_raw_video(workspace.raw / "é 1.mp4")
    assert raw.rgb_bytes == 96 * 64 * 16 * 3 and raw.compression > 2
    assert "96x64" in str(raw)


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


def test_embeddings_of_alike_clips_are_alike():
    embed = AppearanceEmbedder().embed
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
    assert a.shape == (256,) == other.shape and not np.allclose(a, other, atol=1e-3)


def test_the_tools_are_named_with_their_versions():
    table = tools_available()
    assert list(table.index) == ["OpenCV", "PyAV", "FFmpeg", "PySceneDetect"]
    assert "libx264" in table.loc["FFmpeg", "job"] and "?" not in set(table["version"])


def test_colours_have_common_names():
    names = {(250, 20, 20): "red", (20, 200, 40): "green", (30, 60, 230): "blue"}
    names |= {(250, 250, 250): "white", (5, 5, 5): "black", (128, 128, 128): "grey"}
    assert {rgb: colour_name(rgb) for rgb in names} == names
