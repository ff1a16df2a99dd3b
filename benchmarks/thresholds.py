"""What the gates' defaults reject: of good clips, and of clips with the defect they are made for.

    python benchmarks/thresholds.py

Good clips: a camera moves over fourteen photographs of scikit-image, and twelve toy scenes; the
larger the pictures, the more like footage. Damaged ones are made of every third of them.
"""

import tempfile
from pathlib import Path

import cv2
import numpy as np

from tests.pipeline.select import variants
from vidgen_lab.pipeline.select.gates import GateSettings
from vidgen_lab.pipeline.select.scoring import score_video
from vidgen_lab.video.clip import Clip
from vidgen_lab.video.writer import write_clip

PHOTOGRAPHS, SCENES = range(len(variants.PHOTOGRAPHS)), range(14, 26)
GATES = GateSettings().by_name()


def barred(frames: np.ndarray) -> np.ndarray:
    """A strip of picture in a black frame."""
    frames = frames.copy()
    frames[:, :30] = frames[:, -30:] = 0
    return frames


def grainy(frames: np.ndarray) -> np.ndarray:
    """A still under grain."""
    grain = np.random.default_rng(0).normal(0, 6, (*frames.shape[:3], 1))
    return np.clip(frames[:1] + grain, 0, 255).astype(np.uint8)


def card(frames: np.ndarray) -> np.ndarray:
    bars = np.kron(np.linspace((20, 235, 90), (235, 20, 150), 8), np.ones((20, 1)))
    return np.broadcast_to(bars.astype(np.uint8), frames.shape).copy()


DAMAGE = {
    "min_edge_steepness": lambda f: np.stack([cv2.GaussianBlur(x, (0, 0), 2) for x in f]),
    "max_bright": lambda f: np.clip(f.astype(int) * 3 + 90, 0, 255).astype(np.uint8),
    "max_dark": lambda f: f // 30,
    "max_blank": lambda f: np.full_like(f, 128),
    "max_bars": barred,
    "max_stripes": card,
    "max_frozen": lambda f: np.repeat(f[:1], len(f), axis=0),
    "min_changing": grainy,
}


def metrics(frames: np.ndarray, folder: Path) -> dict[str, float | None]:
    path = write_clip(Clip(frames, variants.FPS), folder / "clip.mp4", crf=16)
    return score_video(path)["clips"][0]["metrics"]


def rejected(gate: str, found: list[dict]) -> str:
    values = [m[GATES[gate].metric] for m in found]
    count = sum(value is None or not GATES[gate].passes(value) for value in values)
    return f"{count} of {len(values)}"


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        good = {n: metrics(variants.source(n), folder) for n in (*PHOTOGRAPHS, *SCENES)}
        print("| gate | photographs in motion | toy scenes | damaged |\n|---|---|---|---|")
        for gate in GATES:
            photographs, scenes = ([good[n] for n in r] for r in (PHOTOGRAPHS, SCENES))
            found = []
            if gate in DAMAGE:
                sources = (variants.source(n) for n in [*good][::3])
                found = [metrics(DAMAGE[gate](frames), folder) for frames in sources]
            columns = (
                rejected(gate, some) if some else "" for some in (photographs, scenes, found)
            )
            print(f"| `{gate}` {GATES[gate].threshold:g} | {' | '.join(columns)} |", flush=True)


if __name__ == "__main__":
    main()
