import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from tests.video.conftest import numbered_clip, show_all
from vidgen_lab.video import writer
from vidgen_lab.video.clip import Clip
from vidgen_lab.video.reader import probe_video, read_clip
from vidgen_lab.video.writer import encode_clip, write_clip


def test_round_trip_keeps_frames_rate_and_picture(tmp_path):
    clip = numbered_clip(49)
    path = write_clip(clip, tmp_path / "new" / "folder" / "clip.mp4")
    back = read_clip(path)
    assert back.frames.shape == clip.frames.shape and back.fps == clip.fps
    assert np.abs(back.frames.astype(int) - clip.frames).mean() < 3
    info = probe_video(path)
    assert (info.codec, info.pix_fmt, info.variable_fps) == ("h264", "yuv420p", False)


def test_49_frames_at_8_fps_stay_49_frames_of_6_seconds(tmp_path):
    info = probe_video(write_clip(Clip(numbered_clip(49).frames, 8), tmp_path / "a.mp4"))
    assert info.num_frames == 49 and info.duration == 49 / 8


def test_colours_survive_in_our_reader_and_in_ffmpeg(tmp_path):
    colours = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (30, 120, 200)], np.uint8)
    frames = np.broadcast_to(colours.repeat(16, 0)[None, None], (3, 32, 64, 3))
    path = write_clip(Clip(np.ascontiguousarray(frames), 8), tmp_path / "colours.mp4")
    for shown in (read_clip(path).frames, show_all(path, 64, 32)):
        assert np.abs(shown[1, 16, 8::16].astype(int) - colours).max() <= 4


def test_index_lies_in_front_of_the_pictures(tmp_path):
    for num_frames in (1, 300):
        frames = np.random.default_rng(0).integers(0, 256, (num_frames, 16, 16, 3), np.uint8)
        data = write_clip(Clip(frames, 8), tmp_path / "a.mp4").read_bytes()
        assert 0 < data.index(b"moov") < data.index(b"mdat")


def test_crf_trades_size_for_quality(tmp_path):
    sizes = [len(writer.encode_clip(numbered_clip(9), crf)) for crf in (10, 30)]
    assert sizes[0] > sizes[1]
    with pytest.raises(ValueError, match="crf"):
        write_clip(numbered_clip(2), tmp_path / "a.mp4", crf=52)


def test_odd_sides_are_padded_and_said(tmp_path):
    frames = numbered_clip(3).frames[:, :63, :95]
    with pytest.warns(UserWarning, match="95x63 is written as 96x64"):
        path = write_clip(Clip(frames, 8), tmp_path / "odd.mp4")
    back = read_clip(path).frames
    assert back.shape == (3, 64, 96, 3)
    assert np.abs(back[:, -1].astype(int) - back[:, -2]).mean() < 6  # the last row, repeated


@pytest.mark.parametrize("fps", [8, 30000 / 1001, 23.976, 12.5, 0.5, 120])
def test_rates_are_kept(tmp_path, fps):
    path = write_clip(Clip(numbered_clip(5).frames, fps), tmp_path / "a.mp4")
    assert probe_video(path).fps == pytest.approx(fps, rel=1e-6)


def test_wrong_use_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(TypeError, match="Clip"):
        write_clip(numbered_clip(2).frames, tmp_path / "a.mp4")
    with pytest.raises(ValueError, match=".mp4, not .avi"):
        write_clip(numbered_clip(2), tmp_path / "a.avi")
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(IsADirectoryError):
        write_clip(numbered_clip(2), tmp_path / "folder.mp4")
    assert [p.name for p in tmp_path.iterdir()] == ["folder.mp4"]


def test_a_lost_frame_is_noticed_before_anything_is_written(tmp_path, monkeypatch):
    even = writer._even
    monkeypatch.setattr(writer, "_even", lambda frames: even(frames[:-1]))
    with pytest.raises(RuntimeError, match="2 of 3 frames"):
        write_clip(numbered_clip(3), tmp_path / "a.mp4")
    assert not list(tmp_path.iterdir())


def test_failed_write_keeps_the_old_file_and_no_temporary(tmp_path, monkeypatch):
    path = tmp_path / "a.mp4"
    before = write_clip(numbered_clip(3), path).read_bytes()
    monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space left") as caught:
        write_clip(numbered_clip(9), path)
    assert caught.value.errno == 28 and caught.value.filename == str(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
def test_a_disk_that_really_ends_gives_one_clear_error(tmp_path):
    script = f"""
        import resource, signal
        import numpy as np
        from vidgen_lab.video.clip import Clip
        from vidgen_lab.video.writer import write_clip
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
        frames = np.random.default_rng(0).integers(0, 256, (9, 64, 96, 3), np.uint8)
        try:
            write_clip(Clip(frames, 8), {str(tmp_path / "a.mp4")!r})
        except OSError as err:
            print(err)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "could not write" in run.stdout and "a.mp4" in run.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_read_only_folder_is_named(tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o500)
    if os.access(folder, os.W_OK):
        folder.chmod(0o700)
        pytest.skip("this user may write anywhere")
    with pytest.raises(PermissionError, match="locked"):
        write_clip(numbered_clip(2), folder / "a.mp4")


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(OSError, match="could not write"):
        write_clip(numbered_clip(2), tmp_path / "taken" / "a.mp4")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_file_has_ordinary_permissions(tmp_path):
    mode = write_clip(numbered_clip(2), tmp_path / "a.mp4").stat().st_mode
    (tmp_path / "b").touch()
    assert mode & 0o777 == (tmp_path / "b").stat().st_mode & 0o777


@pytest.mark.parametrize("fps", [1e-9, 0.01, 1e12])
def test_a_rate_that_no_file_holds_is_refused_first(tmp_path, fps):
    clip = Clip(np.zeros((2, 16, 16, 3), np.uint8), fps)
    with pytest.raises(ValueError, match=r"fps must lie in 0\.1\.\.1000"):
        write_clip(clip, tmp_path / "a.mp4")
    assert not list(tmp_path.iterdir())


def test_a_side_that_no_file_holds_is_refused_first(tmp_path):
    clip = Clip(np.zeros((1, 16, 20_000, 3), np.uint8), 8)
    with pytest.raises(ValueError, match="20000x16 is more than H.264 holds"):
        write_clip(clip, tmp_path / "a.mp4")


def test_the_same_clip_is_written_as_the_same_bytes():
    noise = np.random.default_rng(0).integers(0, 256, (16, 8, 12, 3), np.uint8)
    clip = Clip(noise.repeat(8, 1).repeat(8, 2), 8)
    assert len({encode_clip(clip) for _ in range(12)}) == 1
