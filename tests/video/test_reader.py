import pickle

import numpy as np
import pytest

from tests.video.conftest import FPS, FRAMES, HEIGHT, WIDTH, ffmpeg, numbered_clip, show_all
from vidgen_lab.video.reader import VideoError, VideoReader, probe_video, read_clip
from vidgen_lab.video.writer import write_clip

KINDS = [
    *("plain", "long_gop", "open_gop", "mpeg_ps", "avi", "vfr"),
    *("edit_list", "rotated", "torn_start"),
]


def nearest(picture: np.ndarray, truth: np.ndarray) -> int:
    """Which frame of the whole video this picture is."""
    return int(np.abs(truth.astype(np.int16) - picture).mean((1, 2, 3)).argmin())


@pytest.mark.parametrize("kind", KINDS)
def test_spans_equal_the_frames_a_player_shows(videos, kind):
    reader = VideoReader(videos[kind])
    truth = show_all(videos[kind], reader.info.width, reader.info.height)
    assert reader.info.num_frames == len(truth)
    rng = np.random.default_rng(0)
    spans = [(0, 3, 1), (len(truth) - 1, 1, 1), (len(truth) - 6, 3, 2)]
    spans += [(int(rng.integers(len(truth) - 13)), 4, 4) for _ in range(6)]
    for start, count, stride in spans:
        clip = reader.read(start, count, stride)
        found = [nearest(picture, truth) for picture in clip.frames]
        assert found == list(range(start, start + count * stride, stride))
        difference = np.abs(
            clip.frames.astype(int) - truth[start : start + count * stride : stride]
        )
        assert difference.mean() < 2  # colours too, not only the right picture


@pytest.mark.parametrize("kind", ["open_gop", "mpeg_ps", "edit_list"])
def test_every_single_frame_can_be_asked_for(videos, kind):
    reader = VideoReader(videos[kind])
    truth = show_all(videos[kind], WIDTH, HEIGHT)
    found = [reader.read(i, 1).frames[0] for i in range(len(truth))]
    assert [nearest(picture, truth) for picture in found] == list(range(len(truth)))
    assert np.abs(np.stack(found).astype(int) - truth).mean((1, 2, 3)).max() < 2


def test_seeking_is_used_where_it_is_exact_and_refused_where_not(videos, monkeypatch):
    fallbacks, sequential = [], VideoReader.pictures
    monkeypatch.setattr(
        VideoReader, "pictures", lambda self: fallbacks.append(self.path.stem) or sequential(self)
    )
    for kind in KINDS:
        VideoReader(videos[kind]).read(17, 4, 2)
    assert not {"plain", "long_gop", "vfr", "edit_list", "rotated"} & set(fallbacks)
    assert "torn_start" in fallbacks


def test_probe_tells_rotation_rate_and_true_length(videos):
    plain = probe_video(videos["plain"])
    assert (plain.width, plain.height, plain.num_frames) == (WIDTH, HEIGHT, FRAMES)
    assert (plain.fps, plain.variable_fps, plain.rotation) == (FPS, False, 0)
    assert (plain.codec, plain.pix_fmt, plain.has_audio) == ("h264", "yuv420p", False)
    assert plain.duration == pytest.approx(FRAMES / FPS)
    rotated = probe_video(videos["rotated"])
    assert (rotated.width, rotated.height, rotated.rotation) == (HEIGHT, WIDTH, 90)
    assert probe_video(videos["edit_list"]).num_frames == FRAMES - 21  # cut at 0.7 s
    assert probe_video(videos["open_gop"]).fps == pytest.approx(FPS, rel=1e-3)


def test_variable_rate_gives_its_average_and_the_times(videos):
    reader = VideoReader(videos["vfr"])
    assert reader.info.variable_fps
    assert reader.times[:31] == pytest.approx(np.arange(31) / 30, abs=1e-3)
    assert np.diff(reader.times[31:]) == pytest.approx(0.1, abs=1e-3)
    assert reader.info.fps == pytest.approx((FRAMES - 1) / reader.times[-1])
    assert not VideoReader(videos["open_gop"]).info.variable_fps


def test_ntsc_rate_is_the_exact_fraction(tmp_path):
    path = tmp_path / "ntsc.mkv"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x64:r=30000/1001:d=1", "-c:v", "libx264", path)
    info = probe_video(path)
    assert info.fps == pytest.approx(30000 / 1001, rel=1e-6) and not info.variable_fps


def test_stride_divides_the_rate_and_meta_names_the_span(videos):
    clip = read_clip(videos["plain"], start=5, stride=4)
    assert clip.num_frames == len(range(5, FRAMES, 4))
    assert clip.fps == FPS / 4
    assert clip.meta == {"source": str(videos["plain"]), "start": 5, "stride": 4}


def test_iterating_shows_every_frame_and_the_reader_pickles(videos):
    reader = pickle.loads(pickle.dumps(VideoReader(videos["rotated"])))
    assert np.array_equal(np.stack(list(reader)), reader.read().frames)


@pytest.mark.parametrize(
    "span, message",
    [
        ((FRAMES, 1, 1), "start must lie in 0..59"),
        ((-1, 1, 1), "start must lie"),
        ((50, 11, 1), "1..10 possible"),
        ((0, 0, 1), "1..60 possible"),
        ((0, 1, 0), "stride"),
    ],
)
def test_spans_outside_the_file_are_refused(videos, span, message):
    with pytest.raises(ValueError, match=message):
        read_clip(videos["plain"], *span)


def test_what_is_no_video_is_named(tmp_path, videos):
    with pytest.raises(FileNotFoundError, match="no video file"):
        read_clip(tmp_path / "missing.mp4")
    with pytest.raises(IsADirectoryError, match="folder"):
        read_clip(tmp_path)
    files = {"empty": b"", "text": b"not a video at all", "headless": b"\0" * 5000}
    for name, content in files.items():
        (tmp_path / f"{name}.mp4").write_bytes(content)
        with pytest.raises(VideoError, match=name):
            read_clip(tmp_path / f"{name}.mp4")
    ffmpeg("-f", "lavfi", "-i", "sine=d=0.3", tmp_path / "sound.wav")
    with pytest.raises(VideoError, match="no video track"):
        read_clip(tmp_path / "sound.wav")
    # ffmpeg ends without complaint when nothing lies behind -ss, and leaves a file of this kind
    ffmpeg("-ss", 9, "-i", videos["plain"], tmp_path / "nothing.mp4")
    with pytest.raises(VideoError):
        read_clip(tmp_path / "nothing.mp4")


def test_a_truncated_file_is_damaged_and_not_shorter(tmp_path):
    whole = write_clip(numbered_clip(), tmp_path / "whole.mp4")
    torn = tmp_path / "torn.mp4"
    torn.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    info = probe_video(torn)
    assert 10 < info.num_frames < FRAMES
    assert read_clip(torn, 0, 10).num_frames == 10


def test_damage_in_the_middle_is_reported(tmp_path):
    whole = write_clip(numbered_clip(), tmp_path / "whole.mp4")
    data = bytearray(whole.read_bytes())
    data[len(data) // 2 : len(data) * 9 // 10] = b"\xff" * (len(data) * 9 // 10 - len(data) // 2)
    (tmp_path / "holed.mp4").write_bytes(data)
    with pytest.raises(VideoError, match="damaged"):
        read_clip(tmp_path / "holed.mp4")


@pytest.mark.parametrize("name", ["é 日本.mp4", "it's 100%.mp4", "-leading.mp4"])
def test_awkward_file_names(tmp_path, name):
    clip = numbered_clip(4)
    assert read_clip(write_clip(clip, tmp_path / name)).num_frames == 4


def test_a_title_in_another_encoding_than_utf_8_spoils_no_picture(tmp_path):
    path = write_clip(numbered_clip(8), tmp_path / "plain.mp4")
    titled = tmp_path / "titled.mkv"
    ffmpeg("-i", path, "-c", "copy", "-metadata", "title=cafXX", titled)
    titled.write_bytes(titled.read_bytes().replace(b"cafXX", "café!".encode("latin-1")))
    assert VideoReader(titled).info.num_frames == 8


@pytest.mark.parametrize("name", ["http:clip.mp4", "tcp:clip", "Trip: day 1.mp4", "concat:a|b.mp4"])
def test_a_name_with_a_colon_is_a_file_and_no_protocol(tmp_path, monkeypatch, name):
    write_clip(numbered_clip(4), tmp_path / "clip.mp4")
    (tmp_path / "clip.mp4").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for path in (name, tmp_path / name):
        assert probe_video(path).num_frames == 4
        assert read_clip(path).num_frames == 4


def test_a_playlist_reaches_no_other_machine(tmp_path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/a.ts"
        lines = ("#EXTM3U", "#EXT-X-TARGETDURATION:1", "#EXTINF:1,", url, "#EXT-X-ENDLIST", "")
        for name in ("list.m3u8", "list.mp4"):
            (tmp_path / name).write_text("\n".join(lines))
            with pytest.raises(VideoError):
                read_clip(tmp_path / name)
        with pytest.raises(TimeoutError):
            listener.accept()
