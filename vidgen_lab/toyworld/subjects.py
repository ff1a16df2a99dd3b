"""The subjects as flat polygons.

Every function of DRAWINGS takes the clip time (0 at the first frame, 1 at the last) and returns
parts, back to front. Coordinates are in radii of the subject around its centre, most of them in
[-1, 1] x [-1, 1], y down; subjects with a front face right. A part's paint is a role of the scene's
colour ("main", "shade", "light") or a fixed RGB. Parts marked as effects (flame, beam, poured
coffee) belong to the picture but neither to the mask nor to the outline.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Paint = str | tuple[int, int, int]

INK = (40, 36, 48)
CREAM = (250, 244, 228)
WHITE = (255, 255, 255)
GLASS = (176, 220, 244)
COFFEE = (104, 62, 36)
LEAF = (58, 140, 70)
FLAME = (255, 176, 48)
BEAM = (255, 244, 190)


class Part(NamedTuple):
    points: np.ndarray  # [N, 2]
    paint: Paint
    effect: bool = False


Drawing = Callable[[float], list[Part]]  # of the clip's time


def ellipse(
    x: float, y: float, rx: float, ry: float | None = None, turn: float = 0.0, n: int = 28
) -> np.ndarray:
    """Ellipse around (x, y) as an [n, 2] polygon, turned by `turn` radians, with half-axes `rx` and
    `ry`, which are equal by default."""
    a = np.linspace(0, 2 * np.pi, n, endpoint=False)
    points = np.stack([rx * np.cos(a), (rx if ry is None else ry) * np.sin(a)], axis=1)
    return rotate(points, turn) + (x, y)


def rotate(points: np.ndarray, turn: float) -> np.ndarray:
    """Turn points [N, 2] clockwise on screen (y down) by `turn` radians around the origin."""
    c, s = np.cos(turn), np.sin(turn)
    return points @ np.array([[c, s], [-s, c]])


def poly(*points: tuple[float, float]) -> np.ndarray:
    """A polygon [n, 2] of its corners."""
    return np.array(points, dtype=float)


def box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """An upright rectangle as a polygon [4, 2]."""
    return poly((left, top), (right, top), (right, bottom), (left, bottom))


def limb(x0: float, y0: float, x1: float, y1: float, width: float) -> np.ndarray:
    """A straight limb from (x0, y0) to (x1, y1) as a quadrilateral [4, 2]."""
    along = np.array([x1 - x0, y1 - y0])
    across = np.array([-along[1], along[0]]) / (np.linalg.norm(along) + 1e-9) * width / 2
    start, end = np.array([x0, y0]), np.array([x1, y1])
    return np.stack([start + across, end + across, end - across, start - across])


def star_points(outer: float, inner: float, n: int = 5) -> np.ndarray:
    """A star of n points as a polygon [2n, 2], the first one up; `inner` is the notches' radius."""
    a = np.arange(2 * n) * np.pi / n - np.pi / 2
    r = np.where(np.arange(2 * n) % 2 == 0, outer, inner)
    return np.stack([r * np.cos(a), r * np.sin(a)], axis=1)


def ball(t: float) -> list[Part]:
    parts = [Part(ellipse(0, 0, 0.95), "main")]
    for k in range(3):
        a = np.linspace(0, np.pi / 3, 8) + k * 2 * np.pi / 3
        rim = 0.95 * np.stack([np.cos(a), np.sin(a)], axis=1)
        parts.append(Part(np.vstack([[0, 0], rim]), "shade"))
    return [*parts, Part(ellipse(0, 0, 0.24), CREAM)]


def cube(t: float) -> list[Part]:
    w, h = 0.85, 0.48
    return [
        Part(poly((0, -0.98), (w, -h), (0, 0.02), (-w, -h)), "light"),
        Part(poly((-w, -h), (0, 0.02), (0, 1.0), (-w, h)), "main"),
        Part(poly((w, -h), (0, 0.02), (0, 1.0), (w, h)), "shade"),
    ]


def star(t: float) -> list[Part]:
    return [Part(star_points(1.08, 0.5), "main"), Part(star_points(0.55, 0.26), "light")]


def heart(t: float) -> list[Part]:
    a = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    x = 16 * np.sin(a) ** 3
    y = 13 * np.cos(a) - 5 * np.cos(2 * a) - 2 * np.cos(3 * a) - np.cos(4 * a)
    outline = np.stack([x, -y - 2.5], axis=1) / 16.5
    return [Part(outline, "main"), Part(ellipse(-0.45, -0.42, 0.2, 0.13, -0.7), "light")]


def ring(t: float) -> list[Part]:
    a = np.linspace(0, 2 * np.pi, 33)
    circle = np.stack([np.cos(a), np.sin(a)], axis=1)
    band = np.vstack([0.95 * circle, 0.5 * circle[::-1]])
    parts = [Part(band, "main")]
    for k in range(4):
        x, y = 0.725 * np.cos(k * np.pi / 2 - 0.8), 0.725 * np.sin(k * np.pi / 2 - 0.8)
        parts.append(Part(ellipse(x, y, 0.15, n=12), CREAM if k == 0 else "shade"))
    return parts


def rocket(t: float) -> list[Part]:
    flicker = 0.12 * np.sin(6 * np.pi * t)
    hull = poly(
        (0, -1.1), (0.26, -0.72), (0.36, -0.2), (0.32, 0.55),
        (-0.32, 0.55), (-0.36, -0.2), (-0.26, -0.72),
    )  # fmt: skip
    return [
        Part(poly((-0.22, 0.5), (0.22, 0.5), (0, 1.1 + flicker)), FLAME, effect=True),
        Part(poly((0.3, 0.05), (0.72, 0.72), (0.28, 0.55)), "shade"),
        Part(poly((-0.3, 0.05), (-0.72, 0.72), (-0.28, 0.55)), "shade"),
        Part(hull, "main"),
        Part(ellipse(0, -0.3, 0.2), GLASS),
    ]


def car(t: float) -> list[Part]:
    parts = [
        Part(poly((-0.62, -0.12), (-0.36, -0.58), (0.34, -0.58), (0.66, -0.12)), "shade"),
        Part(poly((-0.42, -0.14), (-0.26, -0.46), (0.0, -0.46), (0.0, -0.14)), GLASS),
        Part(poly((0.08, -0.14), (0.08, -0.46), (0.27, -0.46), (0.46, -0.14)), GLASS),
        Part(poly((-1.08, -0.14), (0.95, -0.14), (1.1, 0.06), (1.1, 0.38), (-1.1, 0.38)), "main"),
    ]
    for x in (-0.58, 0.58):
        parts += [Part(ellipse(x, 0.38, 0.28), INK), Part(ellipse(x, 0.38, 0.12, n=12), CREAM)]
    return parts


def fish(t: float) -> list[Part]:
    wag = 0.22 * np.sin(4 * np.pi * t)
    return [
        Part(poly((-0.5, 0), (-1.1, -0.5 + wag), (-0.95, wag * 0.6), (-1.1, 0.5 + wag)), "shade"),
        Part(poly((-0.25, -0.45), (0.1, -0.85), (0.35, -0.42)), "shade"),
        Part(ellipse(0.15, 0, 0.82, 0.55), "main"),
        Part(poly((-0.05, 0.05), (-0.4, 0.3), (0.0, 0.32)), "shade"),
        Part(ellipse(0.58, -0.14, 0.16, n=14), CREAM),
        Part(ellipse(0.61, -0.14, 0.08, n=10), INK),
    ]


def dog(t: float) -> list[Part]:
    stride = np.sin(5 * np.pi * t)
    hips = [(-0.62, -1), (-0.44, 1), (0.26, 1), (0.44, -1)]
    legs = [limb(x, 0.2, x + 0.26 * way * stride, 0.86, 0.19) for x, way in hips]
    tail = limb(-0.7, -0.1, -1.08, -0.5 + 0.16 * stride, 0.17)
    return [
        Part(legs[0], "shade"),
        Part(legs[3], "shade"),
        Part(tail, "shade"),
        Part(legs[1], "main"),
        Part(legs[2], "main"),
        Part(ellipse(-0.1, 0.05, 0.76, 0.36), "main"),
        Part(ellipse(0.62, -0.38, 0.36, 0.34), "main"),
        Part(ellipse(0.92, -0.26, 0.24, 0.16), "light"),
        Part(ellipse(0.44, -0.34, 0.15, 0.32, 0.25), "shade"),
        Part(ellipse(1.1, -0.31, 0.08, n=10), INK),
        Part(ellipse(0.72, -0.46, 0.065, n=10), INK),
    ]


def rose(t: float) -> list[Part]:
    parts = [
        Part(limb(0, -0.2, 0.04, 1.05, 0.13), LEAF),
        Part(ellipse(0.3, 0.55, 0.3, 0.13, -0.5), LEAF),
        Part(ellipse(-0.24, 0.72, 0.28, 0.12, 0.5), LEAF),
    ]
    for count, distance, size, paint in ((6, 0.4, 0.34, "main"), (5, 0.22, 0.25, "shade")):
        for k in range(count):
            a = 2 * np.pi * k / count + (0.3 if paint == "shade" else 0.0)
            x, y = distance * np.cos(a), distance * np.sin(a) - 0.38
            parts.append(Part(ellipse(x, y, size, n=18), paint))
    return [*parts, Part(ellipse(0, -0.38, 0.17, n=16), "light")]


def butterfly(t: float) -> list[Part]:
    fold = 0.45 + 0.55 * abs(np.cos(3 * np.pi * t))
    parts = []
    for side in (-1, 1):
        x = side * fold
        parts += [
            Part(ellipse(0.52 * x, 0.42, 0.42 * fold, 0.42, side * 0.5), "shade"),
            Part(ellipse(0.58 * x, -0.38, 0.52 * fold, 0.56, side * 0.6), "main"),
            Part(ellipse(0.64 * x, -0.42, 0.22 * fold, 0.24, n=14), "light"),
        ]
    return [*parts, Part(ellipse(0, 0.02, 0.1, 0.68, n=16), INK)]


def hummingbird(t: float) -> list[Part]:
    beat = np.sin(4 * np.pi * t)
    wing = poly(
        (-0.16, -0.12), (0.2, -0.06), (-0.5, -0.95 * beat - 0.1), (-0.72, -0.6 * beat - 0.12)
    )
    return [
        Part(poly((-0.42, 0.36), (-1.08, 0.78), (-0.92, 1.0), (-0.2, 0.52)), "shade"),
        Part(poly((0.66, -0.52), (1.22, -0.38), (0.66, -0.34)), INK),
        Part(ellipse(-0.05, 0.12, 0.62, 0.34, -0.7), "main"),
        Part(ellipse(0.46, -0.42, 0.3), "main"),
        Part(ellipse(0.26, -0.06, 0.2, 0.24, 0.5), "light"),
        Part(wing, "shade"),
        Part(ellipse(0.54, -0.48, 0.08, n=10), INK),
    ]


def lighthouse(t: float) -> list[Part]:
    sweep = 0.75 * (2 * t - 1)
    beam = rotate(
        poly((0, -0.04), (3.4, -0.5), (3.4, 0.5), (0, 0.04)), sweep - np.pi / 2 * 0.15
    ) + (0, -0.98)
    tower = poly((-0.24, -0.8), (0.24, -0.8), (0.4, 1.05), (-0.4, 1.05))

    def band(top: float, bottom: float) -> np.ndarray:
        half = [0.24 + 0.16 * (y + 0.8) / 1.85 for y in (top, bottom)]
        return poly((-half[0], top), (half[0], top), (half[1], bottom), (-half[1], bottom))

    return [
        Part(beam, BEAM, effect=True),
        Part(tower, CREAM),
        Part(band(-0.72, -0.3), "main"),
        Part(band(0.02, 0.44), "main"),
        Part(band(0.72, 1.05), "main"),
        Part(box(-0.2, -1.12, 0.2, -0.82), FLAME),
        Part(poly((-0.3, -1.1), (0.3, -1.1), (0, -1.42)), "shade"),
    ]


def cloud(t: float) -> list[Part]:
    puffs = [(-0.72, 0.18, 0.38), (0.74, 0.2, 0.36), (-0.25, -0.12, 0.52), (0.34, -0.06, 0.46)]
    parts = [Part(ellipse(0, 0.3, 1.05, 0.28), "shade")]
    parts += [Part(ellipse(x, y, r), "main") for x, y, r in puffs]
    return [*parts, Part(ellipse(-0.3, -0.22, 0.28, 0.2), "light")]


def aurora(t: float) -> list[Part]:
    x = np.linspace(-3.2, 3.2, 25)
    top = -0.75 + 0.28 * np.sin(1.2 * x + 2 * np.pi * t)
    bottom = 0.55 + 0.4 * np.sin(1.6 * x - 2 * np.pi * t)
    middle = 0.35 * top + 0.65 * bottom
    return [
        Part(np.vstack([np.stack([x, top], 1), np.stack([x, bottom], 1)[::-1]]), "main"),
        Part(np.vstack([np.stack([x, middle], 1), np.stack([x, bottom], 1)[::-1]]), "light"),
    ]


def coffee(t: float) -> list[Part]:
    sway = 0.1 * np.sin(2 * np.pi * t)
    level = 0.5 - 0.72 * t
    half = 0.55 + 0.15 * (0.5 - level) / 0.75
    return [
        Part(ellipse(0, 0.86, 1.02, 0.17), "shade"),
        Part(ellipse(0.82, 0.22, 0.32, 0.32), "shade"),
        Part(ellipse(0.82, 0.22, 0.15, 0.15, n=14), CREAM),
        Part(poly((-0.78, -0.32), (0.78, -0.32), (0.56, 0.84), (-0.56, 0.84)), "main"),
        Part(poly((-0.62, -0.22), (0.62, -0.22), (0.46, 0.6), (-0.46, 0.6)), CREAM),
        Part(poly((-half + 0.09, level), (half - 0.09, level), (0.46, 0.6), (-0.46, 0.6)), COFFEE),
        Part(limb(0.02 * sway, -2.2, sway * 0.3, level + 0.05, 0.16), COFFEE, effect=True),
    ]


def robot(t: float) -> list[Part]:
    stride = 0.16 * np.sin(5 * np.pi * t)
    body = poly((-0.55, -0.12), (0.55, -0.12), (0.5, 0.58), (-0.5, 0.58))
    head = box(-0.42, -0.82, 0.42, -0.22)
    return [
        Part(limb(0, -0.82, 0, -1.12, 0.1), INK),
        Part(ellipse(0, -1.14, 0.12, n=14), FLAME),
        Part(limb(-0.28, 0.55, -0.28 + stride, 1.02, 0.26), "shade"),
        Part(limb(0.28, 0.55, 0.28 - stride, 1.02, 0.26), "shade"),
        Part(limb(-0.6, 0.0, -0.86, 0.4 + stride, 0.22), "shade"),
        Part(limb(0.6, 0.0, 0.86, 0.4 - stride, 0.22), "shade"),
        Part(body, "main"),
        Part(head, "main"),
        Part(ellipse(-0.08, -0.54, 0.13, n=14), CREAM),
        Part(ellipse(0.26, -0.54, 0.13, n=14), CREAM),
        Part(ellipse(-0.05, -0.54, 0.06, n=10), INK),
        Part(ellipse(0.29, -0.54, 0.06, n=10), INK),
        Part(box(-0.28, 0.08, 0.28, 0.36), GLASS),
    ]


def mushroom(t: float) -> list[Part]:
    a = np.linspace(np.pi, 2 * np.pi, 24)
    cap = np.stack([1.0 * np.cos(a), 0.98 * np.sin(a) + 0.08], axis=1)
    brim = np.stack([1.0 * np.cos(a[::-1]), -0.22 * np.sin(a) + 0.08], axis=1)
    spots = [(-0.5, -0.3, 0.2), (0.12, -0.58, 0.22), (0.58, -0.2, 0.17)]
    return [
        Part(poly((-0.3, 0.1), (0.3, 0.1), (0.4, 1.0), (-0.4, 1.0)), CREAM),
        Part(np.vstack([cap, brim]), "main"),
        *(Part(ellipse(x, y, r, n=16), CREAM) for x, y, r in spots),
    ]


DRAWINGS: dict[str, Drawing] = {
    function.__name__: function
    for function in (
        ball, cube, star, heart, ring, rocket, car, fish,
        dog, rose, butterfly, hummingbird, lighthouse, cloud, aurora, coffee,
        robot, mushroom,
    )
}  # fmt: skip
