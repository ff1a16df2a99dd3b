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
from vidgen_lab.pipeline.deliver import cut, hdr
from vidgen_lab.pipeline.deliver.cut import Cut, MediaSettings, cut_clips
from vidgen_lab.pipeline.read import pictures, probing, scenes
from vidgen_lab.pipeline.read.scenes import SceneSettings
from vidgen_lab.pipeline.select import duplicates, nearby, sameness, scoring, signatures
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


def embed(task: dict[str, Any]) -> list[dict[str, Any]]:
    """{path, embedder, download, clips: [{frames, crop}]} -> for each clip {"value": vector}, at
    four digits: more hang on the machine."""
    embedder = registry.make(registry.EMBEDDERS, task["embedder"], task.get("download", False))
    vectors = []
    for clip, wanted in zip(_glances(task, 16), task["clips"], strict=True):
        if wanted["crop"]:
            x, y, width, height = (round(c / clip.meta["reduced"]) for c in wanted["crop"])
            clip = Clip(clip.frames[:, y : y + height, x : x + width], clip.fps, clip.meta)
        with _one_thread():
            vector = embedder.embed(clip)
        vectors.append({"value": [float(f"{x:.4g}") for x in vector.tolist()]})
    return vectors


def export(task: dict[str, Any]) -> list[dict[str, Any]]:
    """{path, media, limit, clips: [{frames, crop, out}]} -> for each clip {"value": what is true of
    the file that was written} or {"error": reason}; the video is decoded once for all of them."""
    settings = MediaSettings(**task["media"])
    cuts = [
        Cut(Path(c["out"]), *c["frames"], tuple(c["crop"]) if c["crop"] else None)
        for c in task["clips"]
    ]
    done = cut_clips(task["path"], cuts, settings, task["limit"])
    names = ("width", "height", "fps", "num_frames", "seconds", "bytes")
    return [
        {"error": f"{type(facts).__name__}: {facts}"}
        if isinstance(facts, Exception)
        else {"value": {n: getattr(facts, n) for n in names} | {"sha256": file_sha256(cut.out)}}
        for cut, facts in zip(cuts, done, strict=True)
    ]


def annotate(task: dict[str, Any]) -> dict[str, Any]:
    """{path, detector, actor, captioner, download} -> objects, actions, caption, annotators."""
    (clip,), fetch = _glances(task, _LOOKS), task.get("download", False)
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


def _glances(task: dict[str, Any], looks: int) -> Iterator[Clip]:
    """For each of the task's clips at most `looks` frames, evenly spaced and reduced: long and large
    clips cost no more memory than short and small ones. Without clips: the whole video."""
    video = VideoReader(task["path"], shrink_to=_GLANCE_SIDE)
    spans = []
    for first, end in (c["frames"] for c in task.get("clips", [{"frames": (0, len(video.times))}])):
        stride = max(1, -(-(end - first) // looks))
        spans.append((first, len(range(first, end, stride)), stride))
    for clip in video.read_spans(spans):
        reduced = video.info.width / clip.width
        yield Clip(clip.frames, clip.fps, {**clip.meta, "reduced": reduced})


def _judge_version() -> str:
    """Other weights, other embeddings."""
    return file_sha256(model_dir("toy-judge") / "model.safetensors")[:12]


_READING = (reader, index, damage, orientation)
VERSIONS = {
    "score": code_version(scoring, scenes, pictures, probing, signatures, flow, *_READING),
    "duplicates": code_version(duplicates, nearby, sameness, signatures),
    "embed": code_version(annotators, registry, *_READING) + _judge_version(),
    "export": code_version(cut, hdr, probing, *_READING),
    "annotate": code_version(annotators, registry, *_READING),
}
