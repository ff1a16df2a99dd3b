"""Clips that teach by failing: each fools one measure."""

import numpy as np

from vidgen_lab.toyworld import Scene, render
from vidgen_lab.video.clip import Clip


def fooling_clips(seed: int = 2) -> dict[str, Clip]:
    """Clips on which mean similarity of the first frames, or first against last, is wrong.

    driving: an honest clip, for comparison. late cut: another film from frame 13 on. late noise:
    pure noise from frame 12 on. there and back: drives out and returns to its first frame.
    grainy still: one frame under sensor noise; nothing moves.
    """
    rng = np.random.default_rng(seed)
    driving = render(Scene("car", "blue", "right", "city", seed=seed), num_frames=25).clip
    other = render(Scene("star", "yellow", "growing", "night_sky", seed=seed), num_frames=25).clip
    cut = np.concatenate([driving.frames[:13], other.frames[13:]])
    noise = rng.integers(0, 256, driving.frames[12:].shape, dtype=np.uint8)
    back = np.concatenate([driving.frames[::2], driving.frames[::-2][1:]])
    grain = rng.normal(0, 12, driving.frames.shape) + driving.frames[:1]
    named = {
        "driving": driving.frames,
        "late cut": cut,
        "late noise": np.concatenate([driving.frames[:12], noise]),
        "there and back": back,
        "grainy still": np.clip(grain, 0, 255).astype(np.uint8),
    }
    return {name: Clip(frames, driving.fps) for name, frames in named.items()}


def sharpness_zoo(seed: int = 0) -> dict[str, Clip]:
    """One picture at two sizes, blurred, and blurred with grain on top; two equal frames each."""
    import cv2

    big = render(Scene("rose", "red", "in_place", "meadow", seed=seed), 384, 256, 1).clip.frames[0]
    small = cv2.resize(big, (192, 128), interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(big, (0, 0), 3)
    grain = np.random.default_rng(seed).normal(0, 10, big.shape)
    grainy = np.clip(blurred + grain, 0, 255).astype(np.uint8)
    pictures = {"as drawn": big, "half the size": small, "blurred": blurred, "blur + grain": grainy}
    return {name: Clip(np.stack([p, p]), 8) for name, p in pictures.items()}
