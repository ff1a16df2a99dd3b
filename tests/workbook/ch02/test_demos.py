import numpy as np
import pytest

from tests.pipeline.samples import moving, save
from vidgen_lab.metrics.flow import flow_magnitude
from vidgen_lab.pipeline.annotate.videos import blur_regions
from vidgen_lab.pipeline.read.probing import probe_file
from vidgen_lab.toyworld.raw import SHARES
from vidgen_lab.video.clip import Clip
from vidgen_lab.workbook.ch02 import demos


def test_blurred_faces_are_not_found_again():
    portrait = demos.portrait_clip(num_frames=3)
    assert all(demos.find_faces(frame) for frame in portrait.frames)
    hidden = blur_regions(portrait, demos.find_faces)
    assert not any(demos.find_faces(frame) for frame in hidden.frames)
    assert np.array_equal(hidden.frames[:, -8:], portrait.frames[:, -8:])  # the rest is untouched


def test_the_usual_motion_hangs_on_the_sampling_and_flow_does_not():
    """Erratum E15: one and the same pan, looked at in three ways."""
    pan, longer = demos.pan(2, 49), demos.pan(2, 97)
    usual = [demos.sampled_flow(pan.frames, 8), demos.sampled_flow(pan.frames, 16)]
    usual.append(demos.sampled_flow(longer.frames, 8))
    assert max(usual) > 1.5 * min(usual)
    ours = [flow_magnitude(Clip(c.frames[n : n + 2], 8))[0] for c in (pan, longer) for n in (3, 30)]
    assert max(ours) < 1.1 * min(ours)
    assert ours[0] == pytest.approx(100 * 2 * 8 / 256, rel=0.15)


def test_first_come_loses_the_end():
    """Erratum E17."""
    scores = np.random.default_rng(0).random(1000)
    chosen = demos.first_come(scores, [300, 900], 100)
    assert len(chosen) == 100 and max(chosen) < 400


def test_a_network_is_uneven_and_loses_nothing():
    clip = moving(1, 6)
    frames = list(demos.jittery(clip.frames, 0.001))
    assert np.array_equal(np.stack(frames), clip.frames)


def test_a_cross_fade_is_gradual():
    a, b = moving(1, 12), moving(2, 12)
    faded = demos.cross_fade(a, b, 8)
    assert faded.num_frames == 16
    change = np.abs(np.diff(faded.frames.astype(int), axis=0)).mean((1, 2, 3))
    assert change[4:11].max() < 0.4 * np.abs(a.frames[0].astype(int) - b.frames[0]).mean()


def test_the_collection_is_made_once_and_carries_rights(tmp_path):
    videos, truth = demos.collect(None, tmp_path / "raw", len(SHARES), seed=0)
    stamp = (videos / truth[0].file).stat().st_mtime_ns
    again, same = demos.collect(None, tmp_path / "raw", len(SHARES), seed=0)
    assert (again, same) == (videos, truth)
    assert (videos / truth[0].file).stat().st_mtime_ns == stamp
    assert "CC0" in (videos / "rights.csv").read_text(encoding="utf-8")
    assert demos.collect(str(tmp_path), tmp_path / "x", 1, 0) == (tmp_path, [])


def test_a_sample_of_your_own_folder_is_small(tmp_path):
    big = demos.resized(moving(1, 200), (500, 400))
    facts = {"a.mp4": probe_file(save(big, tmp_path / "a.mp4"))}
    sample = demos.pick_sample(tmp_path, (), facts, tmp_path / "work")
    excerpt = probe_file(sample)
    assert (excerpt.width, excerpt.height, excerpt.num_frames) == (300, 240, 120)
    shown = demos.glimpse(tmp_path / "a.mp4")
    assert shown.num_frames <= 48 and shown.width == 240
    with pytest.raises(ValueError, match="could be opened"):
        demos.pick_sample(tmp_path, (), {}, tmp_path)


def test_speeds_and_helpers(tmp_path):
    path = save(moving(1), tmp_path / "x.mp4")
    speeds = demos.tool_speeds(path, seconds=0.01)
    assert set(speeds.index) == {"PyAV", "FFmpeg", "OpenCV", "PySceneDetect"}
    assert (speeds["frames a second"] > 0).all()
    boxes = [{"frame": 2, "box": [1, 2, 9, 9]}, {"frame": 5, "box": [3, 2, 9, 9]}]
    assert demos.draw_boxes(moving(1), boxes, scale=2).shape == (128, 2 * 192, 3)
    assert demos.resized(moving(1), (50, 20)).frames.shape[1:3] == (20, 50)
