"""How many cuts are found in photographs in motion and toy scenes that were cut together.

    python benchmarks/cuts.py
    python benchmarks/cuts.py --films 4      quicker

A film has ten shots of 6 to 60 frames at 24 a second, each another picture that a camera moves over
or another scene; half of the films are in black and white. A cut counts when it is found within one
frame. `min_seconds`: 0 as `prepare` has it, 0.5 as many tools have it.
"""

import argparse

import numpy as np

from tests.pipeline.select.variants import PHOTOGRAPHS, in_motion, photograph, source
from vidgen_lab.pipeline.read.scenes import CutFinder, SceneSettings

SHOTS, FPS = 10, 24.0


def film(number: int) -> tuple[np.ndarray, list[int]]:
    """(frames uint8 [T, H, W, 3], frames that begin a shot)."""
    rng = np.random.default_rng(number)
    shots = []
    for which in rng.permutation(len(PHOTOGRAPHS) + 6)[:SHOTS]:
        length = int(rng.integers(6, 61))
        if which < len(PHOTOGRAPHS):
            shots.append(in_motion(photograph(PHOTOGRAPHS[which]), int(which), length))
        else:
            scene = source(int(100 * number + which))
            shots.append(scene[np.minimum(np.arange(length) // 3, len(scene) - 1)])
    frames = np.concatenate(shots)
    if number % 2:
        frames = np.repeat(frames.mean(-1, keepdims=True).astype(np.uint8), 3, axis=-1)
    return frames, np.cumsum([len(shot) for shot in shots])[:-1].tolist()


def found(frames: np.ndarray, settings: SceneSettings) -> list[int]:
    finder = CutFinder(FPS, settings)
    for frame in frames:
        finder.add(frame)
    return finder.cuts()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--films", type=int, default=12)
    films = [film(number) for number in range(parser.parse_args().films)]
    for detector, seconds in (("adaptive", 0.0), ("adaptive", 0.5), ("content", 0.0)):
        planted = called = right = 0
        for frames, cuts in films:
            left = found(frames, SceneSettings(detector, min_seconds=seconds))
            planted, called = planted + len(cuts), called + len(left)
            for cut in cuts:
                near = [f for f in left if abs(f - cut) <= 1]
                if near:
                    left.remove(near[0])
                    right += 1
        precision, recall = right / max(1, called), right / planted
        f1 = 2 * precision * recall / max(1e-9, precision + recall)
        print(f"{detector:9} min_seconds {seconds:g}: {right} of {planted} cuts found, "
              f"{called - right} others; F1 {f1:.3f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
