"""What was laid over a picture: logos that never move, lettering, frames of constant content.

Classical measures for a first look. Trained models (OCR, watermark classifiers, aesthetic scores)
see more; they fit in beside these as further metrics of a row.
"""

import cv2
import numpy as np

from vidgen_lab.video.clip import Clip, evenly_spaced

_EDGE = 24.0  # grey levels of gradient that count as an edge


def watermark_share(clip: Clip, samples: int = 12) -> float:
    """Share of the picture, 0..1, with edges that stay put while everything around them changes.

    A logo keeps its edges in every frame; so does a wall. Therefore a place counts only where the
    pixels beside the edge change over the clip, as they do under a logo and not on a wall.
    Raises ValueError for fewer than three frames.
    """
    if clip.num_frames < 3:
        raise ValueError("an overlay shows in what stays while the rest moves: three frames needed")
    numbers = evenly_spaced(clip.num_frames, samples)
    grey = np.stack([cv2.cvtColor(clip.frames[n], cv2.COLOR_RGB2GRAY) for n in numbers])
    edges = np.stack([_gradient(g) for g in grey])
    stays = edges.min(0) > _EDGE
    moves = cv2.boxFilter(grey.std(0).astype(np.float32), -1, (9, 9)) > 12
    return float((stays & moves).mean())


def text_share(frame: np.ndarray) -> float:
    """Share of a picture, 0..1, that is laid out like lines of text; uint8 [H, W, 3].

    Text is many strong edges close together in a flat, wide region. Fences look like that, too: a
    hint for review, no verdict.
    """
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    strokes = (_gradient(grey) > 2 * _EDGE).astype(np.uint8)
    lines = cv2.morphologyEx(strokes, cv2.MORPH_CLOSE, np.ones((2, 9), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(lines)
    share = 0.0
    for part in range(1, count):
        x, y, w, h, area = stats[part].tolist()
        inside = strokes[y : y + h, x : x + w]
        changes = np.abs(np.diff(inside.astype(np.int8), axis=1)).sum() / max(1, h)
        if (
            w > 2.5 * h
            and 5 <= h < 0.25 * frame.shape[0]
            and area > 0.5 * w * h
            and changes > w / 8
        ):
            share += w * h / grey.size
    return float(min(1.0, share))


def _gradient(grey: np.ndarray) -> np.ndarray:
    x, y = (cv2.Sobel(grey, cv2.CV_32F, *d, ksize=3) / 4 for d in ((1, 0), (0, 1)))
    return np.hypot(x, y)
