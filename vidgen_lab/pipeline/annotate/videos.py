"""Annotating whole videos (2.L12), turning detections into clips (2.L06), hiding regions."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vidgen_lab.files import plain
from vidgen_lab.pipeline.annotate.annotators import (
    ActionRecognizer,
    Captioner,
    Detector,
    FlowActions,
    MotionDetector,
    TemplateCaptioner,
    annotate_clip,
)
from vidgen_lab.pipeline.read.scenes import SceneDetector
from vidgen_lab.video.clip import Clip
from vidgen_lab.video.reader import VideoError, VideoReader

_SAMPLES = 48


class ScalableAnnotationPipeline:
    """Scenes of a video, each with its objects, actions and caption.

    Any object with the method of `annotators` may stand in for the embedded ones.
    """

    def __init__(
        self,
        detector: Detector | None = None,
        actor: ActionRecognizer | None = None,
        captioner: Captioner | None = None,
        scenes: SceneDetector | None = None,
    ) -> None:
        self.annotators = (
            detector or MotionDetector(),
            actor or FlowActions(),
            captioner or TemplateCaptioner(),
        )
        self.scenes = scenes or SceneDetector()

    def annotate_single_video(self, path: str | Path) -> dict[str, Any]:
        """{file, scenes: [{frames, span, objects, actions, caption, annotators}]}.

        Frame numbers of objects are those of the video. Raises VideoError, FileNotFoundError.
        """
        path, scenes = Path(path), []
        reader = VideoReader(path)
        for span in self.scenes.detect_scenes(path):
            stride = max(1, -(-span.num_frames // _SAMPLES))
            clip = reader.read(span.first, len(range(span.first, span.end, stride)), stride)
            found = annotate_clip(clip, *self.annotators)
            for thing in found["objects"]:
                thing["frame"] = span.first + thing["frame"] * stride
            place = {"frames": [span.first, span.end], "span": [span.start, span.stop]}
            scenes.append({**place, **found})
        return plain({"file": path.name, "scenes": scenes})

    def annotate_video_batch(self, paths: Iterable[str | Path]) -> list[dict[str, Any]]:
        """One result a path, in their order; a broken video has an "error" and stops nobody."""
        results = []
        for path in paths:
            try:
                results.append(self.annotate_single_video(path))
            except (VideoError, OSError) as error:
                results.append({"file": Path(path).name, "error": str(error)})
        return results


@dataclass(frozen=True)
class Segment:
    """Frames [start, end) in which something was seen, with its highest and mean score."""

    start: int
    end: int
    best: float
    mean: float


def extract_annotated_clips(
    annotations: Sequence[dict[str, Any]],
    action_type: str,
    num_frames: int,
    gap: int = 5,
    least: int = 2,
    pad: int = 0,
) -> list[Segment]:
    """Merge single detections of one action into spans worth cutting (book listing 2.L06).

    annotations: each with "action" or "label", and "frame_id" or "start" and "end"; "score" or
    "confidence" is 1 when absent. gap: detections at most this many frames apart belong together.
    least: shorter spans are noise. pad: frames added on both sides, within the video.
    Raises ValueError naming an annotation without a place.
    """
    hits = sorted(
        (*_place(a), float(a.get("score", a.get("confidence", 1.0))))
        for a in annotations
        if a.get("action", a.get("label")) == action_type
    )
    spans: list[tuple[int, int, list[float]]] = []
    for start, end, score in hits:
        if spans and start - spans[-1][1] <= gap:
            first, last, scores = spans[-1]
            spans[-1] = (first, max(last, end), [*scores, score])
        else:
            spans.append((start, end, [score]))
    return [
        Segment(max(0, s - pad), min(num_frames, e + pad), max(scores), float(np.mean(scores)))
        for s, e, scores in spans
        if e - s >= least
    ]


def _place(annotation: dict[str, Any]) -> tuple[int, int]:
    if "frame_id" in annotation:
        return int(annotation["frame_id"]), int(annotation["frame_id"]) + 1
    if "start" in annotation and "end" in annotation:
        start, end = int(annotation["start"]), int(annotation["end"])
        if 0 <= start < end:
            return start, end
    raise ValueError(f"an annotation needs frame_id, or start before end: {annotation}")


def blur_regions(
    clip: Clip, find: Callable[[np.ndarray], Sequence[Sequence[float]]], grow: float = 0.2
) -> Clip:
    """Make regions of every frame unrecognisable: pixelated into 6 blocks a side, then smoothed.

    find: frame -> boxes [x, y, width, height], a face detector for example. grow: share by which
    boxes are enlarged. A region also covers the frame before and after it, since detectors miss.
    """
    boxes = [[_grown(box, grow, frame.shape) for box in find(frame)] for frame in clip.frames]
    frames = clip.frames.copy()
    for number, frame in enumerate(frames):
        near = boxes[max(0, number - 1) : number + 2]
        for x0, y0, x1, y1 in (box for found in near for box in found):
            region = frame[y0:y1, x0:x1]
            if region.size:
                small = cv2.resize(region, (6, 6), interpolation=cv2.INTER_AREA)
                size = (x1 - x0, y1 - y0)
                frame[y0:y1, x0:x1] = cv2.resize(small, size, interpolation=cv2.INTER_LINEAR)
    return Clip(frames, clip.fps, clip.meta)


def _grown(box: Sequence[float], grow: float, shape: tuple[int, ...]) -> tuple[int, ...]:
    x, y, w, h = box
    dx, dy = grow * w, grow * h
    x0, y0 = max(0, int(x - dx)), max(0, int(y - dy))
    return x0, y0, min(shape[1], int(np.ceil(x + w + dx))), min(shape[0], int(np.ceil(y + h + dy)))
