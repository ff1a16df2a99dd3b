"""Small videos that readers get wrong, made once per session with the bundled ffmpeg."""

import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from vidgen_lab.video.clip import Clip
from vidgen_lab.video.writer import write_clip

WIDTH, HEIGHT, FRAMES, FPS = 96, 64, 60, 30


def ffmpeg(*args: object) -> bytes:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y", *map(str, args)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def show_all(path: Path, width: int, height: int) -> np.ndarray:
    """Ground truth: every frame as the ffmpeg program itself shows it, in order."""
    raw = ffmpeg(
        *("-i", path, "-map", "0:v:0", "-fps_mode", "passthrough"),
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-"),
    )
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


def numbered_clip(num_frames: int = FRAMES) -> Clip:
    """A bright bar, a shifting grey picture and the frame number in bits: no two frames alike."""
    x, y = np.arange(WIDTH), np.arange(HEIGHT)[:, None]
    frames = np.empty((num_frames, HEIGHT, WIDTH, 3), np.uint8)
    for t in range(num_frames):
        grey = 110 + 50 * np.sin((x + 3 * t) / 9) + 40 * np.cos((y + 2 * t) / 7)
        frames[t] = grey[..., None]
        column = t * WIDTH // num_frames
        frames[t, :32, column : column + 6] = (255, 220, 40)
        for bit in range(8):  # the frame number in the lower half, one block per bit
            frames[t, 40:56, 8 + 10 * bit : 16 + 10 * bit] = 255 * (t >> bit & 1)
    return Clip(frames, FPS)


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("videos")
    master = write_clip(numbered_clip(), folder / "master.mp4", crf=4)
    x264 = ("-c:v", "libx264", "-crf", 8, "-pix_fmt", "yuv420p")
    paths = {"plain": master}

    def make(name: str, suffix: str, *args: object, source: Path = master) -> None:
        paths[name] = folder / f"{name}{suffix}"
        ffmpeg("-i", source, *args, paths[name])

    make("long_gop", ".mp4", *x264, "-g", 250, "-bf", 3)
    make("open_gop", ".ts", *x264, "-x264-params", "open-gop=1:keyint=12:min-keyint=12:bframes=3")
    make("mpeg_ps", ".mpg", "-c:v", "mpeg2video", "-q:v", 2, "-g", 12, "-bf", 2)
    make("avi", ".avi", "-c:v", "mpeg4", "-q:v", 2, "-bf", 2, "-g", 12)
    # Steps of 1/30 s at first, 3/30 s later, as phones do in the dark.
    slow = "setpts='if(lt(N,30),N,30+(N-30)*3)/(30*TB)'"
    make("vfr", ".mp4", *x264, "-g", 24, "-bf", 2, "-vf", slow, "-fps_mode", "vfr")
    # A cut that copies the stream starts at a key frame and hides the surplus by an edit list.
    make("edit_list", ".mp4", "-c", "copy", source=paths["long_gop"])
    ffmpeg("-ss", 0.7, "-i", paths["long_gop"], "-c", "copy", paths["edit_list"])
    paths["rotated"] = folder / "rotated.mp4"
    ffmpeg("-display_rotation", 90, "-i", paths["long_gop"], "-c", "copy", paths["rotated"])
    # The same stream joined in the middle of an open GOP, without its beginning.
    paths["torn_start"] = folder / "torn_start.ts"
    data = paths["open_gop"].read_bytes()
    paths["torn_start"].write_bytes(data[len(data) // 188 * 4 // 10 * 188 :])
    return paths
