"""Small material of chapter 2: the collection, clips with a known property, measured speeds."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from vidgen_lab.pipeline.deliver.cut import MediaSettings, cut_clip
from vidgen_lab.pipeline.read.probing import Facts
from vidgen_lab.pipeline.read.scenes import CutFinder, SceneSettings
from vidgen_lab.toyworld.raw import Planted, read_truth, write_raw
from vidgen_lab.video.clip import Clip
from vidgen_lab.video.ffmpeg import local, run_ffmpeg
from vidgen_lab.video.reader import VideoReader

RIGHTS = "file,licence,url,consent\n*,CC0-1.0,,made by a program: nobody is shown\n"


def collect(source: str | None, folder: Path, count: int, seed: int) -> tuple[Path, list[Planted]]:
    """(folder with videos, what is known of them): yours, or a fresh raw collection.

    source: a folder of videos; nothing is known of it, so the truth is empty. Otherwise the
    collection is written to `folder`, once.
    """
    if source is not None:
        return Path(source), []
    if not (folder / "truth.jsonl").exists():
        shutil.rmtree(folder, ignore_errors=True)
        write_raw(folder, count, seed)
        (folder / "videos" / "rights.csv").write_text(RIGHTS, encoding="utf-8")
    return folder / "videos", read_truth(folder)


def pick_sample(
    videos: Path, truth: Sequence[Planted], facts: Mapping[str, Facts], folder: Path
) -> Path:
    """One clip to look at closely: a clean one, or a small excerpt of your smallest video."""
    for planted in truth:
        if planted.kind == "clean":
            return videos / planted.file
    if not facts:
        raise ValueError(f"no file in {videos} could be opened")
    name = min(facts, key=lambda n: (facts[n].num_frames * facts[n].width * facts[n].height, n))
    excerpt = MediaSettings(size=(320, 240), mode="fit")
    cut_clip(videos / name, folder / "excerpt.mp4", (0, min(120, facts[name].num_frames)), excerpt)
    return folder / "excerpt.mp4"


def glimpse(path: str | Path, frames: int = 48, width: int = 240) -> Clip:
    """At most so many frames of a file, evenly spaced, no wider than `width`: enough to show."""
    reader = VideoReader(path)
    stride = -(-reader.info.num_frames // frames)
    clip = reader.read(0, len(range(0, reader.info.num_frames, stride)), stride)
    scale = min(1.0, width / clip.width)
    size = (2 * max(1, round(clip.width * scale / 2)), 2 * max(1, round(clip.height * scale / 2)))
    return resized(clip, size)


def pan(step: float, num_frames: int, fps: float = 8, width: int = 256, height: int = 160) -> Clip:
    """A camera that moves `step` pixels a frame along a wide painted wall, there and back."""
    rng = np.random.default_rng(5)
    wall = rng.uniform(0, 255, (height // 8, 600, 3)).astype(np.float32)
    wall = cv2.resize(wall, (4800, height), interpolation=cv2.INTER_CUBIC)
    wall = cv2.GaussianBlur(wall, (0, 0), 2)
    room = wall.shape[1] - width - 8
    places = [abs((t * step + room) % (2 * room) - room) for t in range(num_frames)]
    frames = [cv2.getRectSubPix(wall, (width, height), (p + width / 2, height / 2)) for p in places]
    return Clip(np.clip(np.stack(frames), 0, 255).astype(np.uint8), fps)


def sampled_flow(frames: Sequence[np.ndarray], samples: int) -> float:
    """Motion as many filters measure it: mean flow, in pixels, between frames that lie far apart.

    The result depends on how far apart they are; `metrics.flow` does not.
    """
    numbers = np.linspace(0, len(frames) - 1, samples).astype(int)
    grey = [cv2.cvtColor(frames[n], cv2.COLOR_RGB2GRAY) for n in numbers]
    options = (None, 0.5, 3, 15, 3, 5, 1.2, 0)
    flows = [
        cv2.calcOpticalFlowFarneback(a, b, *options) for a, b in zip(grey, grey[1:], strict=False)
    ]
    return float(np.mean([np.hypot(*np.moveaxis(f, -1, 0)).mean() for f in flows]))


def first_come(scores: np.ndarray, cuts: Sequence[int], budget: int) -> list[int]:
    """A selection that collects candidates, sorts them and stops when the budget is full."""
    busy = np.flatnonzero(scores > np.quantile(scores, 0.75)).tolist()
    even = np.linspace(0, len(scores) - 1, max(2, budget // 3)).astype(int).tolist()
    return sorted({*cuts, *busy, *even})[:budget]


def cross_fade(a: Clip, b: Clip, length: int) -> Clip:
    """The end of `a` turns into the beginning of `b` over `length` frames."""
    share = np.linspace(0, 1, length + 2)[1:-1, None, None, None]
    mixed = a.frames[-length:] * (1 - share) + b.frames[:length] * share
    parts = [a.frames[:-length], np.rint(mixed).astype(np.uint8), b.frames[length:]]
    return Clip(np.concatenate(parts), a.fps)


def jittery(frames: Sequence[np.ndarray], delay: float, seed: int = 0) -> Iterator[np.ndarray]:
    """A source as a network is: every frame comes `delay` seconds after the last, more or less."""
    rng = np.random.default_rng(seed)
    for frame in frames:
        time.sleep(float(rng.gamma(0.6, delay / 0.6)))
        yield frame


@cache
def _face_cascade() -> Any:
    from skimage import data
    from skimage.feature import Cascade

    return Cascade(data.lbp_frontal_face_cascade_filename())


def find_faces(frame: np.ndarray) -> list[list[int]]:
    """Boxes [x, y, width, height] of faces that look at the camera; a cascade of 2011, no weights.

    It misses faces in profile: use a trained detector where people depend on it.
    """
    side = min(frame.shape[:2])
    found = _face_cascade().detect_multi_scale(
        img=frame, scale_factor=1.2, step_ratio=1,
        min_size=(side // 5, side // 5), max_size=(side // 2, side // 2),
    )  # fmt: skip
    return [[f["c"], f["r"], f["width"], f["height"]] for f in found]


def portrait_clip(num_frames: int = 9, side: int = 200) -> Clip:
    """A camera drifts over a portrait of Eileen Collins (NASA, public domain)."""
    from skimage import data

    photo = cv2.resize(data.astronaut(), (320, 320), interpolation=cv2.INTER_AREA)
    frames = []
    for t in np.linspace(0, 1, num_frames):
        x, y = round(20 + 60 * t), round(10 * np.sin(3 * t))
        frames.append(photo[max(0, y) : max(0, y) + side, x : x + side])
    return Clip(np.stack(frames), 8)


def tool_speeds(path: str | Path, seconds: float = 1.0) -> pd.DataFrame:
    """Frames a second of each tool at its own job, on this machine and this file."""
    frames = list(VideoReader(path))
    finder = CutFinder(8, SceneSettings())
    jobs: dict[str, tuple[str, Callable[[], Any], int]] = {
        "PyAV": ("decode to RGB", lambda: sum(1 for _ in VideoReader(path)), len(frames)),
        "FFmpeg": (
            "decode, encode H.264 veryfast",
            lambda: run_ffmpeg("-i", local(path), "-preset", "veryfast", "-f", "null", "-"),
            len(frames),
        ),
        "OpenCV": (
            "sharpness of a frame",
            lambda: [cv2.Laplacian(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), 6).var() for f in frames],
            len(frames),
        ),
        "PySceneDetect": ("look for a cut", lambda: [finder.add(f) for f in frames], len(frames)),
    }
    rows = []
    for tool, (job, work, count) in jobs.items():
        began, rounds = time.perf_counter(), 0
        while not rounds or time.perf_counter() - began < seconds / len(jobs):
            work()
            rounds += 1
        spent = time.perf_counter() - began
        rows.append({"tool": tool, "job": job, "frames a second": round(count * rounds / spent)})
    return pd.DataFrame(rows).set_index("tool")


def with_logo(clip: Clip, text: str) -> Clip:
    """A copy with white lettering in the corner of every frame."""
    frames = clip.frames.copy()
    place = (clip.width - 9 * len(text), 16)
    for frame in frames:
        cv2.putText(frame, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255,) * 3, 1, cv2.LINE_AA)
    return Clip(frames, clip.fps)


def page_of_text(line: str, width: int = 200, height: int = 110) -> np.ndarray:
    """A white page with the same line of text five times, uint8 [H, W, 3]."""
    page = np.full((height, width, 3), 245, np.uint8)
    for row in range(5):
        place = (8, 20 + 20 * row)
        cv2.putText(page, line, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (20,) * 3, 1, cv2.LINE_AA)
    return page


def miniature_ucf101(root: Path) -> tuple[Path, Path]:
    """Two empty clips and their lists in UCF101's layout: (folder of videos, folder of lists)."""
    videos, lists = root / "ucf101", root / "ucf101_lists"
    for folder in (videos / "Archery", lists):
        folder.mkdir(parents=True, exist_ok=True)
    for split, group, label in (("test", 1, ""), ("train", 8, " 1")):
        name = f"Archery/v_Archery_g{group:02d}_c01.avi"
        (videos / name).write_bytes(b"")
        (lists / f"{split}list01.txt").write_text(f"{name}{label}\n", encoding="utf-8")
    return videos, lists


def draw_boxes(clip: Clip, objects: Sequence[dict[str, Any]], scale: int = 2) -> np.ndarray:
    """The frames that objects were seen in, side by side, each with its boxes; uint8 [H, W, 3]."""
    strip = []
    for number in sorted({thing["frame"] for thing in objects})[:4] or [0]:
        big = np.kron(clip.frames[number], np.ones((scale, scale, 1), np.uint8))
        for x, y, w, h in (o["box"] for o in objects if o["frame"] == number):
            corners = [round(scale * v) for v in (x, y, x + w, y + h)]
            cv2.rectangle(big, corners[:2], corners[2:], (230, 60, 60), 2)
        strip.append(big)
    return np.hstack(strip)


def resized(clip: Clip, size: tuple[int, int]) -> Clip:
    """The clip at another (width, height), the shape of its pictures included."""
    return Clip(np.stack([cv2.resize(f, size) for f in clip.frames]), clip.fps)
