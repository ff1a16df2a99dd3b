"""From a scene to pixels and ground truth: anti-aliased polygons, painted large, averaged down."""

from dataclasses import dataclass

import cv2
import numpy as np

from vidgen_lab.toyworld import backgrounds
from vidgen_lab.toyworld.motion import Pose, poses
from vidgen_lab.toyworld.subjects import DRAWINGS, INK, WHITE, Drawing, Part, rotate
from vidgen_lab.toyworld.world import Scene
from vidgen_lab.video.clip import Clip

PALETTE = {
    "red": (226, 50, 50),
    "orange": (246, 140, 30),
    "yellow": (252, 214, 48),
    "green": (52, 172, 72),
    "blue": (46, 104, 228),
    "purple": (148, 70, 204),
    "pink": (252, 132, 190),
    "white": (248, 248, 250),
}

_SUPERSAMPLE = 2  # painted so many times as large
_SUB_PIXEL_BITS = 4
_OUTLINE = 0.02  # of the frame height
_PAPER = (250, 240, 222)  # what the ground of a cut-out is bleached with


@dataclass(frozen=True)
class Rendered:
    """A clip with its ground truth, in pixels of the clip.

    Attributes:
        clip: uint8 frames [T, H, W, 3].
        centers: float [T, 2] (x, y), of the pose, whatever of the subject is visible.
        boxes: int [T, 4] (x0, y0, x1, y1), end exclusive, zeros where nothing is visible.
        masks: bool [T, H, W], the subject without its outline and effects.
    """

    clip: Clip
    scene: Scene
    centers: np.ndarray
    boxes: np.ndarray
    masks: np.ndarray


def render(
    scene: Scene,
    width: int = 96,
    height: int = 64,
    num_frames: int = 17,
    fps: float = 8,
    drawing: Drawing | None = None,
) -> Rendered:
    """Render `scene`; the same arguments give the same bytes on one machine.

    Width and height are pixels. The motion spans all frames; their rate `fps` does not change them.
    `drawing` stands in for the subject's own: for bodies that are nothing of this world.

    Raises:
        ValueError: a side is under 16 pixels, or there is no frame.
    """
    if min(width, height) < 16 or num_frames < 1:
        raise ValueError(
            f"cannot render {num_frames} frames of {width}x{height}: "
            "at least 1 frame of 16 pixels a side"
        )
    rng = np.random.default_rng(scene.seed)
    aspect, scale = width / height, height * _SUPERSAMPLE
    drawing = drawing or DRAWINGS[scene.subject]
    backdrop = getattr(backgrounds, scene.background)(aspect, rng)
    path = poses(scene, num_frames, aspect, rng)
    still = _gradient(backdrop.sky, width * _SUPERSAMPLE, scale)
    for points, colour in backdrop.still:
        _fill(still, points, colour, scale)

    frames, masks = [], []
    for pose in path:
        canvas = still.copy()
        for points, colour in backdrop.moving(pose.phase):
            _fill(canvas, points, colour, scale)
        if scene.style == "neon":
            canvas = _darken(canvas)
        elif scene.style == "papercut":
            canvas = cv2.addWeighted(canvas, 0.45, np.full_like(canvas, _PAPER), 0.55, 0)
        mask = _draw_subject(canvas, scene, drawing(pose.phase), pose, scale)
        if scene.style == "neon":
            canvas = _glow(canvas, mask, PALETTE[scene.colour])
        frames.append(cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA))
        masks.append(cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA) > 127)
    video = np.stack(frames)
    if scene.style == "vintage":
        video = _vintage(video, rng)
    masks = np.stack(masks)
    centers = np.array([(p.x * height, p.y * height) for p in path])
    return Rendered(Clip(video, fps), scene, centers, boxes_of(masks), masks)


def boxes_of(masks: np.ndarray) -> np.ndarray:
    """Tight boxes [T, 4] (x0, y0, x1, y1), end exclusive, of masks [T, H, W]; zeros where empty."""
    boxes = np.array([cv2.boundingRect(mask.astype(np.uint8)) for mask in masks], dtype=int)
    boxes[:, 2:] += boxes[:, :2]  # from width and height to the far corner
    return boxes


def _draw_subject(
    canvas: np.ndarray, scene: Scene, parts: list[Part], pose: Pose, scale: int
) -> np.ndarray:
    """Paint the subject onto `canvas` in place and return its mask (uint8, 0 or 255)."""
    main = np.array(PALETTE[scene.colour], dtype=float)
    tones = {"main": main, "shade": main * 0.74, "light": main * 0.45 + 255 * 0.55}
    parts = [part._replace(points=_place(part.points, pose)) for part in parts]
    body = [part.points for part in parts if not part.effect]
    mask = np.zeros(canvas.shape[:2], dtype=np.uint8)
    for points in body:
        _fill(mask, points, 255, scale)
    paper = scene.style == "papercut"
    if paper:
        _shadow(canvas, mask, scale)
    if scene.subject != "aurora" or paper:
        thickness = max(1, round((4.5 if paper else 2) * _OUTLINE * scale))
        outlines = [_fixed(points, scale) for points in body]
        edge = WHITE if paper else INK
        cv2.polylines(canvas, outlines, True, edge, thickness, cv2.LINE_AA, _SUB_PIXEL_BITS)
    for part in parts:
        tone = tones[part.paint] if isinstance(part.paint, str) else part.paint
        _fill(canvas, part.points, [int(v) for v in tone], scale)
    return mask


def _place(points: np.ndarray, pose: Pose) -> np.ndarray:
    if pose.mirrored:
        points = points * (-1, 1)
    return rotate(points, pose.angle) * pose.radius + (pose.x, pose.y)


def _fixed(points: np.ndarray, scale: int) -> np.ndarray:
    return np.round(points * (scale * 2**_SUB_PIXEL_BITS)).astype(np.int32)


def _fill(image: np.ndarray, points: np.ndarray, colour, scale: int) -> None:
    cv2.fillPoly(image, [_fixed(points, scale)], colour, cv2.LINE_AA, _SUB_PIXEL_BITS)


def _gradient(sky: tuple, width: int, height: int) -> np.ndarray:
    ramp = np.linspace(0, 1, height)[:, None, None]
    column = np.array(sky[0]) * (1 - ramp) + np.array(sky[1]) * ramp
    return np.repeat(np.round(column).astype(np.uint8), width, axis=1)


def _shadow(canvas: np.ndarray, mask: np.ndarray, scale: int) -> None:
    """Darken `canvas` in place where a cut-out lying on it throws its shadow: down and right."""
    reach = 0.045 * scale
    shift = np.array([[1, 0, reach], [0, 1, reach]])
    thick = cv2.dilate(mask, np.ones((3, 3), np.uint8), iterations=round(_OUTLINE * scale))
    moved = cv2.warpAffine(thick, shift, mask.shape[::-1])
    soft = cv2.GaussianBlur(moved, (0, 0), 0.012 * scale)[..., None] / 255
    canvas[:] = (canvas * (1 - 0.45 * soft)).astype(np.uint8)


def _darken(canvas: np.ndarray) -> np.ndarray:
    """Night: keep a third of the light and push what is left towards indigo."""
    return cv2.transform(
        canvas, np.array([[0.24, 0.02, 0.02, 10], [0.02, 0.2, 0.02, 4], [0.04, 0.04, 0.34, 34]])
    )


def _glow(canvas: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Add a soft halo of the subject's colour around the subject."""
    small = cv2.resize(mask, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    halo = cv2.GaussianBlur(small, (0, 0), small.shape[0] / 12)
    halo = cv2.resize(halo, mask.shape[::-1], interpolation=cv2.INTER_LINEAR)
    halo = cv2.bitwise_and(halo, cv2.bitwise_not(mask))
    return cv2.add(canvas, cv2.merge([cv2.multiply(halo, 0.75 * c / 255) for c in colour]))


def _vintage(video: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Black-and-white film: grey, vignette, a slight flicker and fine grain."""
    t, h, w, _ = video.shape
    grey = video @ np.array([0.299, 0.587, 0.114], dtype=np.float32)  # [T, H, W]
    y, x = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j]
    vignette = 1.05 - 0.42 * np.clip(x**2 + y**2 - 0.25, 0, None)
    flicker = 1 + rng.uniform(-0.025, 0.025, (t, 1, 1))
    grain = rng.standard_normal((t, h, w), dtype=np.float32) * 2.0
    film = np.clip(grey * (vignette * flicker).astype(np.float32) + grain, 0, 255).astype(np.uint8)
    return np.repeat(film[..., None], 3, axis=3)
