"""The data pipeline: scoring against the usual way, two workers against one, memory over time, one
film in containers that can and cannot be sought in, and 4K.

    python benchmarks/data_pipeline.py
    python benchmarks/data_pipeline.py --clips 6 --repeat 60      quicker
    python benchmarks/data_pipeline.py --only containers large

Ratios of one run on one machine; the first two in processor time, all threads together, so that a
busy machine changes little. Clips: 720x480, 5 s at 30 fps, B-frames, one key frame in 250.
"""

import argparse
import multiprocessing
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil

from vidgen_lab.pipeline import tasks
from vidgen_lab.pipeline.read.scenes import SceneSettings
from vidgen_lab.pipeline.select.scoring import ScoreSettings, score_video
from vidgen_lab.pipeline.workers import Worker
from vidgen_lab.video.ffmpeg import local, run_ffmpeg
from vidgen_lab.video.reader import VideoReader

PARTS = ("scoring", "workers", "memory", "containers", "large")
SAMPLES = 8  # frames a quality measure of the book looks at


def make_videos(folder: Path, count: int) -> list[Path]:
    made = []
    for number in range(count):
        source = ("testsrc2", "mandelbrot")[number % 2]
        path = folder / f"{number:02d}.mp4"
        encode = ("-c:v", "libx264", "-preset", "veryfast", "-g", 250, "-bf", 3)
        run_ffmpeg(
            *("-f", "lavfi", "-i", f"{source}=s=720x480:r=30", "-ss", number, "-t", 5),
            *(*encode, "-pix_fmt", "yuv420p", local(path)),
        )
        made.append(path)
    return made


def score_the_books_way(path: Path) -> dict[str, float]:
    """Probe, sharpness, motion, cuts and a hash, each by itself and a seek for every frame."""
    from scenedetect import ContentDetector, SceneManager, open_video

    capture = cv2.VideoCapture(str(path))
    total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))

    def frame_at(number: int) -> np.ndarray:
        capture.set(cv2.CAP_PROP_POS_FRAMES, number)
        return cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2GRAY)

    numbers = np.linspace(0, total - 1, SAMPLES).astype(int).tolist()
    sharp = [cv2.Laplacian(frame_at(n), cv2.CV_64F).var() for n in numbers]
    before, speeds = None, []
    for number in numbers:
        grey = frame_at(number)
        if before is not None:
            flow = cv2.calcOpticalFlowFarneback(before, grey, None, 0.5, 3, 15, 3, 5, 1.2, 0)
            speeds.append(float(np.linalg.norm(flow, axis=2).mean()))
        before = grey
    manager = SceneManager()
    manager.add_detector(ContentDetector())
    manager.detect_scenes(open_video(str(path)))
    middle = cv2.resize(frame_at(total // 2), (9, 8)).astype(int)
    digest = int((np.diff(middle, axis=1) > 0).sum())
    return {"sharpness": float(np.mean(sharp)), "motion": float(np.mean(speeds)), "hash": digest}


def processor_seconds(work: Callable[[Path], Any], paths: Sequence[Path]) -> float:
    began = time.process_time()
    for path in paths:
        work(path)
    return time.process_time() - began


def scoring(paths: Sequence[Path]) -> None:
    """Every measure from one pass over each file, against the book's way."""
    for work in (score_the_books_way, score_video):  # imports and caches
        work(paths[0])
    book, ours = (processor_seconds(work, paths) for work in (score_the_books_way, score_video))
    decoding = processor_seconds(
        lambda path: sum(1 for _ in VideoReader(path, shrink_to=256)), paths
    )
    print(f"scoring, the book's way          {book / len(paths):6.2f} s a clip")
    print(f"scoring, one pass                {ours / len(paths):6.2f} s a clip")
    print(f"  ratio {book / ours:.1f}, {len(paths) / ours:.2f} clips a second and core, "
          f"{decoding / ours:.0%} of the time is decoding")  # fmt: skip


def workers(paths: Sequence[Path], rounds: int = 3) -> None:
    """The same clips with one worker process and with two, started beforehand; by turns, and the
    fastest round of each, so that a busy moment counts for neither."""
    settings = {"scenes": asdict(SceneSettings()), "score": asdict(ScoreSettings())}
    todo = [{"path": str(path), **settings} for path in paths]
    staff = [Worker(tasks.score, 600) for _ in range(2)]
    try:
        for worker in staff:
            worker(todo[0])
        seconds = [[_share_out(staff[:count], todo) for count in (1, 2)] for _ in range(rounds)]
    finally:
        for worker in staff:
            worker.close()
    one, two = np.min(seconds, axis=0)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(
        f"one worker {one:.1f} s, two workers {two:.1f} s: ratio {one / two:.2f} on {cores} cores"
    )


def _share_out(staff: Sequence[Worker], todo: Sequence[dict]) -> float:
    from concurrent.futures import ThreadPoolExecutor

    began = time.perf_counter()
    with ThreadPoolExecutor(len(staff)) as pool:
        parts = [todo[n :: len(staff)] for n in range(len(staff))]
        list(
            pool.map(lambda job: [job[0](task) for task in job[1]], zip(staff, parts, strict=True))
        )
    return time.perf_counter() - began


def memory(path: Path, repeat: int) -> None:
    """Resident memory while one process scores `repeat` clips."""
    process, held = psutil.Process(), []
    for number in range(repeat):
        score_video(path)
        if number + 1 in (repeat // 6, repeat // 2, repeat):
            held.append((number + 1, process.memory_info().rss / 2**20))
    files = len(process.open_files())
    shown = ", ".join(f"{mib:.0f} MiB after {number}" for number, mib in held)
    print(f"memory: {shown}: {held[-1][1] - held[0][1]:+.0f} MiB; {files} files open")


def containers(folder: Path, shots: int) -> None:
    """Embedding and cutting the clips of one film, the same stream in three containers. Processor
    time with that of ffmpeg."""
    film, spent = folder / "film.mp4", {}
    encode = ("-c:v", "libx264", "-preset", "veryfast", "-g", 50, "-bf", 2, "-pix_fmt", "yuv420p")
    source = f"testsrc2=s=320x180:r=25:d={shots},noise=alls=12:allf=t"
    run_ffmpeg("-f", "lavfi", "-i", source, *encode, local(film))
    for suffix in (".mp4", ".ts", ".avi"):
        path = film.with_suffix(suffix)
        if path != film:
            run_ffmpeg("-i", local(film), "-c", "copy", local(path))
        total = VideoReader(path).info.num_frames
        clips = [
            {"frames": [n, min(n + 25, total)], "crop": None, "out": str(folder / f"{n}.mp4")}
            for n in range(0, total, 25)
        ]
        for name in ("embed", "export"):
            task = {"path": str(path), "embedder": "judge", "media": {}, "limit": 600}
            began = _with_children()
            for start in range(0, len(clips), tasks.CLIPS):
                done = getattr(tasks, name)(task | {"clips": clips[start : start + tasks.CLIPS]})
                assert not any("error" in result for result in done), done
            spent[name, suffix] = _with_children() - began
    for name in ("embed", "export"):
        mp4 = spent[name, ".mp4"]
        shown = ", ".join(f"{s} {spent[name, s] / mp4:.2f}" for s in (".ts", ".avi"))
        print(f"{name} of {len(clips)} clips of one film: .mp4 {mp4:.1f} s, {shown} of that")


def _with_children() -> float:
    use = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in use)


def large(folder: Path) -> None:
    """Most memory that a worker holds for a clip in 4K."""
    path = folder / "large.mp4"
    encode = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
    source = "testsrc2=s=3840x2160:r=24:d=4"
    run_ffmpeg("-f", "lavfi", "-i", source, *encode, local(path))
    clips = [{"frames": [0, 48], "crop": None}, {"frames": [48, 96], "crop": None}]
    who = {"detector": "motion", "actor": "flow", "captioner": "template"}
    for name, task in (
        ("score", {"scenes": {}, "score": {}}),
        ("embed", {"clips": clips, "embedder": "judge"}),
        ("annotate", who),
    ):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            peak, seconds = pool.submit(_peak, name, {"path": str(path), **task}).result()
        print(f"{name} of 4K, 96 frames: {peak:.0f} MiB at most, {seconds:.1f} s")


def _peak(name: str, task: dict) -> tuple[float, float]:
    began = time.process_time()
    getattr(tasks, name)(task)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return peak, time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--shots", type=int, default=126, help="clips of the film")
    parser.add_argument("--repeat", type=int, default=300, help="clips for the memory curve")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    folder = Path(tempfile.mkdtemp())
    try:
        paths = make_videos(folder, args.clips)
        if "scoring" in args.only:
            scoring(paths)
        if "workers" in args.only:
            workers(paths)
        if "memory" in args.only:
            small = folder / "small.mp4"
            run_ffmpeg("-i", local(paths[0]), "-t", 1, "-vf", "scale=320:240", local(small))
            memory(small, args.repeat)
        if "containers" in args.only:
            containers(folder, args.shots)
        if "large" in args.only:
            large(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
