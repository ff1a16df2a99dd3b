"""The book's three basic measures (listing 1.L10), on all frames and the true rate, and their cure.

Mean similarity of neighbours cannot tell a steady clip from a frozen one, and first-to-last
difference cannot tell motion from noise; `flow` can, so its numbers stand beside the book's.
"""

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from skimage.metrics import structural_similarity

from vidgen_lab.metrics.flow import FlowMeter, FlowReport
from vidgen_lab.video.clip import Clip
from vidgen_lab.video.reader import VideoReader

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

# (value above which the phrase holds, phrase), highest first.
GRADES = {
    "consistency": (
        (0.95, "very similar neighbours (smooth, or hardly moving)"),
        (0.85, "consistent"),
        (0.75, "moderately consistent (things move)"),
        (-np.inf, "weakly consistent (moves a lot, or flickers)"),
    ),
    "sharpness": (
        (500, "very sharp"),
        (200, "clear"),
        (100, "moderately sharp"),
        (-np.inf, "soft or blurred"),
    ),
    "motion": (
        (0.5, "strong motion"),
        (0.3, "moderate motion"),
        (0.1, "slight motion"),
        (-np.inf, "hardly any motion"),
    ),
    "flow": (
        (5, "strong motion"),
        (1, "moderate motion"),
        (0.05, "slight motion"),
        (-np.inf, "changes, but nothing travels"),
    ),
}


@dataclass(frozen=True)
class VideoBasics:
    """Result of `evaluate_video_basics`; units in `UNITS`, thresholds in `GRADES`.

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
        values = (self.consistency, self.sharpness, self.motion, self.flow_speed)
        verdicts = {
            name: next(phrase for least, phrase in GRADES[name] if value > least)
            for name, value in zip(GRADES, values, strict=True)
            if value is not None
        }
        if self.static:
            verdicts["flow"] = "static"
        return verdicts if self.static is None else verdicts | {"steadiness": self._steadiness()}

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
    """Measure a clip or video file; of a file only a few frames are in memory at a time.

    Rate and duration are the file's own.

    Args:
        video: a clip, or the path of a file.
        frames: "all" uses every frame; "book" repeats the book's choice (SSIM of the first nine
            pairs, sharpness of the middle frame) for comparison.
        sharpness_height: pixels to which frames are scaled for sharpness and noise. The Laplacian
            depends on the scale, so numbers compare only at equal heights; the book's thresholds
            were set for 480. None measures at the clip's own size.

    Raises:
        ValueError: fewer than two frames, under 16 pixels, or another choice of frames. Of a file
            also what `read_clip` raises.
    """
    if sharpness_height is not None and sharpness_height < 16:
        raise ValueError(f"sharpness_height must be at least 16, not {sharpness_height}")
    if frames not in ("all", "book"):
        raise ValueError(f'frames must be "all" or "book", not {frames!r}')
    pictures = video.frames if isinstance(video, Clip) else VideoReader(video)
    facts = video if isinstance(video, Clip) else pictures.info
    if facts.num_frames < 2:
        raise ValueError("an evaluation compares frames: the clip has only one")
    if min(facts.height, facts.width) < 16:
        raise ValueError(f"{facts.width}x{facts.height} is too small to evaluate (16 at least)")
    everything = frames == "all"
    flow, similarity, sharp, noise = FlowMeter(facts.fps), [], [], []
    alike = partial(structural_similarity, data_range=255)
    first = last = None
    for number, picture in enumerate(pictures):
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        if number and (everything or number < BOOK_FRAMES):
            similarity.append(alike(last, grey))
        if everything or number == facts.num_frames // 2:
            scaled = _scaled(grey, sharpness_height)
            sharp.append(cv2.Laplacian(scaled, cv2.CV_64F).var())
        if everything:
            noise.append(_noise(scaled))
            flow.add(picture)
        first, last = grey if first is None else first, grey
    ours = {"noise": float(np.median(noise))} | _flow_fields(flow.report()) if everything else {}
    return VideoBasics(
        frames,
        *(facts.num_frames, facts.width, facts.height, facts.fps, facts.duration),
        consistency=float(np.mean(similarity)),
        consistency_min=float(np.min(similarity)),
        consistency_min_frame=int(np.argmin(similarity)) + 1,
        sharpness=float(np.median(sharp)),
        motion=float(1 - alike(first, last)),
        **ours,
    )


def _noise(grey: np.ndarray) -> float:
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float64)
    response = cv2.filter2D(grey.astype(np.float64), cv2.CV_64F, mask)[1:-1, 1:-1]
    return np.sqrt(np.pi / 2) / 6 * np.abs(response).mean()


def _flow_fields(flow: FlowReport) -> dict[str, Any]:
    speed, error = float(flow.speed.mean()), float(flow.error.mean())
    # Noise that averages out over a neighbourhood is no visible change, unless it is everything.
    static = speed < 0.05 and flow.unexplained.max() < 0.02 and error < 8
    return {
        "flow_speed": speed,
        "camera_speed": float(flow.camera.mean()),
        "warping_error": error,
        "warping_error_max": float(flow.error.max()),
        "warping_error_frame": int(flow.error.argmax()) + 1,
        "unexplained": float(flow.unexplained.mean()),
        "static": bool(static),
    }


def _scaled(grey: np.ndarray, height: int | None) -> np.ndarray:
    if height is None or height == grey.shape[0]:
        return grey
    how = cv2.INTER_AREA if height < grey.shape[0] else cv2.INTER_LINEAR
    size = max(1, round(grey.shape[1] * height / grey.shape[0])), height
    return cv2.resize(grey, size, interpolation=how)
