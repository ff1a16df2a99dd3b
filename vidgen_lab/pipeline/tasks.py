"""What workers do: pure functions from a plain task to a plain result, one per kind of work."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2

from vidgen_lab.files import file_sha256
from vidgen_lab.journal import code_version
from vidgen_lab.metrics import flow
from vidgen_lab.paths import model_dir
from vidgen_lab.pipeline.annotate import annotators, registry
from vidgen_lab.pipeline.deliver import cut
from vidgen_lab.pipeline.deliver.cut import MediaSettings, cut_clip
from vidgen_lab.pipeline.read import pictures, probing, scenes
from vidgen_lab.pipeline.read.scenes import SceneSettings
from vidgen_lab.pipeline.select import scoring
from vidgen_lab.pipeline.select.scoring import ScoreSettings, score_video
from vidgen_lab.video import damage, index, orientation, reader
from vidgen_lab.video.clip import Clip
from vidgen_lab.video.reader import VideoReader

_LOOKS = 48  # frames at most that an annotator gets to see
_GLANCE_SIDE = 512  # pixels of their shorter side, at most; models look at 224 to 448


def hash_source(task: dict[str, Any]) -> str:
    """{path} -> sha256 of the file."""
    return file_sha256(Path(task["path"]))


def score(task: dict[str, Any]) -> dict[str, Any]:
    """{path, scenes, score} -> facts and clips of `scoring.score_video`."""
    settings = SceneSettings(**task["scenes"]), ScoreSettings(**task["score"])
    with _one_thread():
        return score_video(task["path"], *settings)


def embed(task: dict[str, Any]) -> list[float]:
    """{path, frames, embedder, download} -> vector, at four digits: more hang on the machine."""
    clip, fetch = _glance(task["path"], task["frames"], 16), task.get("download", False)
    with _one_thread():
        vector = registry.make(registry.EMBEDDERS, task["embedder"], fetch).embed(clip)
    return [float(f"{x:.4g}") for x in vector.tolist()]


def export(task: dict[str, Any]) -> dict[str, Any]:
    """{path, frames, media, out, limit} -> what is true of the file that was written."""
    out = Path(task["out"])
    settings = MediaSettings(**task["media"])
    facts = cut_clip(task["path"], out, tuple(task["frames"]), settings, task["limit"])
    names = ("width", "height", "fps", "num_frames", "seconds", "bytes")
    return {name: getattr(facts, name) for name in names} | {"sha256": file_sha256(out)}


def annotate(task: dict[str, Any]) -> dict[str, Any]:
    """{path, detector, actor, captioner, download} -> objects, actions, caption, annotators."""
    clip, fetch = _glance(task["path"], None, _LOOKS), task.get("download", False)
    roles = ("detector", "actor", "captioner")
    who = [registry.make(registry.TABLES[role], task[role], fetch) for role in roles]
    with _one_thread():
        found = annotators.annotate_clip(clip, *who)
    for thing in found["objects"]:  # in pixels of the file, not of the glance
        thing["box"] = [round(value * clip.meta["reduced"]) for value in thing["box"]]
    return found


@contextmanager
def _one_thread() -> Iterator[None]:
    """OpenCV's flow differs in the last digits with the number of threads; the results may not."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _glance(path: str, frames: tuple[int, int] | None, looks: int) -> Clip:
    """At most `looks` frames, evenly spaced and reduced, so that a long or large clip costs no more
    memory than a short or small one."""
    video = VideoReader(path, shrink_to=_GLANCE_SIDE)
    first, end = frames or (0, video.info.num_frames)
    stride = max(1, -(-(end - first) // looks))
    clip = video.read(first, len(range(first, end, stride)), stride)
    reduced = video.info.width / clip.width
    return Clip(clip.frames, clip.fps, {**clip.meta, "reduced": reduced})


def _judge_version() -> str:
    """Other weights, other embeddings."""
    return file_sha256(model_dir("toy-judge") / "model.safetensors")[:12]


_READING = (reader, index, damage, orientation)
VERSIONS = {
    "score": code_version(scoring, scenes, pictures, probing, flow, *_READING),
    "embed": code_version(annotators, registry, *_READING) + _judge_version(),
    "export": code_version(cut, probing, *_READING),
    "annotate": code_version(annotators, registry, *_READING),
}
