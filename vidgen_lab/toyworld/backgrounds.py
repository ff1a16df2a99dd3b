"""The eight backgrounds, each made by the function of its name: a picture painted once per clip,
and what moves in it frame by frame.

Each takes the frame's aspect (width / height) and a generator for small variations, and returns a
Backdrop. Coordinates are in frame heights (x in [0, aspect], y in [0, 1], y down).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vidgen_lab.toyworld.subjects import box, ellipse, poly

RGB = tuple[int, int, int]


@dataclass(frozen=True)
class Backdrop:
    """A gradient sky (colour at its top and bottom), still polygons [N, 2] on it, and a function of
    the clip's time (0 at the first frame, 1 at the last) returning moving polygons before them."""

    sky: tuple[RGB, RGB]
    still: list[tuple[np.ndarray, RGB]]
    moving: Callable[[float], list[tuple[np.ndarray, RGB]]] = lambda t: []


def _side(rng: np.random.Generator, left: float = 0.2, right: float = 0.8) -> float:
    """One of two places, and a little beside it. No caption says where the sun stands, and a model
    that has to guess among many places paints it in several at once."""
    return (left if rng.random() < 0.5 else right) + rng.uniform(-0.03, 0.03)


def _phase(rng: np.random.Generator) -> float:
    """Where a line of hills begins: one of four, and a little beside it."""
    return rng.integers(4) * np.pi / 2 + rng.uniform(-0.25, 0.25)


def _scatter(count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` points [N, 2] in the unit square, evenly spread and a little shaken."""
    across = (np.arange(count) + 0.5) / count
    down = (np.arange(count) * 0.618 + rng.integers(3) / 3) % 1  # the golden ratio never lines up
    return np.stack([across, down], axis=1) + rng.uniform(-0.02, 0.02, (count, 2))


def _hill(aspect: float, level: float, height: float, waves: float, shift: float) -> np.ndarray:
    x = np.linspace(0, aspect, 33)
    y = level - height * np.sin(2 * np.pi * waves * x / aspect + shift)
    return np.vstack([np.stack([x, y], 1), [[aspect, 1.01], [0, 1.01]]])


def _fir(x: float, y: float, size: float) -> list[np.ndarray]:
    return [
        poly((x - size * w, y - size * b), (x + size * w, y - size * b), (x, y - size * a))
        for w, b, a in ((0.42, 0.15, 0.85), (0.34, 0.5, 1.15), (0.24, 0.85, 1.4))
    ]


def meadow(aspect: float, rng: np.random.Generator) -> Backdrop:
    shift, sun = _phase(rng), _side(rng) * aspect
    still = [
        (ellipse(sun, 0.16, 0.1), (255, 226, 120)),
        (_hill(aspect, 0.62, 0.05, 1.0, shift), (150, 208, 110)),
        (_hill(aspect, 0.76, 0.04, 1.4, shift + 2), (110, 184, 84)),
    ]
    for x, y in _scatter(7, rng):
        still.append((ellipse(x * aspect, 0.86 + 0.1 * y, 0.025, n=10), (255, 250, 235)))
    return Backdrop(((132, 202, 246), (222, 242, 250)), still)


def desert(aspect: float, rng: np.random.Generator) -> Backdrop:
    shift, sun = _phase(rng), _side(rng) * aspect
    x = _side(rng, 0.12, 0.88) * aspect
    cactus = (84, 138, 92)
    arm = poly((-0.11, 0.58), (-0.07, 0.58), (-0.07, 0.68), (0, 0.68), (0, 0.72), (-0.11, 0.72))
    still = [
        (ellipse(sun, 0.2, 0.09), (255, 240, 190)),
        (_hill(aspect, 0.66, 0.05, 0.8, shift), (226, 176, 112)),
        (_hill(aspect, 0.8, 0.05, 1.2, shift + 2.4), (208, 152, 90)),
        (box(x - 0.03, 0.5, x + 0.03, 0.84), cactus),
        (arm + (x, 0), cactus),
    ]
    return Backdrop(((250, 204, 150), (255, 236, 200)), still)


def ocean(aspect: float, rng: np.random.Generator) -> Backdrop:
    shift = _phase(rng)
    bands = ((0.6, (84, 164, 206)), (0.72, (58, 134, 186)), (0.86, (38, 104, 160)))

    def waves(t: float) -> list[tuple[np.ndarray, RGB]]:
        return [
            (_hill(aspect, y, 0.018, 3, shift + k + (1 - 2 * (k % 2)) * 2 * np.pi * t), colour)
            for k, (y, colour) in enumerate(bands)
        ]

    sun = (ellipse(_side(rng, 0.25, 0.75) * aspect, 0.55, 0.12), (255, 220, 160))
    return Backdrop(((146, 208, 236), (250, 232, 208)), [sun], waves)


def night_sky(aspect: float, rng: np.random.Generator) -> Backdrop:
    still = []
    for x, y in _scatter(12, rng):
        star = ellipse(x * aspect, 0.05 + 0.72 * y, rng.uniform(0.018, 0.024), n=8)
        still.append((star, (238, 238, 214)))
    x = _side(rng) * aspect
    still += [
        (ellipse(x, 0.16, 0.09), (248, 240, 206)),
        (ellipse(x + 0.045, 0.145, 0.075), (26, 32, 78)),
        (_hill(aspect, 0.9, 0.03, 1.0, _phase(rng)), (14, 18, 42)),
    ]
    return Backdrop(((18, 22, 60), (52, 54, 112)), still)


def mountains(aspect: float, rng: np.random.Generator) -> Backdrop:
    still = []
    for k, (level, colour) in enumerate(((0.26, (142, 152, 178)), (0.38, (108, 120, 150)))):
        for x in np.linspace(0.1, 0.9, 3 - k) * aspect + rng.uniform(-0.04, 0.04):
            w = 0.42
            still.append((poly((x, level), (x + w, 0.86), (x - w, 0.86)), colour))
            cap = 0.26
            tip = poly(
                (x, level),
                (x + w * cap, level + (0.86 - level) * cap),
                (x, level + 0.1),
                (x - w * cap, level + (0.86 - level) * cap),
            )
            still.append((tip, (246, 248, 252)))
    still.append((_hill(aspect, 0.82, 0.03, 1.3, _phase(rng)), (96, 132, 104)))
    return Backdrop(((168, 196, 226), (232, 238, 244)), still)


def city(aspect: float, rng: np.random.Generator) -> Backdrop:
    still, x = [], 0.0
    while x < aspect:
        w, top = rng.choice((0.19, 0.25)), rng.choice((0.28, 0.4, 0.52)) + rng.uniform(-0.02, 0.02)
        still.append((box(x, top, x + w, 0.9), (92, 84, 118)))
        for wy in np.arange(top + 0.06, 0.8, 0.13):
            for wx in (x + 0.03, x + w - 0.08):
                still.append((box(wx, wy, wx + 0.05, wy + 0.06), (250, 216, 140)))
        x += w + 0.015
    still.append((box(0, 0.88, aspect, 1.01), (70, 66, 84)))
    return Backdrop(((250, 176, 156), (252, 220, 190)), still)


def forest(aspect: float, rng: np.random.Generator) -> Backdrop:
    still = [(_hill(aspect, 0.5, 0.03, 1.6, _phase(rng)), (124, 168, 128))]
    for x in np.linspace(0.05, 0.95, 6) * aspect + rng.uniform(-0.02, 0.02, 6):
        size = rng.uniform(0.4, 0.52)
        still.append((box(x - 0.03, 0.65, x + 0.03, 0.86), (96, 70, 52)))
        still += [(piece, (46, 110, 76)) for piece in _fir(x, 0.82, size)]
    still.append((_hill(aspect, 0.85, 0.02, 1.2, _phase(rng)), (78, 126, 74)))
    return Backdrop(((196, 226, 206), (226, 240, 220)), still)


def snow(aspect: float, rng: np.random.Generator) -> Backdrop:
    shift = _phase(rng)
    still = [(_hill(aspect, 0.66, 0.04, 1.0, shift), (222, 232, 246))]
    for x in rng.permutation(np.linspace(0.08, 0.92, 5))[:3] * aspect:
        still += [(piece, (92, 138, 134)) for piece in _fir(x, 0.78, rng.uniform(0.26, 0.34))]
    still.append((_hill(aspect, 0.8, 0.03, 1.5, shift + 2), (240, 246, 252)))
    flakes = _scatter(9, rng) * (aspect, 1)

    def falling(t: float) -> list[tuple[np.ndarray, RGB]]:
        return [(ellipse(x, (y + 0.4 * t) % 1.0, 0.025, n=10), (255, 255, 255)) for x, y in flakes]

    return Backdrop(((164, 186, 212), (210, 224, 240)), still, falling)
