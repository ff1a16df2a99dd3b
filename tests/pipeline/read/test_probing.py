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


def test_sound_of_an_unknown_kind_spoils_no_picture(tmp_path):
    """An old AVI with a codec that nobody has any more."""
    path = tmp_path / "old.avi"
    tone = ("-f", "lavfi", "-t", 1, "-i", "sine=440", "-c:a", "pcm_s16le")
    run_ffmpeg("-i", local(save(moving(1), tmp_path / "x.mp4")), *tone, local(path))
    data = bytearray(path.read_bytes())
    place = data.rindex(b"strf") + 8  # the last of two such chunks says how the sound is coded
    data[place : place + 2] = b"\x34\x12"
    path.write_bytes(data)
    facts = probe_file(path)
    assert facts.audio_codec == "unknown" and facts.num_frames == 16


def test_subtitles_that_outlast_the_pictures_are_no_missing_end(tmp_path):
    path, words = tmp_path / "x.mkv", tmp_path / "x.srt"
    words.write_text("1\n00:00:08,000 --> 00:00:10,000\nthe end\n")
    clip = local(save(moving(1), tmp_path / "x.mp4"))
    run_ffmpeg("-i", clip, "-i", local(words), "-c:v", "copy", "-c:s", "srt", local(path))
    facts = probe_file(path)
    assert (facts.num_frames, facts.header_seconds, facts.missing) == (16, 10, 0)


def test_dropped_frames_of_an_avi_are_no_missing_end(tmp_path):
    """Its header counts the times at which the last picture stays, too."""
    path, cut = tmp_path / "dropped.avi", tmp_path / "cut.avi"
    kept = "select='lt(mod(n,4),2)'", "-fps_mode", "vfr", "-c:v", "mjpeg"
    run_ffmpeg("-i", local(save(moving(4), tmp_path / "x.mp4")), "-vf", *kept, local(path))
    facts = probe_file(path)
    assert facts.num_frames < 0.6 * facts.header_frames and facts.missing == 0
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert probe_file(cut).missing > 0
