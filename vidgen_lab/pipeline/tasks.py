"""What workers do: pure functions from a plain task to a plain result, one per kind of work."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2

from vidgen_lab.files import file_sha256
from vidgen_lab.paths import model_dir
from vidgen_lab.pipeline.annotate import annotators
from vidgen_lab.pipeline.deliver.cut import Cut, MediaSettings, cut_clips
from vidgen_lab.pipeline.read.scenes import SceneSettings
from vidgen_lab.pipeline.select.scoring import ScoreSettings, score_video
from vidgen_lab.video.clip import Clip
from vidgen_lab.video.ffmpeg import run_ffmpeg

# Stages that work on several clips of a video at once, and what is each clip's own.
CLIPS = 64  # so many at most
TOGETHER = {"embed": ("frames", "crop"), "export": ("frames", "crop", "out")}
# How a result is made: a number that is raised whenever equal input may give another result than
# before, wherever in the package the reason lies (tests/pipeline/test_recipes.py notices when
# somebody forgets), and the libraries whose version may matter.
RECIPES = {
    "score": (10, ("av", "cv2", "numpy", "scenedetect")),
    "embed": (5, ("av", "cv2", "numpy")),
    "duplicates": (3, ("cv2", "numpy")),
    "export": (5, ("av", "ffmpeg")),
    "annotate": (4, ("av", "cv2", "numpy")),
}


def made_by(stage: str, task: Mapping[str, Any]) -> dict[str, str]:
    """Everything but input and settings that the result of a task depends on, by name."""
    number, libraries = RECIPES[stage][0], {*RECIPES[stage][1]}
    chosen = [table.get(task.get(role)) for role, table in annotators.ANNOTATORS.items()]
    if any(isinstance(kind, str) for kind in chosen):
        libraries |= {"torch", "transformers"}
    if annotators.JudgeEmbedder in chosen:
        libraries |= {"torch", "toy-judge"}
    return {"recipe": str(number)} | {name: library_version(name) for name in libraries}


@lru_cache
def library_version(name: str) -> str:
    """The version of a library, of ffmpeg, or of the embedded judge's weights."""
    if name == "ffmpeg":
        return run_ffmpeg("-version").decode("utf-8", "replace").splitlines()[0]
    if name == "toy-judge":
        return file_sha256(model_dir(name) / "model.safetensors")[:12]
    if name in ("torch", "transformers"):  # slow to import
        return version(name)
    return import_module(name).__version__  # several packages bring cv2, and scenedetect


@contextmanager
def _one_thread() -> Iterator[None]:
    """OpenCV's flow differs in the last digits with the number of threads; the results may not."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def load(task: dict[str, Any]) -> None:
    """{role, name, download}: make sure that an annotator's weights are here and can be loaded."""
    annotators.make(task["role"], task["name"], task["download"])


@_one_thread()
def score(task: dict[str, Any]) -> dict[str, Any]:
    """{path, scenes, score} -> facts and clips of `scoring.score_video`."""
    settings = SceneSettings(**task["scenes"]), ScoreSettings(**task["score"])
    return score_video(task["path"], *settings)


@_one_thread()
def embed(task: dict[str, Any]) -> list[dict[str, Any]]:
    """{path, embedder, download, clips: [{frames, crop}]} -> for each clip {"value": vector}, at
    four digits: more hang on the machine. A video that cannot be sought in is decoded once."""
    embedder = annotators.make("embedder", task["embedder"], task.get("download", False))
    spans, vectors = [clip["frames"] for clip in task["clips"]], []
    clips = annotators.sample_clips(task["path"], spans, 16)
    for clip, wanted in zip(clips, task["clips"], strict=True):
        if wanted["crop"]:
            x, y, width, height = (round(c / clip.meta["reduced"]) for c in wanted["crop"])
            clip = Clip(clip.frames[:, y : y + height, x : x + width], clip.fps, clip.meta)
        vector = embedder.embed(clip).tolist()
        vectors.append({"value": [float(f"{x:.4g}") for x in vector]})
    return vectors


def export(task: dict[str, Any]) -> list[dict[str, Any]]:
    """{path, media, limit, clips: [{frames, crop, out}]} -> for each clip {"value": what is true of
    the file that was written} or {"error": reason}; the video is decoded once for all of them."""
    cuts = [
        Cut(Path(c["out"]), *c["frames"], tuple(c["crop"]) if c["crop"] else None)
        for c in task["clips"]
    ]
    done = cut_clips(task["path"], cuts, MediaSettings(**task["media"]), task["limit"])
    names = ("width", "height", "fps", "num_frames", "seconds", "bytes")
    return [
        {"error": f"{type(facts).__name__}: {facts}"}
        if isinstance(facts, Exception)
        else {"value": {n: getattr(facts, n) for n in names} | {"sha256": file_sha256(cut.out)}}
        for cut, facts in zip(cuts, done, strict=True)
    ]


@_one_thread()
def annotate(task: dict[str, Any]) -> dict[str, Any]:
    """{path, detector, actor, captioner, download} -> objects, actions, caption, annotators."""
    fetch = task.get("download", False)
    roles = ("detector", "actor", "captioner")
    who = [annotators.make(role, task[role], fetch) for role in roles]
    (clip,) = annotators.sample_clips(task["path"], [None])
    return annotators.annotate_clip(clip, *who)
