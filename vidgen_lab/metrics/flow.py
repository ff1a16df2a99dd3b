"""Motion and flicker from dense optical flow between neighbouring frames.

Flow is believed only where it explains the change it claims: warping the next frame back has to
remove at least half of the difference (a noise guard, since flow computed on noise is noise), and
the flow there and back has to agree (Sundaram et al. 2010, the usual occlusion test). What changes
without such an explanation is flicker, a jump or a cut. The warping error follows Lai et al. 2018,
"Learning Blind Video Temporal Consistency".
"""

from dataclasses import dataclass

import cv2
import numpy as np

from vidgen_lab.video.clip import Clip

_WORK_WIDTH = 256  # larger frames are reduced by a whole factor first: faster, and less noise
_WINDOW = 0.02  # of the width: sigma of the neighbourhood in which a change is judged
_VISIBLE = 8.0  # grey levels (of 255) by which a neighbourhood must change to need an explanation
_MIN_GAIN = 4.0  # squared grey levels: below it there is no evidence of motion at all


@dataclass(frozen=True)
class FlowReport:
    """One value per pair of neighbouring frames, float64 [T-1]; pair i is frames i and i + 1.

    Attributes:
        speed: mean length of the believed flow over the whole picture, % of the width per second.
        camera: length of the median flow vector in the same unit; what moves everything alike.
        error: warping error, mean grey difference after motion is undone, % of full scale; newly
            uncovered places are left out unless they make up half of the picture.
        unexplained: share (0..1) of the picture that visibly changes and that no motion explains.
    """

    speed: np.ndarray
    camera: np.ndarray
    error: np.ndarray
    unexplained: np.ndarray


def flow_magnitude(clip: Clip) -> np.ndarray:
    """Mean motion of each pair of neighbours, float64 [T-1], % of the picture width per second."""
    return analyse_flow(clip).speed


def analyse_flow(clip: Clip) -> FlowReport:
    """Both measures, and more, from one computation (DIS flow, Kroeger et al. 2016).

    About 4 ms a pair at 96x64, 16 ms at 720x480 on one core. What a flow cannot follow, such as a
    fast turn or a new shape, shows as unexplained.

    Raises:
        ValueError: the clip has one frame, or its frames a side under 16 pixels.
    """
    if clip.num_frames < 2:
        raise ValueError("motion needs at least two frames, the clip has one")
    meter = FlowMeter(clip.fps)
    for frame in clip.frames:
        meter.add(frame)
    return meter.report()


class FlowMeter:
    """The same frame by frame (`fps` a second), for a video that would not fit into memory."""

    def __init__(self, fps: float) -> None:
        self.fps = fps
        self._engine = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._last: np.ndarray | None = None
        self._pairs: list[tuple[float, float, float, float]] = []

    def add(self, frame: np.ndarray) -> None:
        """Take the next frame, uint8 [H, W, 3]; ValueError under 16 pixels."""
        height, width = frame.shape[:2]
        if min(height, width) < 16:
            raise ValueError(f"{width}x{height} is too small for optical flow (16 at least)")
        grey = _grey(frame)
        if self._last is not None:
            self._pairs.append(_measure(self._engine, self._last, grey))
        self._last = grey

    def report(self) -> FlowReport:
        """What the frames so far say, two at least."""
        speed, camera, error, unexplained = np.asarray(self._pairs, dtype=np.float64).T
        percent_per_second = 100 * self.fps / self._last.shape[1]
        return FlowReport(
            speed * percent_per_second, camera * percent_per_second, error / 2.55, unexplained
        )


def _measure(engine, now: np.ndarray, after: np.ndarray) -> tuple[float, float, float, float]:
    """uint8 [H, W] twice -> speed, camera (pixels per pair), error (grey levels), unexplained."""
    flow = engine.calc(now, after, None)  # [H, W, 2]: now(x) looks like after(x + flow)
    back = engine.calc(after, now, None)
    now, after = now.astype(np.float32), after.astype(np.float32)
    change, rest = after - now, _warp(after, flow) - now

    agree = _agree(flow, back)
    believed = agree & _explains(change, rest)
    changed = np.abs(_smooth(change)) > _VISIBLE
    moving = flow * believed[..., None]
    camera = np.hypot(*np.median(moving.reshape(-1, 2), axis=0))

    uncovered = changed & ~agree
    counted = ~uncovered if uncovered.mean() < 0.5 else np.ones_like(uncovered)
    error = np.abs(rest[counted]).mean()
    return _length(moving).mean(), camera, error, (changed & ~believed).mean()


def _explains(change: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """bool [H, W]: undoing the motion removes most of the change in the neighbourhood.

    A change of brightness of the whole picture is taken out first, so that flicker does not hide
    motion.
    """
    before = _smooth((change - np.median(change)) ** 2)
    after = _smooth((rest - np.median(rest)) ** 2)
    return (after < 0.5 * before) & (before - after > _MIN_GAIN)


def _agree(flow: np.ndarray, back: np.ndarray) -> np.ndarray:
    """bool [H, W]: the flow there and back returns to its start without leaving the picture."""
    height, width = flow.shape[:2]
    returned = _warp(back, flow)
    slack = 0.01 * (_length(flow) ** 2 + _length(returned) ** 2) + 0.5
    x, y = _target(flow)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    return inside & (_length(flow + returned) ** 2 <= slack)


def _warp(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """image at x + flow(x), bilinear."""
    return cv2.remap(image, *_target(flow), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _target(flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x and y, float32 [H, W] each, of where the flow takes every pixel."""
    y, x = np.mgrid[: flow.shape[0], : flow.shape[1]].astype(np.float32)
    return x + flow[..., 0], y + flow[..., 1]


def _length(flow: np.ndarray) -> np.ndarray:
    return np.hypot(flow[..., 0], flow[..., 1])


def _smooth(image: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), max(1.5, _WINDOW * image.shape[1]))


def _grey(frame: np.ndarray) -> np.ndarray:
    """A frame as uint8 [H, W], reduced by a whole factor to at most the working width."""
    height, width = frame.shape[:2]
    factor = -(-width // _WORK_WIDTH)
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    if factor == 1:
        return grey
    size = max(16, width // factor), max(16, height // factor)
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
