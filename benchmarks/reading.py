"""How long one training clip takes to read, and whether its frames are the right ones.

    python benchmarks/reading.py

720x480, 300 frames, B-frames, one key frame in 250; 16 frames at stride 4 from 12 random places.
Processor time, all threads together, so that a busy machine changes little.
"""

import subprocess
import tempfile
import time
from pathlib import Path

import av
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


def opencv_seek_once(path: Path, start: int) -> np.ndarray:
    """One seek, then frames grabbed in order and only the wanted ones converted."""
    capture, frames = cv2.VideoCapture(str(path)), []
    capture.set(cv2.CAP_PROP_POS_FRAMES, start)
    for step in range((COUNT - 1) * STRIDE + 1):
        capture.grab()
        if step % STRIDE == 0:
            frames.append(cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB))
    return np.stack(frames)


def pyav_from_start(path: Path, start: int) -> np.ndarray:
    """Decode from the first frame and keep the wanted ones."""
    wanted, frames = range(start, start + COUNT * STRIDE, STRIDE), []
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number in wanted:
                frames.append(frame.to_ndarray(format="rgb24"))
            if number >= wanted[-1]:
                break
    return np.stack(frames)


def with_torchcodec(path: Path, start: int) -> np.ndarray:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(str(path), seek_mode="exact", num_ffmpeg_threads=1)
    wanted = list(range(start, start + COUNT * STRIDE, STRIDE))
    return decoder.get_frames_at(wanted).data.permute(0, 2, 3, 1).numpy()


def loads(read) -> bool:
    """Whether a reader really works here; being installed is not enough."""
    try:
        read()
    except Exception as error:  # a missing library shows in as many ways as there are systems
        print(f"left out: {type(error).__name__}: {str(error).splitlines()[0][:80]}")
        return False
    return True


def main() -> None:
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = make_video(Path(folder) / "test.mp4")
        every = read_clip(path).frames.astype(np.int16)
        reader = VideoReader(path)
        ways = {
            "OpenCV, a seek for each frame": lambda start: opencv_seek_each(path, start),
            "OpenCV, one seek, then in order": lambda start: opencv_seek_once(path, start),
            "PyAV, from the start": lambda start: pyav_from_start(path, start),
            "torchcodec, exact": lambda start: with_torchcodec(path, start),
            "read_clip, file indexed each time": lambda s: read_clip(path, s, COUNT, STRIDE).frames,
            "VideoReader, indexed once": lambda start: reader.read(start, COUNT, STRIDE).frames,
        }
        if not loads(lambda: with_torchcodec(path, 0)):
            del ways["torchcodec, exact"]
        spent = {name: [] for name in ways}
        wrong = dict.fromkeys(ways, 0)
        places = np.random.default_rng(0).integers(0, len(every) - COUNT * STRIDE, PLACES)
        for start in places.tolist():  # the ways by turns: a busy moment meets them all
            right = every[start : start + COUNT * STRIDE : STRIDE]
            for name, read in ways.items():
                begin = time.process_time()
                frames = read(start)
                spent[name].append(time.process_time() - begin)
                wrong[name] += int((np.abs(frames - right).mean((1, 2, 3)) > 3).sum())
        spent = {name: float(np.median(seconds)) for name, seconds in spent.items()}
        for name, seconds in spent.items():
            print(f"{name:35s} {1000 * seconds:6.0f} ms a clip, {wrong[name]} wrong frames")
        ours = spent["read_clip, file indexed each time"]
        others = [s for name, s in spent.items() if not name.startswith(("read_clip", "VideoR"))]
        print(f"a seek for each frame takes {max(others) / ours:.1f} times as long as read_clip, "
              f"the best of the others {min(others) / ours:.2f} times")  # fmt: skip


if __name__ == "__main__":
    main()
