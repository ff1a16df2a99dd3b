"""What a single frame tells: edge steepness, exposure, black bars, a hash and a thumbnail.

All measures work on a small grey or RGB picture (`WORK_SIDE`), so that they cost the same for every
video and compare between resolutions.
"""

from collections.abc import Sequence

import cv2
import numpy as np

WORK_SIDE = 256  # pixels of the shorter side at most; pictures are reduced to it, never enlarged
THUMB = (16, 9)  # width and height of a thumbnail
BLACK, WHITE = 16, 250  # grey levels at and beyond which a picture holds no detail
BLANK = 6  # spread of grey levels below which a picture shows nothing
_BAR = 8  # grey level up to which a bar may stray from black
_EDGE_WINDOW = 13  # pixels in which the two sides of an edge are looked for
_EDGE_CONTRAST = 24  # grey levels between the two sides of an edge, at least


def edge_steepness(grey: np.ndarray) -> float | None:
    """How sharp the edges are, uint8 [H, W] -> about 0.1 (blurred) .. 0.4 (a step); None: no edge.

    Where an edge is the strongest around, its gradient over the contrast across it; the upper tenth
    of the clearer half of such places, since something has to be sharp, not everything. Unlike the
    variance of the Laplacian this depends neither on contrast nor on how many edges there are, and
    grain does not raise it: edges have to stand out from the noise.
    """
    smooth = cv2.GaussianBlur(grey, (3, 3), 0)
    window = np.ones((_EDGE_WINDOW, _EDGE_WINDOW), np.uint8)
    contrast = cv2.subtract(cv2.dilate(smooth, window), cv2.erode(smooth, window))
    x, y = (cv2.Sobel(smooth, cv2.CV_16S, *d, ksize=1).astype(np.int32) for d in ((1, 0), (0, 1)))
    # Whole numbers up to here: a last digit that hangs on memory alignment would decide ties.
    squared = (x * x + y * y).astype(np.float32)
    strongest = squared >= cv2.dilate(squared, window)
    gradient = np.sqrt(squared) / 2
    edges = strongest & (gradient > 1) & (contrast > _EDGE_CONTRAST + 6 * _noise(grey))
    if edges.sum() < 4:
        return None
    gradient, contrast = gradient[edges], contrast[edges]
    clear = contrast >= np.median(contrast)
    return float(np.percentile(gradient[clear] / contrast[clear], 90))


def _noise(grey: np.ndarray) -> float:
    """Standard deviation of the noise (Immerkaer 1996), from the quieter half of the picture."""
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    response = np.abs(cv2.filter2D(grey, cv2.CV_32F, mask))
    return float(np.median(response)) / 0.6745 / 6


def bar_box(greys: Sequence[np.ndarray]) -> tuple[float, float, float, float]:
    """What black bars leave of the picture: (top, bottom, left, right), shares of height and width.

    A bar stays black all the time, and blacker than a night sky; what compression adds (up to grey
    8) is allowed for. Bars come in pairs of one size, and what begins beside them is a picture: a
    scene that is dark at its edge has none.

    Args:
        greys: uint8 [H, W] each, the looks of a clip; without any there are no bars.
    """
    if not len(greys):
        return 0.0, 1.0, 0.0, 1.0
    brightest = np.max(greys, axis=0)
    (top, bottom), (left, right) = _between_bars(brightest), _between_bars(brightest.T)
    return top, bottom, left, right


def _between_bars(brightest: np.ndarray) -> tuple[float, float]:
    """(first, end) of the rows between two bars, as shares of all rows; (0, 1) without bars."""
    rows = np.nonzero((brightest > _BAR).mean(1) > 0.02)[0]
    if not len(rows):
        return 0.0, 1.0
    count, first, end = len(brightest), int(rows[0]), int(rows[-1]) + 1
    even = first and abs(first - (count - end)) <= max(1, 0.03 * count)
    begins = [
        (brightest[row] > 3 * _BAR).mean() for row in (first + 1, end - 2) if 0 <= row < count
    ]
    if not even or min(begins) < 0.25:
        return 0.0, 1.0
    return (first + 1) / count, (end - 1) / count  # the rows at the edge may be half bar


def inside(picture: np.ndarray, part: tuple[float, ...]) -> np.ndarray:
    """The part (top, bottom, left, right), in shares of 0..1, of a picture [H, W] or [H, W, 3];
    right before left means mirrored."""
    height, width = picture.shape[:2]
    top, bottom, left, right = part
    rows = slice(round(top * height), max(round(top * height) + 1, round(bottom * height)))
    if left > right:
        return np.ascontiguousarray(inside(picture, (top, bottom, right, left))[:, ::-1])
    return picture[rows, round(left * width) : max(round(left * width) + 1, round(right * width))]


def stripes(grey: np.ndarray) -> float:
    """How much of the upper half's variance vertical stripes explain, 0..1: 1 for colour bars."""
    upper = grey[: len(grey) // 2].astype(np.float32)
    spread = upper.var()
    return float(upper.mean(0).var() / spread) if spread > BLANK**2 else 0.0


def perceptual_hash(grey: np.ndarray) -> str | None:
    """64 bits that survive resizing and re-encoding, as 16 hex digits; None for a blank picture.

    pHash: signs of the lowest frequencies of the cosine transform against their median. A blank
    picture would hash its noise, and every black intro would look alike.
    """
    if grey.std() < BLANK:
        return None
    small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:8, :8].flatten()
    bits = low > np.median(low[1:])
    return f"{int.from_bytes(np.packbits(bits).tobytes(), 'big'):016x}"
