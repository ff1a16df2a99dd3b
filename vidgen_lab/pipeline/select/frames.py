"""Which frames of a video to look at: scene boundaries, motion, and the end too (2.L13)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from vidgen_lab.pipeline.read.pictures import WORK_SIDE
from vidgen_lab.pipeline.read.scenes import CutFinder
from vidgen_lab.video.clip import evenly_spaced
from vidgen_lab.video.reader import VideoReader


@dataclass(frozen=True)
class Selection:
    """indices: frame numbers in order. cuts: frames that begin a shot.

    scores: motion of each frame against the one before it, grey levels, [num_frames].
    """

    indices: tuple[int, ...]
    cuts: tuple[int, ...]
    scores: np.ndarray


def calculate_motion_scores(frames: Iterator[np.ndarray]) -> np.ndarray:
    """Mean change of each frame against the one before it, grey levels, float [T]; the first is 0.

    frames: uint8 [H, W, 3], one at a time.
    """
    scores, before = [], None
    for rgb in frames:
        grey = cv2.resize(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), (64, 36))
        scores.append(0.0 if before is None else float(cv2.absdiff(before, grey).mean()))
        before = grey
    return np.array(scores)


def choose_frames(scores: np.ndarray, cuts: tuple[int, ...], budget: int) -> list[int]:
    """Exactly min(budget, T) frame numbers in order, spread over the whole video.

    The first frame of every shot comes first, as far as the budget reaches (evenly thinned beyond).
    The rest of the budget goes to equal bins of time, and in a bin to the frame that moves most. So
    a busy beginning cannot eat up the end.
    """
    total = len(scores)
    if budget < 1 or total < 1:
        raise ValueError(f"no frames to choose: {budget} of {total}")
    if budget >= total:
        return list(range(total))
    borders = [0, *cuts]
    if len(borders) > budget:
        return [borders[place] for place in evenly_spaced(len(borders), budget)]
    chosen = set(borders)
    while len(chosen) < budget:
        for frames in np.array_split(np.arange(total), budget - len(chosen)):
            free = [f for f in frames.tolist() if f not in chosen]
            if free and len(chosen) < budget:
                chosen.add(max(free, key=lambda f: (scores[f], -abs(f - frames.mean()))))
    return sorted(chosen)


class AdaptiveFrameExtractor:
    """A fixed number of frames that show what happens in a video (book listing 2.L13, repaired:
    the printed one sorts its candidates and keeps the first, which loses the end)."""

    def select(self, path: str | Path, target_frames: int = 100) -> Selection:
        """Choose frames in one pass over the video, in constant memory."""
        reader = VideoReader(path, shrink_to=WORK_SIDE)
        finder = CutFinder(reader.info.fps)

        def watched() -> Iterator[np.ndarray]:
            for rgb in reader:
                finder.add(rgb)
                yield rgb

        scores = calculate_motion_scores(watched())
        cuts = tuple(finder.cuts())
        indices = choose_frames(scores, cuts, target_frames)
        return Selection(tuple(indices), cuts, scores)

    def extract_frames(self, path: str | Path, target_frames: int = 100) -> np.ndarray:
        """The chosen frames, uint8 [min(target_frames, T), H, W, 3]."""
        wanted = set(self.select(path, target_frames).indices)
        return np.stack([f for n, f in enumerate(VideoReader(path)) if n in wanted])
