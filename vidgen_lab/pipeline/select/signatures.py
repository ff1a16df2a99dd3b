"""What clips are compared by: hashes of their pictures, and thumbnails over time.

Both are taken inside the black bars, so that a letterboxed copy looks like its original. A look has
five hashes, since a hash survives coding, scaling, brightness and a small logo, but neither a crop
nor a mirror nor a band of subtitles; so these are tried in advance.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from vidgen_lab.pipeline.read.pictures import THUMB, inside, perceptual_hash

# Parts of the picture that are hashed: (top, bottom, left, right), shares of height and width.
PARTS = {
    "whole": (0.0, 1.0, 0.0, 1.0),
    "mirrored": (0.0, 1.0, 1.0, 0.0),
    "inner 9/10": (0.05, 0.95, 0.05, 0.95),
    "inner 8/10": (0.1, 0.9, 0.1, 0.9),
    "upper 8/10": (0.0, 0.8, 0.0, 1.0),
}
WHOLE, MIRRORED, INNER_9, INNER_8, UPPER = range(len(PARTS))
NONE = np.uint64(0)  # the hash of a blank picture


@dataclass(frozen=True, eq=False)
class Signature:
    """hashes: uint64 [looks, parts], 0 for a blank picture. thumbs: uint8 [looks, 9, 16, 3].
    step: seconds between looks."""

    hashes: np.ndarray
    thumbs: np.ndarray
    step: float

    @property
    def seconds(self) -> float:
        return len(self.thumbs) * self.step

    @property
    def last(self) -> float:
        """Seconds from the first look to the last."""
        return (len(self.thumbs) - 1) * self.step

    @classmethod
    def of_looks(
        cls, colours: Sequence[np.ndarray], step: float, box: tuple[float, ...] = PARTS["whole"]
    ) -> "Signature":
        """From small RGB pictures of the looks [h, w, 3], inside `box`."""
        shown = [inside(colour, box) for colour in colours]
        greys = [cv2.cvtColor(np.ascontiguousarray(p), cv2.COLOR_RGB2GRAY) for p in shown]
        hashes = np.array(
            [[int(perceptual_hash(inside(g, part)) or "0", 16) for part in PARTS.values()]
             for g in greys],
            dtype=np.uint64,
        )  # fmt: skip
        thumbs = [cv2.resize(picture, THUMB, interpolation=cv2.INTER_AREA) for picture in shown]
        shape = (len(thumbs), THUMB[1], THUMB[0], 3)
        return cls(hashes.reshape(-1, len(PARTS)), np.array(thumbs, np.uint8).reshape(shape), step)

    @classmethod
    def of(cls, scored: Mapping[str, Any]) -> "Signature":
        """From the plain values that `scoring.score_video` returns for a clip."""
        hashes = np.frombuffer(base64.b64decode(scored["hashes"]), "<u8").reshape(-1, len(PARTS))
        thumbs = np.frombuffer(base64.b64decode(scored["thumbs"]), np.uint8)
        return cls(hashes, thumbs.reshape(-1, THUMB[1], THUMB[0], 3), float(scored["step"]))

    def plain(self) -> dict[str, Any]:
        """The other way: text, for a line of JSON."""
        hashes, thumbs = self.hashes.astype("<u8").tobytes(), self.thumbs.tobytes()
        both = {"hashes": hashes, "thumbs": thumbs}
        return {n: base64.b64encode(b).decode() for n, b in both.items()} | {"step": self.step}
