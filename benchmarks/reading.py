"""How fast videos are read, and whether the frames are the right ones.

    python benchmarks/reading.py
    python benchmarks/reading.py clips/*.mp4        files of your own beside the made ones

Every file is read from end to end by each reader, one thread each for decoding and for converting;
then 16 frames at stride 4 are read from 12 random places of the first file. Processor time, all
threads together, by turns and the fastest of three, so that a busy machine changes little.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np

from vidgen_lab.video.ffmpeg import local, run_ffmpeg
from vidgen_lab.video.reader import VideoReader, read_clip

COUNT, STRIDE, PLACES, ROUNDS = 16, 4, 12, 3
KINDS = {
    "h264.mp4": ("720x480", 300, ("libx264", "-preset", "veryfast", "-g", 250, "-bf", 3)),
    "large.mp4": ("1920x1080", 60, ("libx264", "-preset", "veryfast", "-g", 60, "-bf", 2)),
    "small.mp4": ("176x144", 120, ("libx264", "-preset", "veryfast")),
    "stream.ts": ("720x480", 120, ("libx264", "-preset", "veryfast", "-g", 25, "-bf", 2)),
    "hevc.mp4": ("720x480", 120, ("libx265", "-preset", "ultrafast")),
    "vp9.webm": ("720x480", 120, ("libvpx-vp9", "-cpu-used", 8, "-b:v", "2M")),
    "old.avi": ("640x480", 150, ("mpeg4", "-q:v", 4, "-bf", 2)),
    "camera.avi": ("640x480", 100, ("mjpeg", "-q:v", 3, "-pix_fmt", "yuvj420p")),
    "turned.mp4": ("720x480", 120, ("libx264", "-preset", "veryfast")),
}  # fmt: skip
Frames = Iterator[np.ndarray]


def make(folder: Path, name: str) -> Path:
    size, frames, codec = KINDS[name]
    path = folder / name
    grain = "noise=alls=8:allf=t"
    source = ("-f", "lavfi", "-i", f"testsrc2=s={size}:r=30,{grain}", "-frames:v", frames)
    pixels = () if "-pix_fmt" in codec else ("-pix_fmt", "yuv420p")
    run_ffmpeg(*source, "-c:v", *codec, *pixels, local(path))
    if name.startswith("turned"):
        plain = path.rename(folder / "plain.mp4")
        run_ffmpeg("-display_rotation", 90, "-i", local(plain), "-c", "copy", local(path))
    return path


def ours(path: Path) -> Frames:
    return iter(VideoReader(path))


def with_pyav(path: Path) -> Frames:
    """PyAV's own loop; pictures are not turned."""
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24", threads=1)


def with_opencv(path: Path) -> Frames:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    while True:
        found, picture = capture.read()
        if not found:
            return
        yield cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def with_torchcodec(path: Path) -> Frames:
    from torchcodec.decoders import VideoDecoder

    for frame in VideoDecoder(str(path), num_ffmpeg_threads=1):
        yield frame.permute(1, 2, 0).numpy()


def loads(read: Callable[[], object]) -> bool:
    """Whether a reader really works here; being installed is not enough."""
    try:
        read()
    except Exception as error:  # a missing library shows in as many ways as there are systems
        print(f"left out: {type(error).__name__}: {str(error).splitlines()[0][:80]}")
        return False
    return True


def whole_files(paths: list[Path]) -> None:
    """Seconds for whole files, as multiples of PyAV's own loop."""
    ways = {"ours": ours, "PyAV": with_pyav, "cv2": with_opencv, "torchcodec": with_torchcodec}
    if not loads(lambda: next(with_torchcodec(paths[0]))):
        del ways["torchcodec"]
    ratios: dict[str, list[float]] = {name: [] for name in ways}
    for path in paths:
        spent = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, way in ways.items():
                begin = time.process_time()
                count = sum(1 for _ in way(path))
                spent[name].append(time.process_time() - begin)
        exact = all(
            np.array_equal(np.rot90(b, VideoReader(path).info.rotation // 90), a)
            for a, b in zip(ours(path), with_pyav(path), strict=True)
        )
        best = {name: min(seconds) for name, seconds in spent.items()}
        for name in ways:
            ratios[name].append(best[name] / best["PyAV"])
        shown = ", ".join(f"{name} {ratios[name][-1]:.2f}" for name in ways if name != "PyAV")
        print(f"{path.name:28.28} {count:4} frames, PyAV {1000 * best['PyAV']:5.0f} ms; "
              f"{shown}; {'exact' if exact else 'OTHER FRAMES'}")  # fmt: skip
    for name, values in ratios.items():
        if name != "PyAV":
            print(f"{name}: median {np.median(values):.2f}, worst {max(values):.2f} of PyAV's time")


def seek_each(path: Path, start: int) -> np.ndarray:
    """One seek per frame with OpenCV, as the book's loops do."""
    capture, frames = cv2.VideoCapture(str(path)), []
    for index in range(start, start + COUNT * STRIDE, STRIDE):
        capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        frames.append(cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB))
    return np.stack(frames)


def seek_once(path: Path, start: int) -> np.ndarray:
    """One seek with OpenCV, then frames grabbed in order and only the wanted ones converted."""
    capture, frames = cv2.VideoCapture(str(path)), []
    capture.set(cv2.CAP_PROP_POS_FRAMES, start)
    for step in range((COUNT - 1) * STRIDE + 1):
        capture.grab()
        if step % STRIDE == 0:
            frames.append(cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB))
    return np.stack(frames)


def random_places(path: Path) -> None:
    """Milliseconds for one training clip."""
    every, reader = read_clip(path).frames.astype(np.int16), VideoReader(path)
    ways = {
        "OpenCV, a seek for each frame": lambda start: seek_each(path, start),
        "OpenCV, one seek, then in order": lambda start: seek_once(path, start),
        "read_clip, file indexed each time": lambda s: read_clip(path, s, COUNT, STRIDE).frames,
        "VideoReader, indexed once": lambda start: reader.read(start, COUNT, STRIDE).frames,
    }
    spent, wrong = {name: [] for name in ways}, dict.fromkeys(ways, 0)
    places = np.random.default_rng(0).integers(0, len(every) - COUNT * STRIDE, PLACES)
    for start in places.tolist():
        right = every[start : start + COUNT * STRIDE : STRIDE]
        for name, read in ways.items():
            begin = time.process_time()
            frames = read(start)
            spent[name].append(time.process_time() - begin)
            wrong[name] += int((np.abs(frames - right).mean((1, 2, 3)) > 3).sum())
    for name, seconds in spent.items():
        print(f"{name:35s} {1000 * np.median(seconds):6.0f} ms a clip, {wrong[name]} wrong frames")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        paths = [make(Path(folder), name) for name in KINDS]
        whole_files([*paths, *args.files])
        random_places(paths[0])


if __name__ == "__main__":
    main()
