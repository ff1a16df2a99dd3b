"""Small material of chapter 2: the collection, a sample of it, a pan and a portrait."""

import shutil
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vidgen_lab.pipeline.deliver.cut import MediaSettings, cut_clip
from vidgen_lab.pipeline.read.probing import Facts
from vidgen_lab.toyworld.raw import Planted, read_truth, write_raw
from vidgen_lab.video.clip import Clip
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
        shutil.rmtree(folder / "videos", ignore_errors=True)  # of a run that was stopped
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
    return Clip(np.stack([cv2.resize(f, size) for f in clip.frames]), clip.fps)


def pan(step: float, num_frames: int, fps: float = 8, width: int = 256, height: int = 160) -> Clip:
    """A camera that moves `step` pixels a frame along a wide painted wall, there and back."""
    wall = np.random.default_rng(5).uniform(0, 255, (height // 8, 600, 3)).astype(np.float32)
    wall = cv2.resize(wall, (4800, height), interpolation=cv2.INTER_CUBIC)
    wall = cv2.GaussianBlur(wall, (0, 0), 2)
    room = wall.shape[1] - width - 8
    places = [abs((t * step + room) % (2 * room) - room) for t in range(num_frames)]
    frames = [cv2.getRectSubPix(wall, (width, height), (p + width / 2, height / 2)) for p in places]
    return Clip(np.clip(np.stack(frames), 0, 255).astype(np.uint8), fps)


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
