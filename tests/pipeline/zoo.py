"""Bad inputs, each made in a moment: name -> (how to make it, (status, start of the reason)).

Every fixture of chapter 2's bad-input list that can be made without a download. All show another
picture, so that none is rejected as a copy.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.pipeline.samples import film, moving, picture, save
from vidgen_lab.video.clip import Clip
from vidgen_lab.video.ffmpeg import local, run_ffmpeg

Maker = Callable[[Path], object]
KEPT = ("kept", "")


def _source(path: Path, seed: int, frames: int = 16, width: int = 96, height: int = 64) -> Path:
    """A good clip beside `path`, under a hidden name."""
    clip = moving(seed, frames)
    if (width, height) != (96, 64):
        ground = picture(seed, width, height)
        pictures = np.repeat(ground[None], frames, axis=0)
        for t in range(frames):
            pictures[t, 20:44, 4 + 2 * t : 24 + 2 * t] = (250, 40, 40)
        clip = Clip(pictures, 8)
    return save(clip, path.parent / ".source.mp4", crf=6)


def converted(seed: int, *options: object, before: tuple = (), frames: int = 16, **size) -> Maker:
    def make(path: Path) -> None:
        source = _source(path, seed, frames, **size)
        run_ffmpeg(*before, "-i", local(source), *options, local(path))
        source.unlink()

    return make


def content(data: bytes) -> Maker:
    return lambda path: path.write_bytes(data)


def clip(make: Callable[[], Clip]) -> Maker:
    return lambda path: save(make(), path.with_suffix(".mp4")).rename(path)


def part(seed: int, change: Callable[[bytes], bytes], *options: object) -> Maker:
    def make(path: Path) -> None:
        converted(seed, *options, frames=40)(path)
        path.write_bytes(change(path.read_bytes()))

    return make


def _hole(data: bytes) -> bytes:
    return data[: len(data) // 2] + b"\xff" * (len(data) * 2 // 5) + data[len(data) * 9 // 10 :]


def still(frame: np.ndarray, frames: int = 16) -> Clip:
    return Clip(np.repeat(frame[None], frames, axis=0), 8)


def _sound(codec: str, seconds: float = 2) -> tuple:
    return ("-f", "lavfi", "-t", seconds, "-i", "sine=440", "-c:v", "copy", "-c:a", codec)


def _song(path: Path) -> None:
    run_ffmpeg("-f", "lavfi", "-t", 1, "-i", "sine=440", "-c:a", "aac", local(path))


def _edit_list(path: Path) -> None:
    whole = path.parent / ".whole.mp4"
    converted(30, "-c", "copy", frames=40)(whole)
    run_ffmpeg("-ss", 1.3, "-i", local(whole), "-c", "copy", local(path))
    whole.unlink()


def _nothing(path: Path) -> None:
    converted(1, before=("-ss", 99))(path)  # ffmpeg ends with 0 and writes no picture


def _hole_of_zeros(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(1500) + data[middle + 1500 :]


def _barred() -> Clip:
    frames = np.repeat(np.repeat(moving(54).frames, 2, axis=1), 2, axis=2)
    frames[:, :16] = frames[:, -16:] = 0
    return Clip(frames, 8)


def _night() -> Clip:
    """Dark but for a lamp that is carried through it."""
    clip = moving(55)
    lit = clip.frames.max(-1, keepdims=True) >= 230
    return Clip(np.where(lit, clip.frames, clip.frames // 12).astype(np.uint8), clip.fps)


def _card(path: Path) -> None:
    run_ffmpeg("-f", "lavfi", "-i", "smptehdbars=s=320x180:r=12", "-t", 2, *_X264, local(path))


def _two_tracks(path: Path) -> None:
    whole = _source(path, 57)
    tracks = ("-map", 0, "-map", 0, "-filter:v:0", "scale=32:24")
    tracks += ("-disposition:v:0", 0, "-disposition:v:1", "default")
    run_ffmpeg("-i", local(whole), *tracks, *_X264, local(path))
    whole.unlink()


_FAST = ("-c", "copy", "-movflags", "+faststart")
_X264 = ("-c:v", "libx264", "-crf", 10)
_SLOW = "setpts='if(lt(N,8),N,8+(N-8)*1.5)/(8*TB)'"

ZOO: dict[str, tuple[Maker, tuple[str, str]]] = {
    # not a video
    "empty.mp4": (content(b""), ("error", "the file is not a readable video: the file is empty")),
    "text.mp4": (content(b"<html>404</html>" * 50), ("error", "the file is not a readable")),
    "zeros.mkv": (content(b"\0" * 5000), ("error", "the file")),
    "noise.webm": (
        content(np.random.default_rng(0).bytes(4000)), ("error", "the file"),
    ),
    "song.mp4": (_song, ("error", "the file has no video track")),
    "nothing.mp4": (_nothing, ("error", "the file")),
    # damaged
    "cut_off.mp4": (part(2, lambda d: d[: len(d) * 6 // 10], *_FAST), ("error", "truncated")),
    "no_index.mp4": (
        part(3, lambda d: d[: len(d) * 6 // 10], "-c", "copy", "-movflags", "-faststart"),
        ("error", "the file is not a readable video"),
    ),
    "hole.mp4": (part(4, _hole, *_FAST), ("error", "damaged")),
    "head_only.mp4": (part(5, lambda d: d[:100]), ("error", "the file")),
    "tail.mp4": (part(6, lambda d: d + b"\0garbage" * 99), KEPT),
    # bad content
    "one_frame.mp4": (clip(lambda: moving(7, 1)), ("rejected", "too_short")),
    "blink.mp4": (clip(lambda: moving(8, 4)), ("rejected", "too_short")),
    "stamp.mp4": (
        converted(9, "-vf", "scale=24:16:flags=area", *_X264), ("rejected", "too_small"),
    ),
    "still.mp4": (clip(lambda: still(picture(10))), ("rejected", "frozen")),
    "black.mp4": (
        clip(lambda: still(np.zeros((64, 96, 3), np.uint8))), ("rejected", "under_exposed"),
    ),
    "white.mp4": (
        clip(lambda: still(np.full((64, 96, 3), 255, np.uint8))), ("rejected", "over_exposed"),
    ),
    "grey.mp4": (
        clip(lambda: still(np.full((64, 96, 3), 128, np.uint8))), ("rejected", "blank"),
    ),
    "slide_show.mp4": (clip(lambda: moving(11, 6, step=8, fps=1)), ("rejected", "too_few_frames")),
    # awkward, and good
    "variable.mp4": (converted(12, "-vf", _SLOW, "-fps_mode", "vfr", *_X264), KEPT),
    "rotated.mp4": (converted(13, "-c", "copy", before=("-display_rotation", 90)), KEPT),
    "edit_list.mp4": (_edit_list, KEPT),
    "stream.ts": (converted(14, *_X264, "-g", 8, "-bf", 2), KEPT),
    "old.mpg": (converted(15, "-c:v", "mpeg2video", "-q:v", 2, "-r", 25, "-bf", 2), KEPT),
    "older.avi": (converted(16, "-c:v", "mpeg4", "-q:v", 2, "-bf", 2), KEPT),
    "camera.avi": (converted(17, "-c:v", "mjpeg", "-q:v", 2), KEPT),
    "web.webm": (converted(18, "-c:v", "libvpx-vp9", "-crf", 20, "-cpu-used", 8), KEPT),
    "archive.mkv": (converted(19, "-c:v", "ffv1"), KEPT),
    "studio.mov": (converted(20, "-c:v", "prores_ks"), KEPT),
    "loop.gif": (converted(21), ("rejected", "unmeasured: edge_steepness")),  # all dither
    "deep.mkv": (
        converted(
            22, "-c:v", "libx265", "-pix_fmt", "yuv420p10le",
            "-x265-params", "transfer=smpte2084:log-level=error",
        ),
        KEPT,
    ),
    "odd.mkv": (converted(23, "-c:v", "ffv1", width=99, height=71), KEPT),
    "wide_pixels.mp4": (converted(24, "-vf", "setsar=2", *_X264), KEPT),
    "interlaced.mpg": (
        converted(25, "-c:v", "mpeg2video", "-q:v", 2, "-r", 25, "-flags", "+ildct+ilme"), KEPT,
    ),
    "sound.mkv": (converted(26, *_sound("wmav2")), KEPT),
    "sound.mov": (converted(27, *_sound("pcm_alaw")), KEPT),
    "long_sound.mkv": (converted(28, *_sound("flac", 6)), KEPT),
    "film.mp4": (clip(lambda: film((31, 32), 12)), KEPT),
    "not_text.txt": (converted(33, "-f", "mp4", *_X264), KEPT),
    "lies.mkv": (converted(34, "-f", "mp4", *_X264), KEPT),
    # what cameras, phones and archives add to that
    "large.mp4": (
        converted(
            44, "-vf", "scale=3840:2560:flags=neighbor", "-c:v", "libx264", "-preset", "ultrafast",
            frames=9,
        ),
        KEPT,
    ),
    "hlg.mkv": (
        converted(
            45, "-c:v", "libx265", "-pix_fmt", "yuv420p10le",
            "-x265-params", "transfer=arib-std-b67:colorprim=bt2020:log-level=error",
        ),
        KEPT,
    ),
    "mirrored.mp4": (converted(46, "-c", "copy", before=("-display_hflip",)), KEPT),
    "full_colour.mkv": (converted(47, *_X264, "-pix_fmt", "yuv444p"), KEPT),
    "deep_colour.mov": (converted(48, *_X264, "-pix_fmt", "yuv422p10le"), KEPT),
    "grey.mkv": (converted(49, "-c:v", "ffv1", "-pix_fmt", "gray"), KEPT),
    "screen.mkv": (converted(50, "-c:v", "ffv1", "-pix_fmt", "bgr0"), KEPT),
    "packed.avi": (converted(51, "-c:v", "libxvid", "-q:v", 2, "-bf", 2), KEPT),
    "b_frames.avi": (converted(52, *_X264, "-bf", 2), KEPT),
    "fast.mp4": (converted(53, "-vf", "fps=120", *_X264), KEPT),
    "letterbox.mp4": (clip(_barred), KEPT),
    "night.mp4": (clip(_night), KEPT),
    "two_tracks.mkv": (_two_tracks, KEPT),
    "test_card.mp4": (_card, ("rejected", "test_card")),
    "zeros_inside.ts": (part(58, _hole_of_zeros, *_X264, "-g", 99), ("error", "damaged")),
    "cut_off.ts": (part(59, lambda d: d[: len(d) * 6 // 10], *_X264), ("error", "damaged")),
    "cut_off.webm": (
        part(60, lambda d: d[: len(d) * 6 // 10], "-c:v", "libvpx-vp9", "-cpu-used", 8),
        ("error", "truncated"),
    ),
    # names
    "café.mp4": (clip(lambda: moving(35)), KEPT),
    "日本の花.mp4": (clip(lambda: moving(36)), KEPT),
    "two  spaces.mp4": (clip(lambda: moving(37)), KEPT),
    "it's 100% %05d.mp4": (clip(lambda: moving(38)), KEPT),
    "-leading.mp4": (clip(lambda: moving(39)), KEPT),
    "same/name.mp4": (clip(lambda: moving(40)), KEPT),
    "other/name.mp4": (clip(lambda: moving(41)), KEPT),
}  # fmt: skip
if os.name != "nt":
    ZOO["new\nline.mp4"] = (clip(lambda: moving(42)), KEPT)
    ZOO["Trip: day 1.mp4"] = (clip(lambda: moving(61)), KEPT)
    ZOO['a "quoted";|&name.mp4'] = (clip(lambda: moving(43)), KEPT)


def build(folder: Path) -> Path:
    """All fixtures in one folder, and things that are no candidates."""
    for name, (make, _) in ZOO.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path)
    (folder / "folder.mp4").mkdir()
    (folder / ".hidden.mp4").write_bytes(b"")
    shutil.copyfile(__file__, folder / "readme.txt")
    return folder
