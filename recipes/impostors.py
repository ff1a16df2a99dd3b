"""What the judge must not take for the real thing: wrong bodies, and clips as weak generators
make them."""

from collections.abc import Callable

import cv2
import numpy as np

from vidgen_lab.toyworld import Scene, render
from vidgen_lab.toyworld.subjects import DRAWINGS, Drawing, Part, ellipse
from vidgen_lab.toyworld.world import BODIES


def wrong_body(scene: Scene, rng: np.random.Generator) -> Drawing:
    """A drawing that shows none of the world's subjects: a blob, a body half-way between two
    others, or a subject whose parts fell apart or went missing."""
    kinds: list[Callable[[Scene, np.random.Generator], Drawing]] = [_blob, _broken, _reduced]
    if scene.subject in BODIES[:4]:  # a ring has a hole, which no mixture keeps
        kinds += [_half_way, _half_way]
    return kinds[rng.integers(len(kinds))](scene, rng)


def _blob(scene: Scene, rng: np.random.Generator) -> Drawing:
    a = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    waves = np.arange(2, 7)
    strength = rng.uniform(0.06, 0.2, len(waves)) * rng.choice((-1, 1), len(waves))
    shift = rng.uniform(0, 2 * np.pi, len(waves))
    radius = 0.8 + (strength[:, None] * np.sin(waves[:, None] * a + shift[:, None])).sum(0)
    outline = radius[:, None] * np.stack([np.cos(a), np.sin(a)], axis=1)
    parts = [Part(outline, "main")]
    for _ in range(int(rng.integers(3))):
        x, y = rng.uniform(-0.4, 0.4, 2)
        parts.append(
            Part(ellipse(x, y, rng.uniform(0.1, 0.35)), str(rng.choice(("shade", "light"))))
        )
    return lambda t: parts


def _half_way(scene: Scene, rng: np.random.Generator) -> Drawing:
    others = [body for body in BODIES[:4] if body != scene.subject]
    other = str(rng.choice(others))
    share = rng.uniform(0.4, 0.6)
    outline = (1 - share) * _outline(scene.subject) + share * _outline(other)
    keep = DRAWINGS[scene.subject](0)[1:] if rng.random() < 0.5 else []
    inner = [part._replace(points=part.points * 0.6) for part in keep]
    return lambda t: [Part(outline, "main"), *inner]


def _outline(body: str, count: int = 72) -> np.ndarray:
    """The silhouette of a simple body as `count` points at equal angles [count, 2]."""
    canvas = np.zeros((257, 257), np.uint8)
    for part in DRAWINGS[body](0):
        cv2.fillPoly(canvas, [np.round(part.points * 100 + 128).astype(np.int32)], 255)
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    reach = np.arange(0, 128)
    x = np.round(128 + np.cos(angles)[:, None] * reach).astype(int)
    y = np.round(128 + np.sin(angles)[:, None] * reach).astype(int)
    radius = np.array([reach[row > 0].max() for row in canvas[y, x]]) / 100
    return radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _broken(scene: Scene, rng: np.random.Generator) -> Drawing:
    draw = DRAWINGS[scene.subject]
    moved = rng.uniform(0.35, 0.8, (64, 1)) * rng.choice((-1, 1), (64, 2))

    def drawing(t: float) -> list[Part]:
        parts = draw(t)
        if len(parts) < 4:  # a star is one piece: cut it
            parts = [p._replace(points=half) for p in parts for half in np.array_split(p.points, 2)]
        return [p._replace(points=p.points + by) for p, by in zip(parts, moved, strict=False)]

    return drawing


def _reduced(scene: Scene, rng: np.random.Generator) -> Drawing:
    squash = rng.choice((0.3, 2.4))
    keep = rng.random(64) < 0.4
    draw = DRAWINGS[scene.subject]

    def drawing(t: float) -> list[Part]:
        parts = draw(t)
        left = [p for p, kept in zip(parts, keep, strict=False) if kept and not p.effect] or parts[
            :1
        ]
        return [p._replace(points=p.points * (squash**-0.5, squash**0.5)) for p in left]

    return drawing


def ragged(clip: np.ndarray, masks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shift cells of 8 pixels around the subject by 3 to 7 pixels, each its own way: bodies fall
    into a mosaic, as those of weak generators do.

    clip: uint8 [T, H, W, 3]; masks: bool [T, H, W].
    """
    t, h, w, _ = clip.shape
    cells = rng.uniform(3, 7, (h // 8, w // 8, 2)) * rng.choice((-1, 1), (h // 8, w // 8, 2))
    shift = np.kron(cells, np.ones((8, 8, 1))).astype(np.float32)
    y, x = np.mgrid[:h, :w].astype(np.float32)
    out = clip.copy()
    for frame, mask, source in zip(out, masks, clip, strict=True):
        near = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        moved = cv2.remap(
            source, x + shift[..., 0], y + shift[..., 1], cv2.INTER_LINEAR, None, cv2.BORDER_REFLECT
        )
        frame[near] = moved[near]
    return out


def trails(clip: np.ndarray, strength: float) -> np.ndarray:
    """Each frame keeps `strength` of the one before: moving bodies smear. uint8 [T, H, W, 3]."""
    out = clip.astype(np.float32)
    for i in range(1, len(out)):
        out[i] = strength * out[i - 1] + (1 - strength) * out[i]
    return out.astype(np.uint8)


def empty_stage(scene: Scene, size: tuple[int, int, int]) -> np.ndarray:
    """The scene without its subject, uint8 [T, H, W, 3]."""
    return render(scene, *size, drawing=lambda t: []).clip.frames
