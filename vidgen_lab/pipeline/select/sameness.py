"""Whether two clips show the same, of thumbnails over time, for many pairs at once.

A clip's signature is hashes of its pictures and thumbnails, both taken inside the black bars, so
that a letterboxed copy looks like its original. A hash survives coding, scaling, brightness and a
small logo, but neither a crop nor a mirror nor a band of subtitles; so five parts of a picture are
hashed, which tries these in advance.

Proposed by like hashes, a pair is laid over one another as the hashes suggest (mirrored, cropped)
and at the times at which the thumbnails agree best. Then: tones are fitted first, so that
brightness and gamma do not count; a quarter of the picture may be covered (a logo, a band of
subtitles), if what covers it stands still; and what moves has to move alike, or every play on one
stage would be the same play.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import cv2
import numpy as np

from vidgen_lab.config import Checked
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
LOOKS = 10  # moments at which two clips are compared
_COVERED = 0.25  # share of the picture that may differ, standing still
_STILL = 4.0  # mean squared deviation over time below which nothing moves
_MOVES = 16.0  # the same of a place above which something moves there
_FLAT = 2.0  # grey levels of spread below which a picture shows nothing
_AT_ONCE = 256  # pairs
_OVERLAP = 0.7  # of the shorter clip that has to lie over the other
_LAYOUT = 0.9  # correlation of the pictures' places, on the average over time
_ZOOM = {INNER_9: 0.9, INNER_8: 0.8}


@dataclass(frozen=True)
class DuplicateSettings(
    Checked, max_bits=(0, 16), max_difference=(0, 255), max_local=(0, 255),
    min_correlation=(-1, 1), min_cosine=(-1, 1), min_share=(1e-6, 1),
):  # fmt: skip
    """When two clips are the same.

    Attributes:
        max_bits: hashes of the same picture differ by at most so many of 64 bits.
        max_difference: grey levels by which thumbnails of the same picture may differ on average.
        max_local: the same at any place where something moves: another subject in the same scene
            is a small difference all in all and a large one where it stands.
        min_correlation: of what moves, over time.
        min_share: of the longer clip that the shorter one lasts.
        min_cosine: of embeddings; None: level 3 is off.
    """

    max_bits: int = 7
    max_difference: float = 7.0
    max_local: float = 24.0
    min_correlation: float = 0.8
    min_share: float = 0.45
    min_cosine: float | None = None


@dataclass(frozen=True, eq=False)
class Signature:
    """What clips are compared by: hashes, uint64 [looks, parts], 0 for a blank picture, and RGB
    thumbnails, uint8 [looks, 9, 16, 3], of looks that are `step` seconds apart."""

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
        """From small RGB pictures of the looks [h, w, 3], inside `box` (see `pictures.bar_box`)."""
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


def same(
    signatures: Sequence[Signature], pairs: np.ndarray, settings: DuplicateSettings
) -> np.ndarray:
    """Which of these pairs show the same, bool [P]; `pairs` are int [P, 3] (a, b, part), where a
    looks like the `part` of b.

    The thumbnails tell how the clips lie in time; a quarter of a look earlier and later is tried as
    well, and a crop somewhat wider and narrower.
    """
    verdict = np.zeros(len(pairs), bool)
    lengths = np.array([[signatures[n].seconds for n in pair[:2]] for pair in pairs]).reshape(-1, 2)
    fit = np.flatnonzero(lengths.min(1) >= settings.min_share * lengths.max(1))
    for start in range(0, len(fit), _AT_ONCE):
        rows = fit[start : start + _AT_ONCE]
        shifts = np.array([_shift(signatures, *pair) for pair in pairs[rows]])
        steps = np.array([signatures[a].step for a in pairs[rows, 0]])
        for nearer, quarter in product((0.0, -0.05, 0.05), (0, 1, -1)):
            later = shifts + quarter / 4 * steps
            found = _alike(signatures, pairs[rows], later, nearer, settings)
            verdict[rows[found]] = True
            rows, shifts, steps = rows[~found], shifts[~found], steps[~found]
    return verdict


def _shift(signatures: Sequence[Signature], a: int, b: int, part: int) -> float:
    """Seconds into b at which a begins: where the thumbnails of all looks that then lie over one
    another correlate best, between looks by a parabola. Hashes cannot tell: many looks in a row
    have the same."""
    one, other, zoom = signatures[a], signatures[b], _ZOOM.get(part, 1.0)
    theirs = _mixed(_at(other, np.arange(0, other.last + 1e-9, one.step)), zoom, _enlarging)
    theirs = theirs[:, :, ::-1] if part == MIRRORED else theirs
    alike = _directions(_mixed(one.thumbs, zoom, _softening)) @ _directions(theirs).T
    ours, theirs = alike.shape  # looks
    later = np.arange(theirs) - np.arange(ours)[:, None] + ours - 1
    count = np.bincount(later.ravel())
    mean = np.bincount(later.ravel(), alike.ravel()) / count
    mean[count < _OVERLAP * min(ours, theirs)] = -np.inf
    best = mean.argmax()
    before, top, after = np.pad(mean, 1, constant_values=-np.inf)[best : best + 3]
    bend = before - 2 * top + after
    between = (before - after) / bend / 2 if -np.inf < bend < 0 else 0.0
    return float(best + between - ours + 1) * one.step


def _directions(thumbs: np.ndarray) -> np.ndarray:
    """Thumbnails as unit vectors whose products are correlations, [looks, 9 * 16 * 3 + 1]; a blank
    one is like a blank one."""
    flat = thumbs.reshape(len(thumbs), -1).astype(np.float32)
    flat -= flat.mean(1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    blank = length < _FLAT * flat.shape[1] ** 0.5
    return np.hstack([np.where(blank, 0, flat / np.maximum(length, 1e-6)), blank])


def _alike(
    signatures: Sequence[Signature],
    pairs: np.ndarray,
    shift: np.ndarray,
    nearer: float,
    settings: DuplicateSettings,
) -> np.ndarray:
    """The same for one shift of each pair, in seconds, and one part of b, larger by the share
    `nearer`."""
    if not len(pairs):
        return np.zeros(0, bool)
    ours, theirs, overlap = _overlaid(signatures, pairs, shift, nearer)  # [P, LOOKS, 9, 16, 3]
    ours = _fitted(ours, theirs)
    mean_a, mean_b = ours.mean(1), theirs.mean(1)  # [P, 9, 16, 3]
    move_a, move_b = ours - mean_a[:, None], theirs - mean_b[:, None]
    energy_a, energy_b = ((m**2).mean((1, 4)) for m in (move_a, move_b))  # [P, 9, 16]
    apart = np.abs(mean_a - mean_b).mean(3)
    both_move = (energy_a > _MOVES) & (energy_b > _MOVES)
    # Without the quarter that differs most; but where both move, nothing covers one of them.
    shown = (apart <= np.quantile(apart, 1 - _COVERED, axis=(1, 2), keepdims=True)) | both_move
    difference = np.average(apart, axis=(1, 2), weights=shown)
    layout = _correlation(mean_a, mean_b, shown[..., None], _FLAT**2)
    good = overlap & (difference <= settings.max_difference) & (layout >= _LAYOUT)
    still = (energy_a.mean((1, 2)) < _STILL) & (energy_b.mean((1, 2)) < _STILL)
    local = np.where(both_move, np.abs(move_a - move_b).mean((1, 4)), 0).max((1, 2))
    kept = [(e * shown).mean((1, 2)) / np.maximum(e.mean((1, 2)), 1e-6)
            for e in (energy_a, energy_b)]  # fmt: skip
    moves = (np.minimum(*kept) >= 0.6) & (local <= settings.max_local)
    together = _correlation(move_a, move_b, shown[:, None, :, :, None], 1e-6)
    return good & (still | (moves & (together >= settings.min_correlation)))


def _overlaid(
    signatures: Sequence[Signature], pairs: np.ndarray, shift: np.ndarray, nearer: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thumbnails of both clips at the same moments, float32, and whether they overlap enough."""
    shape = (len(pairs), LOOKS, THUMB[1], THUMB[0], 3)
    ours, theirs = np.empty(shape, np.float32), np.empty(shape, np.float32)
    enough = np.ones(len(pairs), bool)
    for n, ((a, b, part), later) in enumerate(zip(pairs.tolist(), shift, strict=True)):
        one, other = signatures[a], signatures[b]
        first, last = max(0.0, -later), min(one.last, other.last - later)
        enough[n] = last - first >= _OVERLAP * min(one.last, other.last) - 1e-9
        moments = np.linspace(first, max(first, last), LOOKS)
        zoom = min(1.0, _ZOOM.get(part, 1.0) + nearer)
        ours[n] = _mixed(_at(one, moments), zoom, _softening)
        theirs[n] = _mixed(_at(other, moments + later), zoom, _enlarging)
        if part == MIRRORED:
            theirs[n] = theirs[n, :, :, ::-1]
    return ours, theirs, enough


def _at(signature: Signature, moments: np.ndarray) -> np.ndarray:
    """Thumbnails at these seconds, blended between two looks."""
    places = np.clip(moments / signature.step, 0, len(signature.thumbs) - 1)
    low = np.floor(places).astype(int)
    part = (places - low).astype(np.float32)[:, None, None, None]
    high = np.minimum(low + 1, len(signature.thumbs) - 1)
    return signature.thumbs[low] * (1 - part) + signature.thumbs[high] * part


def _mixed(thumbs: np.ndarray, zoom: float, how: Callable) -> np.ndarray:
    """Thumbnails [looks, 9, 16, 3] with rows and columns mixed by the matrices of `how`."""
    if zoom == 1:
        return thumbs
    rows, columns = (how(n, zoom) for n in thumbs.shape[1:3])
    return np.einsum("yr,trxc,wx->tywc", rows, thumbs, columns, optimize=True)


@lru_cache
def _enlarging(count: int, zoom: float) -> np.ndarray:
    """Matrix [count, count] that samples the middle `zoom` of a row of cells, linearly."""
    cells = np.arange(count)
    places = (cells + 0.5 - count / 2) * zoom + count / 2 - 0.5
    return np.stack([np.interp(places, cells, one) for one in np.eye(count)], 1).astype(np.float32)


@lru_cache
def _softening(count: int, _: float) -> np.ndarray:
    """What enlarging does to the other side besides: a twelfth of each cell goes to either
    neighbour, as much as linear sampling at random places blends on the average."""
    matrix = np.eye(count) * 10 / 12 + (np.eye(count, k=1) + np.eye(count, k=-1)) / 12
    return (matrix / matrix.sum(1, keepdims=True)).astype(np.float32)


def _fitted(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """`ours` with the tones of `theirs`: a parabola through the tones, fitted twice, the second
    time without the places that fit worst. Brightness, contrast and gamma are parabolas nearly."""
    mean_a, mean_b = ours.mean(1) / 255, theirs.mean(1) / 255
    pairs = len(ours)
    powers = np.stack([np.ones_like(mean_a), mean_a, mean_a**2], -1).reshape(pairs, -1, 3)
    target = mean_b.reshape(pairs, -1, 1)
    weight = np.ones(target.shape, np.float32)
    for _ in range(2):
        left = np.swapaxes(powers * weight, 1, 2) @ powers + 1e-4 * np.eye(3, dtype=np.float32)
        # Where there are too few tones to fit, as little as possible is changed.
        right = np.swapaxes(powers * weight, 1, 2) @ target + 1e-4 * np.float32([[0], [1], [0]])
        factors = np.linalg.solve(left, right)  # [P, 3, 1]
        wrong = np.abs(powers @ factors - target).reshape(*mean_a.shape).mean(3)
        good = wrong <= np.quantile(wrong, 1 - _COVERED, axis=(1, 2), keepdims=True)
        weight = good.repeat(3).reshape(pairs, -1, 1).astype(np.float32)  # for every colour
    f = (factors.reshape(pairs, 3) * 255)[:, :, None, None, None, None]
    unit = ours / 255
    return f[:, 0] + f[:, 1] * unit + f[:, 2] * unit**2


def _correlation(a: np.ndarray, b: np.ndarray, shown: np.ndarray, flat: float) -> np.ndarray:
    """Of each pair's values where `shown`, broadcast to them, [P]; 0 where they hardly vary: by no
    more than `flat`, squared."""
    pairs = len(a)
    weight = np.broadcast_to(shown, a.shape).reshape(pairs, -1).astype(np.float32)
    total = np.maximum(weight.sum(1, keepdims=True), 1)
    a, b = (x.reshape(pairs, -1) for x in (a, b))
    a, b = (weight * (x - (x * weight).sum(1, keepdims=True) / total) for x in (a, b))
    energy = np.sqrt((a**2).sum(1) * (b**2).sum(1)) / total[:, 0]
    return np.where(energy > flat, (a * b).sum(1) / total[:, 0] / np.maximum(energy, 1e-9), 0)
