"""The book's three basic measures (listing 1.L10), on all frames and the true rate, and their cure.

Mean similarity of neighbours cannot tell a steady clip from a frozen one, and first-to-last
difference cannot tell motion from noise; `flow` can, so its numbers stand beside the book's.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from skimage.metrics import structural_similarity

from vidgen_lab.metrics.flow import FlowReport, analyse_flow
from vidgen_lab.video.clip import Clip
from vidgen_lab.video.reader import read_clip

BOOK_FRAMES = 10  # the book compares neighbours among the first ten frames only
UNITS = {
    "duration": "s",
    "consistency": "SSIM, 1 = identical",
    "consistency_min": "SSIM, 1 = identical",
    "sharpness": "variance of the Laplacian, grey levels squared",
    "noise": "grey levels",
    "motion": "1 - SSIM",
    "flow_speed": "% of width per second",
    "camera_speed": "% of width per second",
    "warping_error": "% of full scale",
    "warping_error_max": "% of full scale",
    "unexplained": "share of the picture",
}


@dataclass(frozen=True)
class VideoBasics:
    """Result of `evaluate_video_basics`; units in `UNITS`, thresholds in `verdicts`.

    consistency, sharpness and motion are the book's numbers. Positions count frames from 0 and
    name the later frame of the worst pair. With frames="book" the fields of the flow and the noise
    are None: the book has nothing of the kind.
    """

    frames: Literal["all", "book"]
    num_frames: int
    width: int
    height: int
    fps: float
    duration: float
    consistency: float  # mean SSIM of neighbouring frames
    consistency_min: float
    consistency_min_frame: int
    sharpness: float  # "all": median over the frames; "book": the middle frame
    motion: float  # first frame against last
    noise: float | None = None  # noise also raises sharpness, so read them together
    flow_speed: float | None = None
    camera_speed: float | None = None
    warping_error: float | None = None
    warping_error_max: float | None = None
    warping_error_frame: int | None = None
    unexplained: float | None = None  # visible change that no motion explains
    static: bool | None = None  # nothing moves and nothing visibly changes

    @property
    def verdicts(self) -> dict[str, str]:
        """One phrase per measure: the book's thresholds, and ours for the flow."""
        verdicts = {
            "consistency": _grade(self.consistency, _CONSISTENCY),
            "sharpness": _grade(self.sharpness, _SHARPNESS),
            "motion": _grade(self.motion, _MOTION),
        }
        if self.static is not None:
            verdicts["flow"] = "static" if self.static else _grade(self.flow_speed, _FLOW)
            verdicts["steadiness"] = self._steadiness()
        return verdicts

    def _steadiness(self) -> str:
        if self.warping_error > 3 or self.unexplained > 0.5:
            return "flickers or is noisy"
        if self.unexplained > 0.15:
            return "jumps: much of it changes without moving there"
        if self.warping_error_max > 2 + 3 * self.warping_error:
            return f"jumps at frame {self.warping_error_frame}"
        return "steady"

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, ready for JSON or a table row."""
        return asdict(self) | {f"{name}_verdict": text for name, text in self.verdicts.items()}


def evaluate_video_basics(
    video: Clip | str | Path,
    frames: Literal["all", "book"] = "all",
    sharpness_height: int | None = None,
) -> VideoBasics:
    """Measure a clip or video file.

    frames: "all" uses every frame; "book" repeats the book's choice (SSIM of the first nine pairs,
        sharpness of the middle frame) for comparison. Rate and duration are the file's own.
    sharpness_height: pixels to which frames are scaled for sharpness and noise. The Laplacian
        depends on the scale, so numbers compare only at equal heights; the book's thresholds were
        set for 480. None measures at the clip's own size.
    Raises ValueError for fewer than two frames or under 16 pixels, and what `read_clip` raises.
    """
    if frames not in ("all", "book"):
        raise ValueError(f'frames must be "all" or "book", not {frames!r}')
    clip = video if isinstance(video, Clip) else read_clip(video)
    if clip.num_frames < 2:
        raise ValueError("an evaluation compares frames: the clip has only one")
    if min(clip.height, clip.width) < 16:
        raise ValueError(f"{clip.width}x{clip.height} is too small to evaluate (16 at least)")
    looked_at = BOOK_FRAMES if frames == "book" else clip.num_frames
    similarity = neighbour_ssim(Clip(clip.frames[:looked_at], clip.fps))
    common = {
        "frames": frames,
        **{name: getattr(clip, name) for name in ("num_frames", "width", "height", "fps")},
        "duration": clip.duration,
        "consistency": float(similarity.mean()),
        "consistency_min": float(similarity.min()),
        "consistency_min_frame": int(similarity.argmin()) + 1,
        "motion": 1 - _ssim(_grey(clip.frames[0]), _grey(clip.frames[-1])),
    }
    if frames == "book":
        middle = Clip(clip.frames[clip.num_frames // 2][None], clip.fps)
        return VideoBasics(sharpness=float(sharpness(middle, sharpness_height)[0]), **common)
    return VideoBasics(
        sharpness=float(np.median(sharpness(clip, sharpness_height))),
        noise=float(np.median(noise_level(clip, sharpness_height))),
        **_flow_fields(analyse_flow(clip)),
        **common,
    )


def neighbour_ssim(clip: Clip) -> np.ndarray:
    """Structural similarity of each frame with the next on grey, float64 [T-1], 1 = identical."""
    grey = [_grey(frame) for frame in clip.frames]
    return np.array([_ssim(a, b) for a, b in zip(grey, grey[1:], strict=False)])


def sharpness(clip: Clip, height: int | None = None) -> np.ndarray:
    """Variance of the Laplacian of each frame, float64 [T]; frames scaled to `height` if given."""
    return np.array([cv2.Laplacian(grey, cv2.CV_64F).var() for grey in _scaled(clip, height)])


def noise_level(clip: Clip, height: int | None = None) -> np.ndarray:
    """Standard deviation of the noise in each frame, grey levels, float64 [T].

    Immerkaer 1996: a mask that cancels planes and edges; fine texture still counts as noise.
    """
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float64)
    levels = []
    for grey in _scaled(clip, height):
        response = cv2.filter2D(grey.astype(np.float64), cv2.CV_64F, mask)[1:-1, 1:-1]
        levels.append(np.sqrt(np.pi / 2) / 6 * np.abs(response).mean())
    return np.array(levels)


def _flow_fields(flow: FlowReport) -> dict[str, Any]:
    speed, error = float(flow.speed.mean()), float(flow.error.mean())
    # Noise that averages out over a neighbourhood is no visible change, unless it is everything.
    static = speed < 0.05 and flow.unexplained.max() < 0.02 and error < 8
    return {
        "flow_speed": speed,
        "camera_speed": float(flow.camera.mean()),
        "warping_error": error,
        "warping_error_max": float(flow.error.max()),
        "warping_error_frame": flow.worst_frame,
        "unexplained": float(flow.unexplained.mean()),
        "static": bool(static),
    }


def _scaled(clip: Clip, height: int | None) -> list[np.ndarray]:
    grey = [_grey(frame) for frame in clip.frames]
    if height is None or height == clip.height:
        return grey
    how = cv2.INTER_AREA if height < clip.height else cv2.INTER_LINEAR
    size = max(1, round(clip.width * height / clip.height)), height
    return [cv2.resize(frame, size, interpolation=how) for frame in grey]


def _grey(frame: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)


def _ssim(a: np.ndarray, b: np.ndarray) -> float:
    return float(structural_similarity(a, b, data_range=255))


# (value above which the phrase holds, phrase), highest first.
_CONSISTENCY = (
    (0.95, "very similar neighbours (smooth, or hardly moving)"),
    (0.85, "consistent"),
    (0.75, "moderately consistent (things move)"),
    (-np.inf, "weakly consistent (moves a lot, or flickers)"),
)
_SHARPNESS = (
    (500, "very sharp"),
    (200, "clear"),
    (100, "moderately sharp"),
    (-np.inf, "soft or blurred"),
)
_MOTION = (
    (0.5, "strong motion"),
    (0.3, "moderate motion"),
    (0.1, "slight motion"),
    (-np.inf, "hardly any motion"),
)
_FLOW = (
    (5, "strong motion"),
    (1, "moderate motion"),
    (0.05, "slight motion"),
    (-np.inf, "changes, but nothing travels"),
)


def _grade(value: float, scale: tuple[tuple[float, str], ...]) -> str:
    return next(phrase for least, phrase in scale if value > least)
