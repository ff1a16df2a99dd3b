"""Where one shot ends and the next begins, with PySceneDetect 0.7 (book listing 2.L10, repaired).

Frames come from the package's own reader, so a cut is a frame number as shown and, through the
reader's time table, a true time, also where the frame rate varies. A video without a cut is one
scene. Hard cuts are what these detectors find; of slow fades they miss most.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from vidgen_lab.config import Checked

DETECTORS = ("adaptive", "content", "threshold", "hash", "histogram")
_SIDE = 128  # pixels: detectors compare whole pictures, details only cost time
_GREY = 16  # mean saturation (of 255) up to which a picture counts as black and white
_GREY_SHARE = 2 / 3  # of the adaptive threshold, in black and white


@dataclass(frozen=True)
class SceneSettings(
    Checked, detector=DETECTORS, min_seconds=(0, math.inf), threshold=(0.001, math.inf)
):
    """How a video is split into shots, by one of DETECTORS.

    Attributes:
        threshold: on the detector's own scale; None: its default (3, 27, 12, 0.35 or 0.2).
        min_seconds: shots shorter than this are not split off, so that a clip may begin or end with
            pictures of another shot; 0: every shot is a scene, and the gates drop the short ones.
    """

    detector: str = "adaptive"
    threshold: float | None = None
    min_seconds: float = 0.0


@dataclass(frozen=True)
class Span:
    """A piece of a video: frames [first, end) and seconds [start, stop)."""

    first: int
    end: int
    start: float
    stop: float

    @property
    def num_frames(self) -> int:
        return self.end - self.first

    @property
    def seconds(self) -> float:
        return self.stop - self.start


class CutFinder:
    """Takes the frames of a video one by one; `cuts` are the numbers of frames that begin a shot.

    The adaptive and the content detector average the changes of hue, saturation and brightness. In
    black-and-white footage two of the three are zero, and a plain cut drops below the threshold; so
    there a second detector looks at brightness alone. Motion, too, changes nothing but brightness,
    so that a cut stands out less; hence its lower threshold.

    Args:
        fps: frames per second, only used for the minimal length of a shot.
    """

    def __init__(self, fps: float, settings: SceneSettings = SceneSettings()) -> None:
        from scenedetect import FrameTimecode

        self._timecode = FrameTimecode
        self._shortest = max(1, round(settings.min_seconds * fps))
        self._detectors = [_make_detector(settings, self._shortest)]  # and one for grey footage
        if settings.detector in ("adaptive", "content"):
            lower = replace(settings, threshold=(settings.threshold or 3.0) * _GREY_SHARE)
            grey = lower if settings.detector == "adaptive" else settings
            self._detectors.append(_make_detector(grey, self._shortest, luma_only=True))
        self._cuts: list[set[int]] = [set() for _ in self._detectors]
        self._is_grey: list[bool] = []  # of every frame

    def add(self, rgb: np.ndarray) -> None:
        """The next frame, uint8 [H, W, 3]."""
        scale = _SIDE / min(rgb.shape[:2])
        if scale < 1:
            size = round(rgb.shape[1] * scale), round(rgb.shape[0] * scale)
            rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
        # The rate is a dummy: frames are counted here, times come from the reader.
        now = self._timecode(len(self._is_grey), fps=25.0)
        bgr = np.ascontiguousarray(rgb[..., ::-1])
        for detector, cuts in zip(self._detectors, self._cuts, strict=True):
            cuts |= {cut.frame_num for cut in detector.process_frame(now, bgr)}
        saturation = cv2.cvtColor(bgr, cv2.COLOR_BGR2HSV)[..., 1]
        self._is_grey.append(float(saturation.mean()) <= _GREY)

    def cuts(self) -> list[int]:
        """Frame numbers at which shots begin, without 0; call it when all frames are in."""
        count = len(self._is_grey)
        last = self._timecode(count - 1, fps=25.0)
        for detector, cuts in zip(self._detectors, self._cuts, strict=True):
            cuts |= {cut.frame_num for cut in detector.post_process(last)}
        cuts, *on_grey = ({c for c in found if 0 < c < count} for found in self._cuts)
        for cut in sorted(set().union(*on_grey)):
            in_grey = self._is_grey[cut - 1] and self._is_grey[cut]
            if in_grey and all(abs(cut - other) >= self._shortest for other in cuts):
                cuts.add(cut)
        return sorted(cuts)


def _make_detector(settings: SceneSettings, min_frames: int, **options: bool):
    from scenedetect import detectors

    kind = getattr(detectors, f"{settings.detector.capitalize()}Detector")
    name = "adaptive_threshold" if settings.detector == "adaptive" else "threshold"
    threshold = {} if settings.threshold is None else {name: settings.threshold}
    return kind(min_scene_len=min_frames, **threshold, **options)


def spans_between(cuts: Iterable[int], times: np.ndarray, duration: float) -> list[Span]:
    """Spans from the first frame to the last; `times` [frames] and `duration` are in seconds.

    Raises:
        ValueError: cuts lie outside the video or are out of order.
    """
    edges = [0, *cuts, len(times)]
    if any(b <= a for a, b in zip(edges, edges[1:], strict=False)):
        raise ValueError(f"cuts must rise within 1..{len(times) - 1}, not {edges[1:-1]}")
    moments = [*(float(times[e]) for e in edges[:-1]), max(duration, float(times[-1]) + 1e-6)]
    return [
        Span(first, end, round(start, 6), round(stop, 6))
        for first, end, start, stop in zip(edges, edges[1:], moments, moments[1:], strict=False)
    ]
