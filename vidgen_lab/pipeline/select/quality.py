"""The book's quality assessor (2.L08) and filtering pipeline (2.L11), complete and repaired."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from vidgen_lab.metrics.flow import flow_magnitude
from vidgen_lab.pipeline.manifest import Row
from vidgen_lab.pipeline.read.pictures import laplacian_variance
from vidgen_lab.pipeline.read.probing import probe_file
from vidgen_lab.pipeline.select.gates import GateSettings, judge
from vidgen_lab.pipeline.select.scoring import score_video
from vidgen_lab.video.clip import evenly_spaced
from vidgen_lab.video.reader import VideoError, VideoReader


class OpenCVQualityAssessor:
    """Frame-level checks of one file.

    Where the book's numbers depend on how a video is sampled, these do not: frames are counted and
    not taken from the header, no rate is invented, and motion is measured between neighbours and
    given per second.
    """

    def probe(self, video_path: str | Path) -> tuple[int, int, float, int, float]:
        """(width, height, frames per second, frames, seconds), after rotation."""
        facts = probe_file(video_path)
        return facts.width, facts.height, facts.fps, facts.num_frames, facts.seconds

    def sample_indices(self, n_frames: int, n_samples: int) -> list[int]:
        """Evenly spaced frame numbers without repetition, the first and the last among them."""
        return evenly_spaced(n_frames, n_samples)

    def sharpness(self, video_path: str | Path, indices: Sequence[int]) -> float:
        """Mean variance of the Laplacian at these frames, at full size, as in the book."""
        reader = VideoReader(video_path)
        frames = (reader.read(int(i), 1).frames[0] for i in indices)
        return float(
            np.mean([laplacian_variance(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY)) for f in frames])
        )

    def motion(self, video_path: str | Path, indices: Sequence[int]) -> float:
        """Mean motion from these frames to the next, % of the width per second."""
        reader = VideoReader(video_path)
        last = reader.info.num_frames - 2
        starts = sorted({min(int(i), last) for i in indices})
        if last < 0 or not starts:
            raise ValueError(f"motion needs two frames: {video_path}")
        return float(np.mean([flow_magnitude(reader.read(i, 2))[0] for i in starts]))


class ScalableFilteringPipeline:
    """Probe, split and judge files; a broken one is an error and stops nobody.

    It is the middle of `prepare.prepare` for a few files, without journal or workers.
    """

    def __init__(self, gates: GateSettings | None = None) -> None:
        self.gates = (gates or GateSettings()).gates()

    def run(self, video_path: str | Path) -> list[Row]:
        """One row a scene, kept or rejected with metric, value and threshold; or one error."""
        path = Path(video_path)
        try:
            scored = score_video(path)
        except (VideoError, OSError) as error:
            return [Row(path.name, "", "read", "error", reason=str(error))]
        return [
            judge(
                Row(
                    path.name, f"{path.stem}-{clip['frames'][0]:06d}", "scenes", "kept",
                    span=clip["span"], frames=clip["frames"], metrics=clip["metrics"],
                ),
                self.gates,
            )
            for clip in scored["clips"]
        ]  # fmt: skip
