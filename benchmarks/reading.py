"""How long one training clip takes to read, and whether its frames are the right ones.

    python benchmarks/reading.py

720x480, 300 frames, B-frames, one key frame in 250; 16 frames at stride 4 from 12 random places.
Processor time, all threads together, so that a busy machine changes little.
"""

import subprocess
import tempfile
import time
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np

from vidgen_lab.video.reader import VideoReader, read_clip

COUNT, STRIDE, PLACES = 16, 4, 12


def make_video(path: Path) -> Path:
    source = "testsrc2=s=720x480:r=30:d=10"
    encode = ["-c:v", "libx264", "-preset", "veryfast", "-g", "250", "-bf", "3"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i", source]
    subprocess.run([*command, *encode, "-pix_fmt", "yuv420p", str(path)], check=True)
    return path


def opencv_seek_each(path: Path, start: int) -> np.ndarray:
    """One seek per frame, as the book's loops do."""
    capture, frames = cv2.VideoCapture(str(path)), []
    for index in range(start, start + COUNT * STRIDE, STRIDE):
        capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        frames.append(cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB))
    return np.stack(frames)


def main() -> None:
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = make_video(Path(folder) / "test.mp4")
        every = read_clip(path).frames.astype(np.int16)
        reader = VideoReader(path)
        ways = {
            "OpenCV, a seek for each frame": lambda start: opencv_seek_each(path, start),
            "read_clip, file indexed each time": lambda s: read_clip(path, s, COUNT, STRIDE).frames,
            "VideoReader, indexed once": lambda start: reader.read(start, COUNT, STRIDE).frames,
        }
        starts = np.random.default_rng(0).integers(0, len(every) - COUNT * STRIDE, PLACES).tolist()
        for name, read in ways.items():
            begin = time.process_time()
            clips = [read(start) for start in starts]
            seconds = (time.process_time() - begin) / PLACES
            wrong = sum(
                np.abs(clip[i] - every[start + i * STRIDE]).mean() > 3
                for start, clip in zip(starts, clips, strict=True)
                for i in range(COUNT)
            )
            print(f"{name:35s} {1000 * seconds:6.0f} ms a clip, {wrong} wrong frames")


if __name__ == "__main__":
    main()
