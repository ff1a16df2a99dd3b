import numpy as np
import pytest

from tests.pipeline.samples import FPS, film, moving, save
from vidgen_lab.pipeline.read.scenes import CutFinder, SceneSettings, spans_between
from vidgen_lab.video.ffmpeg import local, run_ffmpeg
from vidgen_lab.video.reader import VideoReader


def scenes_of(path, detector="adaptive"):
    reader = VideoReader(path)
    finder = CutFinder(reader.info.fps, SceneSettings(detector))
    for frame in reader:
        finder.add(frame)
    return spans_between(finder.cuts(), reader.times, reader.info.duration)


def test_hard_cuts_are_found_to_the_frame(tmp_path):
    path = save(film(), tmp_path / "film.mp4")
    for detector in ("adaptive", "content"):
        scenes = scenes_of(path, detector)
        assert [(s.first, s.end) for s in scenes] == [(0, 10), (10, 20), (20, 30)]
        assert scenes[1].start == pytest.approx(10 / FPS, abs=1e-6)


def test_cuts_in_black_and_white_are_found_by_brightness_alone():
    """Two of the three measures that the detector averages are zero there."""

    def found(colour):
        frames = np.full((20, 64, 96, 3), colour, np.uint8)
        frames[10:] = np.uint8(np.array(colour) * 4 / 3)  # a third of it is below the threshold
        finder = CutFinder(8, SceneSettings())
        for frame in frames:
            finder.add(frame)
        return finder.cuts()

    assert found((90, 90, 90)) == [10]
    assert found((90, 60, 30)) == []


def test_a_cut_in_black_and_white_stands_out_from_motion_around_it():
    def finder(jump):
        found, rng = CutFinder(8), np.random.default_rng(0)
        ground = rng.integers(60, 120, (64, 96))
        for t in range(24):
            grey = ground + (9 if t % 2 else 0) + (jump if t >= 12 else 0)  # restless by itself
            found.add(np.repeat(grey[..., None], 3, axis=2).astype(np.uint8))
        return found.cuts()

    assert finder(jump=33) == [12]  # 24 grey levels where there are 9 all the time
    assert finder(jump=0) == []


def test_a_single_shot_is_one_scene(tmp_path):
    path = save(moving(), tmp_path / "shot.mp4")
    (scene,) = scenes_of(path)
    assert (scene.first, scene.end, scene.start, scene.stop) == (0, 16, 0, 2)


def test_cuts_have_true_times_where_the_rate_varies(tmp_path):
    save(film(), tmp_path / "film.mp4")
    slow = "setpts='if(lt(N,10),N,10+(N-10)*3)/(8*TB)'"
    path = tmp_path / "vfr.mp4"
    source = local(tmp_path / "film.mp4")
    run_ffmpeg("-i", source, "-vf", slow, "-fps_mode", "vfr", local(path))
    scenes = scenes_of(path)
    assert [s.first for s in scenes] == [0, 10, 20]
    assert [s.start for s in scenes] == pytest.approx([0, 10 / 8, 40 / 8], abs=1 / 8)


def test_spans_cover_the_video_without_gap():
    times = np.arange(10) / 5
    spans = spans_between([3, 7], times, 2.0)
    assert [s.num_frames for s in spans] == [3, 4, 3]
    assert [s.stop for s in spans[:-1]] == [s.start for s in spans[1:]]
    for cuts in ([7, 3], [0], [10], [3, 3]):
        with pytest.raises(ValueError, match="cuts must rise"):
            spans_between(cuts, times, 2.0)


def test_settings_name_the_mistake():
    with pytest.raises(ValueError, match="detector must be one of adaptive, .*, not 'magic'"):
        SceneSettings("magic")
