"""The paradox of consistency: four clips on which mean SSIM and the eye disagree."""

import numpy as np

from vidgen_lab.toyworld import Scene, render
from vidgen_lab.video.clip import Clip


def paradox_clips(seed: int = 0) -> dict[str, Clip]:
    """Four toy clips of the same red ball, 96x64, 17 frames at 8 fps, by name.

    moving: the ball crosses the meadow, as it should. frozen: its first frame throughout.
    flickering: that frame, every other time brighter. teleporting: the frames of "moving", each
    flawless, in a shuffled order.
    """
    moving = render(Scene("ball", "red", "left", "meadow", "cartoon", seed)).clip
    num_frames, fps = moving.num_frames, moving.fps
    frozen = np.repeat(moving.frames[:1], num_frames, axis=0)
    brighter = 30 * (np.arange(num_frames) % 2)[:, None, None, None]
    flickering = np.clip(frozen.astype(np.int16) + brighter, 0, 255).astype(np.uint8)
    order = np.random.default_rng(seed).permutation(num_frames)
    return {
        "moving": Clip(moving.frames, fps, {"prompt": "a red ball moving left in a meadow"}),
        "frozen": Clip(frozen, fps),
        "flickering": Clip(flickering, fps),
        "teleporting": Clip(moving.frames[order], fps),
    }
