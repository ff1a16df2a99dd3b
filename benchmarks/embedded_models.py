"""What the shipped models do: adherence, judge accuracy, VAE quality, seconds a clip.

    python benchmarks/embedded_models.py [PROMPTS]

PROMPTS held-out prompts (default 200, about ten minutes on two cores), a quarter of them
compositions that no training clip contains. The same measurement writes the model cards.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # recipes lie beside the package

from recipes.judge import judge_accuracy
from recipes.measure import measure_cogvideox
from vidgen_lab.paths import model_dir
from vidgen_lab.toyworld import render, sample_scene


def toyworld_speed(clips: int = 100) -> float:
    """Clips rendered a second by one core, at the training size."""
    rng = np.random.default_rng(0)
    scenes = [sample_scene(rng) for _ in range(clips)]
    begin = time.process_time()
    for scene in scenes:
        render(scene)
    return clips / (time.process_time() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prompts", nargs="?", type=int, default=200)
    count = parser.parse_args().prompts
    print(f"toy world: {toyworld_speed():.0f} clips a second and core")
    for name, share in judge_accuracy(model_dir("toy-judge")).items():
        print(f"judge on fresh renders, {name:<12} {share:7.1%}")
    numbers, table, _ = measure_cogvideox(model_dir("toy-cogvideox"), model_dir("toy-judge"), count)
    quality = numbers["vae_psnr_db"]
    print("VAE, dB:", ", ".join(f"{name} {value:.2f}" for name, value in quality.items()))
    first = numbers["first_clip"]
    print(f"one clip: {numbers['seconds_per_clip']:.2f} s (the first {first:.2f} s)")
    for name, share in numbers["adherence"].items():
        if name != "prompts":
            print(f"adherence, {count} held-out prompts, {name:<17} {share:7.1%}")
    wrong = table[~table.all_right.astype(bool)]
    print(f"{len(wrong)} prompts not all right, for example:")
    for row in wrong.head(5).itertuples():
        print(f"  {row.prompt}")


if __name__ == "__main__":
    main()
