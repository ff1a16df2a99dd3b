"""No wrong frame: whatever is asked for equals what reading in order gives, in every container."""

import random

import av
import numpy as np
import pytest

from tests.video.conftest import FRAMES, HEIGHT, WIDTH, ffmpeg, numbered_clip, show_all
from vidgen_lab.video.ffmpeg import encoders
from vidgen_lab.video.index import frame_rate, index_pictures
from vidgen_lab.video.reader import VideoError, VideoReader, read_clip
from vidgen_lab.video.writer import write_clip

X264 = ("-c:v", "libx264", "-crf", 10, "-g", 12)
X265 = ("-c:v", "libx265", "-x265-params", "keyint=12:bframes=3:log-level=error", "-tag:v", "hvc1")
MPEG4, MPEG2 = (("-c:v", codec, "-q:v", 3, "-g", 12) for codec in ("mpeg4", "mpeg2video"))
OPEN = (*X264, "-x264-params", "open-gop=1:keyint=12:min-keyint=12:bframes=3")
YUV444 = ("-pix_fmt", "yuv444p")
# container x codec x B-frames; after the dot, the suffix
KINDS = {
    "h264_b0.mp4": (*X264, "-bf", 0), "h264_b2.mp4": (*X264, "-bf", 2),
    "h264_b2.mkv": (*X264, "-bf", 2), "h264_b2.flv": (*X264, "-bf", 2),
    "h264_b0.ts": (*X264, "-bf", 0), "h264_b2.ts": (*X264, "-bf", 2),
    "h264_b0.avi": (*X264, "-bf", 0), "h264_b2.avi": (*X264, "-bf", 2),
    "open_gop.mp4": OPEN, "open_gop.ts": OPEN, "open_gop.avi": OPEN,
    "h264_444.mp4": (*X264, *YUV444, "-bf", 2), "h264_444.mkv": (*X264, *YUV444, "-bf", 2),
    "intra_refresh.mp4": (*X264, "-x264-params", "intra-refresh=1:keyint=12"),
    "hevc_b3.mp4": X265, "hevc_b3.ts": X265[:-2],
    "mpeg4_b0.avi": (*MPEG4, "-bf", 0), "mpeg4_b2.avi": (*MPEG4, "-bf", 2),
    "mpeg4_b2.mp4": (*MPEG4, "-bf", 2), "packed.avi": ("-c:v", "libxvid", "-q:v", 3, "-bf", 2),
    "mpeg2_b2.mpg": (*MPEG2, "-bf", 2), "mpeg2_b2.ts": (*MPEG2, "-bf", 2),
    "vp9.webm": ("-c:v", "libvpx-vp9", "-g", 12, "-cpu-used", 8, "-b:v", "1M"),
    "mjpeg.avi": ("-c:v", "mjpeg", "-q:v", 3, "-pix_fmt", "yuvj420p"),
    "h264_b2.asf": (*X264, "-bf", 2), "rpza.mov": ("-c:v", "rpza", "-pix_fmt", "rgb555le"),
    "painted.gif": (), "wmv2.wmv": ("-c:v", "wmv2", "-q:v", 3, "-g", 12),
}  # fmt: skip
SEEKS = {"h264_b2.mp4", "h264_b2.mkv", "h264_b2.ts", "hevc_b3.ts", "mpeg4_b2.mp4", "mjpeg.avi"}


@pytest.fixture(scope="module")
def master(tmp_path_factory):
    return write_clip(numbered_clip(), tmp_path_factory.mktemp("master") / "m.mp4", crf=4)


def in_order(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def written(master, path):
    """The clip in one of KINDS; skips where this ffmpeg cannot write it."""
    options = KINDS[path.name]
    if options[1:2] and options[1] not in encoders():
        pytest.skip(f"this ffmpeg has no {options[1]}")
    pixels = () if "-pix_fmt" in options or path.suffix == ".gif" else ("-pix_fmt", "yuv420p")
    ffmpeg("-i", master, *options, *pixels, path)
    return path


@pytest.mark.parametrize("name", KINDS)
def test_any_frame_equals_the_one_read_in_order(master, tmp_path, name, monkeypatch):
    path = written(master, tmp_path / name)
    truth, reader = in_order(path), VideoReader(path)
    assert reader.info.num_frames == len(truth)
    restarts, from_start = [], VideoReader.pictures
    monkeypatch.setattr(
        VideoReader, "pictures", lambda self: restarts.append(name) or from_start(self)
    )
    for start in random.Random(name).sample(range(1, len(truth)), 12):
        stride = 1 + start % 3
        count = min(3, len(range(start, len(truth), stride)))
        frames = reader.read(start, count, stride).frames
        assert all(np.array_equal(f, truth[start + stride * n]) for n, f in enumerate(frames))
    if name in SEEKS:
        assert not restarts
    assert np.array_equal(np.stack(list(reader)), np.stack(truth))


def test_packets_that_are_wrongly_called_key_frames_mislead_nobody(master, tmp_path):
    path = tmp_path / "all_sync.mov"
    ffmpeg("-i", master, "-c:v", "qtrle", "-g", 24, path)
    path.write_bytes(path.read_bytes().replace(b"stss", b"free"))  # no list of them: all are
    truth, reader = in_order(path), VideoReader(path)
    for number in (1, 23, 24, 50):
        assert np.array_equal(reader.read(number, 1).frames[0], truth[number])


def test_recordings_joined_with_the_clock_set_back_come_one_after_the_other(master, tmp_path):
    for name, offset in (("a", 0), ("b", 1.013)):
        ffmpeg("-i", master, "-output_ts_offset", offset, *X264, "-bf", 2, tmp_path / f"{name}.ts")
    both = tmp_path / "both.ts"
    both.write_bytes(b"".join((tmp_path / f"{n}.ts").read_bytes() for n in "ab"))
    truth, reader = in_order(both), VideoReader(both)
    assert reader.info.num_frames == len(truth) == 2 * FRAMES
    for number in (1, FRAMES // 2, FRAMES, 2 * FRAMES - 3):
        assert np.array_equal(reader.read(number, 1).frames[0], truth[number])


def test_a_stream_that_needs_its_first_packet_is_read_from_it(master, tmp_path):
    """x264 before build 151 coded 4:4:4 in another way; its first packet alone tells."""
    path = tmp_path / "old.mp4"
    ffmpeg("-i", master, *X264, *YUV444, "-coder", 1, "-x264-params", "8x8dct=1", path)
    data = path.read_bytes()
    at = data.index(b"x264 - core ") + len(b"x264 - core ")
    path.write_bytes(data[:at] + b"148" + data[at + 3 :])
    with pytest.raises(VideoError, match="damaged"):  # from its start it is, as players see it
        read_clip(path, 40, 5)


@pytest.mark.parametrize("turn", ["-display_hflip", "-display_vflip", "-display_rotation 270"])
def test_mirrored_and_turned_pictures_are_shown_as_players_do(master, tmp_path, turn):
    path = tmp_path / "turned.mp4"
    ffmpeg(*turn.split(), "-i", master, "-c", "copy", path)
    clip = read_clip(path, 3, 4)
    truth = show_all(path, clip.width, clip.height)[3:7]
    assert np.abs(clip.frames.astype(int) - truth).mean() < 2


@pytest.mark.parametrize("name", ["http:clip.mp4", "Trip: day 1.mp4", "tcp:1.2.3.4.mp4", "a:b.ts"])
def test_a_name_with_a_colon_is_a_file_and_no_address(master, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    ffmpeg("-i", master, "-c", "copy", f"file:{name}")
    assert read_clip(name, 5, 2).num_frames == 2


def test_a_playlist_opens_no_address(tmp_path):
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:9,\nhttp://127.0.0.1:9/x.ts\n")
    with pytest.raises(VideoError, match="not a readable video"):
        VideoReader(tmp_path / "list.mp4")


def test_the_best_track_is_read_and_not_the_first(master, tmp_path):
    path = tmp_path / "two.mkv"
    ffmpeg(
        *("-i", master, "-map", 0, "-map", 0, "-c:v", "libx264"),
        *("-filter:v:0", "scale=32:24,trim=end_frame=3"),
        *("-disposition:v:0", 0, "-disposition:v:1", "default", path),
    )
    info = VideoReader(path).info
    assert (info.width, info.height, info.num_frames) == (WIDTH, HEIGHT, FRAMES)


def test_a_track_nobody_describes_is_named(master, tmp_path):
    path = tmp_path / "nameless.mp4"
    path.write_bytes(master.read_bytes().replace(b"stsd", b"stsx"))
    with pytest.raises(VideoError):
        VideoReader(path)


def test_a_picture_that_changes_its_size_is_read_at_the_first_one(master, tmp_path):
    for name, scale in (("a", "96:64"), ("b", "128:96")):
        ffmpeg("-i", master, "-vf", f"scale={scale}", *X264, tmp_path / f"{name}.ts")
    both = tmp_path / "both.ts"
    both.write_bytes(b"".join((tmp_path / f"{n}.ts").read_bytes() for n in "ab"))
    assert {frame.shape for frame in VideoReader(both)} == {(HEIGHT, WIDTH, 3)}


def test_columns_that_a_stream_cuts_off_on_the_left_are_not_shown(master, tmp_path):
    path = tmp_path / "cropped.mkv"
    ffmpeg("-i", master, "-c", "copy", "-bsf:v", "h264_metadata=crop_left=10:crop_top=6", path)
    clip = read_clip(path, 3, 2)
    assert np.array_equal(clip.frames, read_clip(master, 3, 2).frames[:, 6:, 10:])


def test_reading_small_equals_scaling_down(master):
    small = VideoReader(master, shrink_to=32).read(10, 3)
    assert small.frames.shape == (3, 32, 48, 3)
    large = read_clip(master, 10, 3).frames.reshape(3, 32, 2, 48, 2, 3).mean((2, 4))
    assert np.abs(small.frames - large).mean() < 3


@pytest.mark.parametrize("name", ["h264_b2.mp4", "h264_b2.avi"])
def test_many_spans_cost_one_pass_where_seeking_is_impossible(master, tmp_path, name, monkeypatch):
    path = written(master, tmp_path / name)
    reader, truth, passes = VideoReader(path), in_order(path), []
    pictures = VideoReader.pictures
    monkeypatch.setattr(
        VideoReader, "pictures", lambda self, *a: passes.append(1) or pictures(self, *a)
    )
    spans = [(2, 5, 3), (9, 1, 1), (9, 4, 2), (30, 30, 1)]
    for (start, count, stride), clip in zip(spans, reader.read_spans(spans), strict=True):
        wanted = truth[start : start + count * stride : stride]
        assert np.array_equal(clip.frames, np.stack(wanted))
    assert len(passes) <= 1
    with pytest.raises(ValueError, match="possible"):
        list(reader.read_spans([(50, 20, 1)]))


def test_a_time_base_too_coarse_loses_no_frame():
    index = index_pictures([0, 0, 1, 1, 2, 2], 8.0, 1 / 4)
    assert len(index.times) == 6 and (np.diff(index.times) > 0).all()
    assert index.times[-1] == pytest.approx(0.5)
    assert frame_rate(np.zeros(3), 0, 0.1) == (25.0, False)  # and no division by zero
