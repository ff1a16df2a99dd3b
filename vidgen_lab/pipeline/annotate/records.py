"""What an annotation looks like: boxes, masks as run lengths, spans; checked before it is trusted.

One annotation is a plain dictionary with `kind` and the fields of that kind, so that it travels as
a line of JSON:

    {"kind": "box", "frame": 3, "box": [x, y, width, height], "label": "dog"}
    {"kind": "mask", "frame": 3, "size": [height, width], "runs": [...], "label": "dog"}
    {"kind": "span", "start": 10, "end": 42, "label": "jumping"}        frames [start, end)
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

KINDS = ("box", "mask", "span")


class BadAnnotation(ValueError):
    """An annotation that no training code could use; the message says what is wrong with it."""


def check_annotation(
    annotation: Mapping[str, Any], num_frames: int, width: int, height: int
) -> None:
    """Raises BadAnnotation unless the annotation fits a video of this length and size."""
    kind = annotation.get("kind")
    if kind not in KINDS:
        raise BadAnnotation(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
    if not str(annotation.get("label", "")).strip():
        raise BadAnnotation(f"a {kind} without a label")
    score = annotation.get("score", 1.0)
    if not 0 <= score <= 1:
        raise BadAnnotation(f"a score lies in 0..1, not {score}")
    if kind == "span":
        start, end = annotation.get("start", -1), annotation.get("end", -1)
        if not 0 <= start < end <= num_frames:
            raise BadAnnotation(f"frames [{start}, {end}) are no span of {num_frames} frames")
        return
    if not 0 <= annotation.get("frame", -1) < num_frames:
        raise BadAnnotation(f"frame {annotation.get('frame')} is not in {num_frames} frames")
    (_check_box if kind == "box" else _check_mask)(annotation, width, height)


def _check_box(annotation: Mapping[str, Any], width: int, height: int) -> None:
    x, y, w, h = annotation.get("box", (0, 0, 0, 0))
    if not (w > 0 and h > 0):
        raise BadAnnotation(f"the box {[x, y, w, h]} has no area; it is [x, y, width, height]")
    if x < 0 or y < 0 or x + w > width or y + h > height:
        raise BadAnnotation(f"the box {[x, y, w, h]} leaves a picture of {width}x{height}")


def _check_mask(annotation: Mapping[str, Any], width: int, height: int) -> None:
    if tuple(annotation.get("size", ())) != (height, width):
        raise BadAnnotation(f"a mask of {annotation.get('size')}, the picture is {height, width}")
    if sum(annotation.get("runs", ())) != width * height:
        raise BadAnnotation("the runs of a mask must add up to its pixels")


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """bool [H, W] -> size and run lengths, row by row, beginning with the number of zeros."""
    runs = [(bit, len(list(group))) for bit, group in groupby(mask.astype(bool).ravel().tolist())]
    lengths = [length for _, length in runs]
    return {"size": list(mask.shape), "runs": [0, *lengths] if runs[0][0] else lengths}


def decode_mask(encoded: Mapping[str, Any]) -> np.ndarray:
    """The other way: bool [H, W]."""
    bits = np.arange(len(encoded["runs"])) % 2 == 1
    return np.repeat(bits, encoded["runs"]).reshape(encoded["size"])


@dataclass(frozen=True)
class Word:
    """A spoken word and its seconds [start, end)."""

    text: str
    start: float
    end: float


def align_transcript(words: Iterable[Word], scenes: Sequence[tuple[float, float]]) -> list[str]:
    """What is said in each scene; scenes: seconds [start, end) in order.

    A word that crosses a cut belongs to the scene in which most of it is spoken; what is said
    outside of all scenes is left out.
    """
    said: list[list[str]] = [[] for _ in scenes]
    for word in words:
        shared = [min(word.end, end) - max(word.start, start) for start, end in scenes]
        if shared and max(shared) > 0:
            said[shared.index(max(shared))].append(word.text)
    return [" ".join(texts) for texts in said]
