"""Damaged files: the place is named, and nothing broken passes for a picture."""

import numpy as np
import pytest

from tests.video.conftest import FPS, ffmpeg, numbered_clip
from vidgen_lab.video.damage import lacks_its_end
from vidgen_lab.video.reader import VideoError, VideoReader, read_clip
from vidgen_lab.video.writer import write_clip

FRAMES = 120
KINDS = {
    "h264.mp4": ("-c:v", "libx264", "-g", 24, "-crf", 1),
    "h264.mkv": ("-c:v", "libx264", "-g", 24, "-crf", 1),
    "h264.ts": ("-c:v", "libx264", "-g", 24, "-crf", 1),
    "hevc.mp4": ("-c:v", "libx265", "-x265-params", "keyint=24:log-level=error", "-crf", 4),
    "mpeg4.avi": ("-c:v", "mpeg4", "-q:v", 1, "-g", 24),
    "mpeg2.mpg": ("-c:v", "mpeg2video", "-q:v", 1, "-g", 12),
    "vp9.webm": ("-c:v", "libvpx-vp9", "-b:v", "3M", "-minrate", "3M", "-g", 24, "-cpu-used", 8),
    "av1.mp4": ("-c:v", "libsvtav1", "-crf", 4, "-preset", 10, "-g", 24, "-pix_fmt", "yuv420p"),
    "ffv1.mkv": ("-c:v", "ffv1", "-g", 24),
    "prores.mov": ("-c:v", "prores_ks"),
}  # fmt: skip


@pytest.fixture(scope="module")
def master(tmp_path_factory):
    return write_clip(numbered_clip(FRAMES), tmp_path_factory.mktemp("whole") / "m.mp4", crf=1)


def written(master, path, options):
    # Grain, so that three thousand bytes are less than a second.
    ffmpeg("-i", master, "-vf", "noise=alls=30:allf=t", *options, path)
    return path


@pytest.mark.parametrize("name", KINDS)
def test_a_hole_marks_the_pictures_it_spoils_and_no_others(master, tmp_path, name):
    path = written(master, tmp_path / name, KINDS[name])
    assert all(picture.whole for picture in VideoReader(path).pictures(careful=True))
    data = bytearray(path.read_bytes())
    middle = len(data) * 45 // 100
    data[middle : middle + 3000] = bytes(3000)
    path.write_bytes(data)
    reader = VideoReader(path)
    sound = {p.number for p in reader.pictures(careful=True) if p.whole}
    spoilt = set(range(reader.info.num_frames)) - sound
    lost = FRAMES - reader.info.num_frames
    assert spoilt or lost, "nobody noticed"
    assert len(sound) > 20 and set(range(20)) <= sound


MPEG4 = ("-c:v", "mpeg4", "-q:v", 1, "-g", 24)


@pytest.mark.parametrize("name", ["h264.mp4", "mpeg4.mp4"])
def test_no_picture_that_was_made_of_a_broken_one_passes_for_whole(master, tmp_path, name):
    path = written(master, tmp_path / name, (*KINDS.get(name, MPEG4), "-bf", 3))
    intact, data = [rgb for _, rgb, _ in VideoReader(path).converted()], path.read_bytes()
    for share in range(20, 90, 10):
        at = len(data) * share // 100
        path.write_bytes(data[:at] + bytes(3000) + data[at + 3000 :])
        reader = VideoReader(path)
        for number, rgb, whole in reader.converted(careful=True):
            shown = round(reader.times[number] * FPS)
            assert not whole or np.array_equal(rgb, intact[shown]), (share, number)


def test_a_lost_group_of_pictures_shifts_none_of_those_behind_it(tmp_path):
    clip = numbered_clip(100)
    source, path = write_clip(clip, tmp_path / "m.mp4", crf=4), tmp_path / "lost.ts"
    ffmpeg("-i", source, "-c:v", "libx264", "-crf", 8, "-g", 12, "-bf", 2, path)
    data, packet = path.read_bytes(), 188
    count = len(data) // packet
    path.write_bytes(data[: count * 4 // 10 * packet] + data[count * 6 // 10 * packet :])
    reader = VideoReader(path)
    shown = [(number, rgb) for number, rgb, whole in reader.converted() if whole]
    assert len(shown) > 60
    for number, rgb in shown:
        picture = clip.frames[round(reader.times[number] * clip.fps)]
        assert np.abs(rgb.astype(int) - picture).mean() < 5


@pytest.mark.parametrize("name", ["h264.ts", "mpeg2.mpg", "vp9.webm", "h264.mkv", "loop.gif"])
def test_a_missing_end_is_noticed(master, tmp_path, name):
    path = written(master, tmp_path / name, KINDS.get(name, ()))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 7 // 10])
    try:
        pictures = list(VideoReader(path).pictures(careful=True))
    except VideoError as error:
        assert "cut off after" in str(error)
    else:
        assert not pictures[-1].whole and pictures[30].whole


def test_an_ogg_file_that_breaks_off_anywhere_in_a_page_lacks_its_end(tmp_path):
    path, page = tmp_path / "cut.ogv", b"OggS\0\x04" + bytes(21)  # 4: the last of its stream
    path.write_bytes(bytes(100) + page)
    assert not lacks_its_end(path, "ogg")
    for size in (0, 50, 100, *range(104, 106)):
        path.write_bytes((bytes(100) + page)[:size])
        assert lacks_its_end(path, "ogg")


def test_reading_a_damaged_place_names_it_and_other_places_read(master, tmp_path):
    path = written(master, tmp_path / "holed.mp4", KINDS["h264.mp4"])
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(3000)
    path.write_bytes(data)
    with pytest.raises(VideoError, match=r"damaged at frame \d+ \(\d\.\d\d s\)"):
        list(VideoReader(path))
    assert read_clip(path, 0, 10).num_frames == 10
    assert read_clip(path, FRAMES - 10, 10).num_frames == 10  # the key frame before it is sound
