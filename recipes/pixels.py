"""Colour, size and path of simple bodies measured from pixels, without the judge."""

from dataclasses import replace

import numpy as np
from scipy import ndimage

from recipes.scenes import sample_scenes
from vidgen_lab.toyworld import render
from vidgen_lab.toyworld.renderer import PALETTE, Rendered
from vidgen_lab.toyworld.world import BODIES
from vidgen_lab.video.clip import Clip

SIZE = (96, 64, 16)
NEAR = 48  # distance in RGB within which a pixel has a colour


def body_masks(frames: np.ndarray, colour: str) -> np.ndarray:
    """Per frame the largest patch in a tone of the colour, bool [T, H, W], of [T, H, W, 3]."""
    main = np.array(PALETTE[colour], dtype=float)
    tones = np.stack([main, main * 0.74, main * 0.45 + 255 * 0.55])
    distance = np.linalg.norm(frames[..., None, :] - tones, axis=-1).min(-1)  # [T, H, W]
    masks = np.zeros(distance.shape, dtype=bool)
    for mask, near in zip(masks, distance < NEAR, strict=True):
        patches, count = ndimage.label(ndimage.binary_closing(near, iterations=2))
        if count:
            areas = ndimage.sum_labels(near, patches, range(1, count + 1))
            mask[:] = ndimage.binary_fill_holes(patches == 1 + int(np.argmax(areas)))
    return masks


def check_body(clip: Clip, truth: Rendered) -> dict[str, bool]:
    """Whether a clip of the scene of `truth` is like its render: the colour is there in nine frames
    of ten, the size (area) is right within a factor of two, the path within an eighth of the
    height.

    The scene's small variations (where exactly, how large exactly) are free: the path may be
    shifted as a whole by that much.
    """
    masks = body_masks(clip.frames, truth.scene.colour)
    area = masks.sum((1, 2))
    expected = truth.masks.sum((1, 2))
    seen = area > 0.35 * expected
    colour = bool(seen.mean() >= 0.9)
    if not seen.any():
        return {"colour": colour, "size": False, "path": False}
    ratio = area[seen] / np.maximum(expected[seen], 1)
    size = bool(0.5 < np.median(ratio) < 2)
    if truth.scene.motion == "growing":
        size &= bool(area[-3:].mean() > 1.5 * area[:3].mean())
    height = clip.frames.shape[1]
    centres = np.array([ndimage.center_of_mass(mask)[::-1] for mask in masks[seen]])  # x, y
    true = np.array([ndimage.center_of_mass(mask)[::-1] for mask in truth.masks[seen]])
    off = np.linalg.norm((centres - true) - np.median(centres - true, axis=0), axis=1) / height
    shift = np.linalg.norm(np.median(centres - true, axis=0)) / height
    path = bool(np.mean(off) < 0.125 and shift < 0.2)
    return {"colour": colour, "size": size, "path": path}


def checkable_scenes(count: int, seed: int = 555) -> list[Rendered]:
    """Renders of simple bodies in cartoon style whose own pixels pass the check against another
    render of the same scene: where, say, the body is not as blue as the sea behind it."""
    found: list[Rendered] = []
    for scene in sample_scenes(100 * count, seed):
        if scene.subject not in BODIES or scene.style != "cartoon":
            continue
        scene = replace(scene, seed=scene.seed % 2**30)
        truth = render(scene, *SIZE)
        others = (render(replace(scene, seed=scene.seed + n), *SIZE).clip for n in (1, 2))
        if all(all(check_body(clip, truth).values()) for clip in (truth.clip, *others)):
            found.append(truth)
        if len(found) == count:
            return found
    raise ValueError(f"only {len(found)} of {count} scenes can be checked from pixels")
