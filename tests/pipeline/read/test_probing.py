import pytest

from tests.pipeline.samples import moving, save
from vidgen_lab.pipeline.read.probing import probe_file
from vidgen_lab.video.ffmpeg import local, run_ffmpeg


def test_pixels_of_a_turned_video_are_turned_too(tmp_path):
    """Wide pixels of a video that is shown turned by 90 degrees are high ones; ffmpeg agrees."""
    plain, wide, turned, shown = (tmp_path / f"{n}.mp4" for n in ("plain", "wide", "turned", "x"))
    run_ffmpeg("-i", local(save(moving(1), plain)), "-vf", "setsar=4/3", local(wide))
    run_ffmpeg("-display_rotation", 90, "-i", local(wide), "-c", "copy", local(turned))
    run_ffmpeg("-i", local(turned), local(shown))  # stores it as it is shown
    assert probe_file(wide).sample_aspect == pytest.approx(4 / 3)
    for path in (turned, shown):
        facts = probe_file(path)
        assert (facts.width, facts.height) == (64, 96)
        assert facts.sample_aspect == pytest.approx(3 / 4)
