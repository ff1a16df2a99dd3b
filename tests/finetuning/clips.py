"""A folder of small clips in CogVideo's layout, for the tiny models."""

from pathlib import Path

import numpy as np

from vidgen_lab.video.clip import Clip
from vidgen_lab.video.writer import write_clip

CAPTIONS = ("a red ball moving left", "a blue ball", "the red star", "a rose", "the blue star")


def write_clips(folder: Path, count: int = 5, num_frames: int = 9, side: int = 32) -> Path:
    """Clip n is a square of one colour that moves n + 1 pixels a frame."""
    (folder / "videos").mkdir(parents=True)
    for n in range(count):
        frames = np.full((num_frames, side, side, 3), 40, np.uint8)
        for t in range(num_frames):
            left = (t * (n + 1)) % (side - 8)
            frames[t, 8:20, left : left + 8, n % 3] = 220
        write_clip(Clip(frames, 8.0), folder / "videos" / f"{n}.mp4")
    captions = [CAPTIONS[n % len(CAPTIONS)] for n in range(count)]
    (folder / "prompts.txt").write_text("\n".join(captions) + "\n")
    (folder / "videos.txt").write_text("".join(f"videos/{n}.mp4\n" for n in range(count)))
    return folder
