"""Clips nobody filmed for this: photographs in motion and the toy world, and what happens to clips.

24 frames at 8 a second, 160x96. A source is made by its number; a variant is a function of frames.
"""

from collections.abc import Callable

import cv2
import numpy as np
from skimage import data

from vidgen_lab.pipeline.select.sameness import Signature
from vidgen_lab.toyworld import render, sample_scene

WIDTH, HEIGHT, FRAMES, FPS, EVERY = 160, 96, 24, 8, 2
PHOTOGRAPHS = (
    "astronaut", "camera", "coffee", "chelsea", "rocket", "coins", "moon", "clock", "retina",
    "immunohistochemistry", "hubble_deep_field", "gravel", "brick", "cell",
)  # fmt: skip


def photograph(name: str) -> np.ndarray:
    picture = getattr(data, name)()
    return np.stack([picture] * 3, -1) if picture.ndim == 2 else picture[..., :3]


def in_motion(picture: np.ndarray, seed: int, frames: int = FRAMES) -> np.ndarray:
    """A camera moves over a photograph: a pan and a zoom, another one for every seed."""
    rng = np.random.default_rng(seed)
    height, width = picture.shape[:2]
    room = min(height / HEIGHT, width / WIDTH)
    starts = rng.uniform(0.15, 0.85, 2)
    ends = np.clip(starts + rng.uniform(0.15, 0.3, 2) * rng.choice((-1, 1), 2), 0, 1)
    zooms = rng.uniform(0.55, 0.85, 2)
    shown = []
    for part in np.linspace(0, 1, frames):
        zoom = room * (zooms[0] + part * (zooms[1] - zooms[0]))
        w, h = zoom * WIDTH, zoom * HEIGHT
        x, y = (starts + part * (ends - starts)) * (width - w, height - h)
        turn = np.float32([[w / WIDTH, 0, x], [0, h / HEIGHT, y]])
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        small = cv2.GaussianBlur(picture, (0, 0), max(0.3, 0.4 * zoom))
        shown.append(cv2.warpAffine(small, turn, (WIDTH, HEIGHT), flags=how))
    return np.stack(shown)


def source(number: int) -> np.ndarray:
    """uint8 [FRAMES, HEIGHT, WIDTH, 3]; the photographs first, then scenes of the toy world."""
    if number < len(PHOTOGRAPHS):
        return in_motion(photograph(PHOTOGRAPHS[number]), number)
    scene = sample_scene(np.random.default_rng(number))
    return render(scene, num_frames=FRAMES, height=HEIGHT, width=WIDTH, fps=FPS).clip.frames


def _each(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda frames: np.stack([change(frame) for frame in frames])


def _tones(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda frames: (255 * np.clip(change(frames / 255.0), 0, 1)).astype(np.uint8)


def _crop(share: float) -> Callable[[np.ndarray], np.ndarray]:
    y, x = round(HEIGHT * share / 2), round(WIDTH * share / 2)
    return _each(lambda f: cv2.resize(f[y : HEIGHT - y, x : WIDTH - x], (WIDTH, HEIGHT)))


def _coded(quality: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(frame: np.ndarray) -> np.ndarray:
        return cv2.imdecode(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1)

    return _each(change)


def _band(frame: np.ndarray) -> np.ndarray:
    frame = frame.copy()
    frame[-14:] = (20, 20, 24)
    cv2.putText(frame, "and then she said", (14, HEIGHT - 4), 0, 0.4, (240,) * 3, 1)
    return frame


def _caption(frame: np.ndarray) -> np.ndarray:
    frame = frame.copy()
    cv2.putText(frame, "and then she said", (14, HEIGHT - 6), 0, 0.4, (250,) * 3, 1, cv2.LINE_AA)
    return frame


def _logo(frame: np.ndarray) -> np.ndarray:
    frame = frame.copy()
    cv2.circle(frame, (WIDTH - 14, 13), 8, (250, 250, 250), -1)
    cv2.circle(frame, (WIDTH - 14, 13), 4, (220, 30, 30), -1)
    return frame


def _letterbox(frame: np.ndarray) -> np.ndarray:
    out = np.zeros_like(frame)
    out[12:-12] = cv2.resize(frame, (WIDTH, HEIGHT - 24), interpolation=cv2.INTER_AREA)
    return out


def _pillarbox(frame: np.ndarray) -> np.ndarray:
    out = np.zeros_like(frame)
    out[:, 20:-20] = cv2.resize(frame, (WIDTH - 40, HEIGHT), interpolation=cv2.INTER_AREA)
    return out


def _small(frame: np.ndarray) -> np.ndarray:
    return cv2.resize(frame, (80, 48), interpolation=cv2.INTER_AREA)


VARIANTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "copy": lambda f: f,
    "coded badly": _coded(25),
    "smaller": _each(_small),
    "brighter": _tones(lambda x: x + 0.1),
    "darker": _tones(lambda x: x - 0.1),
    "gamma 1.3": _tones(lambda x: x**1.3),
    "gamma 0.77": _tones(lambda x: x**0.77),
    "more contrast": _tones(lambda x: 0.5 + 1.25 * (x - 0.5)),
    "grain": lambda f: np.clip(f + np.random.default_rng(1).normal(0, 12, f.shape), 0, 255).astype(
        np.uint8
    ),
    "crop 5 %": _crop(0.05),
    "crop 10 %": _crop(0.1),
    "crop 15 %": _crop(0.15),
    "mirrored": lambda f: np.ascontiguousarray(f[:, :, ::-1]),
    "letterbox": _each(_letterbox),
    "pillarbox": _each(_pillarbox),
    "band of subtitles": _each(_band),
    "subtitles": _each(_caption),
    "logo": _each(_logo),
    "first half": lambda f: f[: FRAMES // 2],
    "later 60 %": lambda f: f[9:],
    "without ends": lambda f: f[3:-4],
}


def signature(frames: np.ndarray) -> Signature:
    """What scoring keeps of these frames at four looks a second."""
    from vidgen_lab.pipeline.read.pictures import bar_box

    colours = [cv2.resize(f, (64, 64), interpolation=cv2.INTER_AREA) for f in frames[::EVERY]]
    box = bar_box([cv2.cvtColor(c, cv2.COLOR_RGB2GRAY) for c in colours])
    return Signature.of_looks(colours, EVERY / FPS, box)
