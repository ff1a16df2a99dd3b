"""Choices behind toy-cogvideox, compared at equal seconds: VAEs, tokens, target, noise levels.

    python benchmarks/model_choices.py [NAME …] [--minutes 10] [--out DIR]

Every choice trains a transformer for the same time of the processor on clips of four frames; three
of them after a small VAE of their own, trained alike. A row of the sheet (choices.png) shows what
one choice makes of twelve prompts, a line of the table (choices.csv) how often the judge sees the
right subject, colour and place. Look at the sheet first: losses of different latents cannot be
compared.
Stopped and begun again, it goes on; NAMEs choose among the choices.
"""

import argparse
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from diffusers import CogVideoXPipeline

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # recipes lie beside the package

from recipes.make import read_recipe
from recipes.measure import adherence_table
from recipes.scenes import sample_scenes
from recipes.transformer import TransformerConfig, train_transformer
from recipes.vae import Stage, VAEConfig, train_vae
from recipes.vae_layers import fastest
from vidgen_lab.config import load
from vidgen_lab.metrics.judge import load_judge
from vidgen_lab.paths import model_dir
from vidgen_lab.toyworld import caption
from vidgen_lab.training.distributed import accelerator
from vidgen_lab.video.clip import Clip
from vidgen_lab.video.sheets import write_png

FRAMES = 4
BASE = (
    f"model.sample_frames={FRAMES}",
    "clips=3000",
    "batch=48",
    "short_steps=0",
    "long_text_share=0.0",
    "optimizer.decay_share=0.4",
)
PROBE = 40  # steps that tell how long one takes
STAGE = Stage(800, 2e-3, noise_steps=300)
# name: (training stage, weight of the loss of EQ-VAE)
VAES = {
    "clean": (replace(STAGE, noise=0.0), 0.0),
    "noise": (STAGE, 0.0),
    "equivariant": (replace(STAGE, noise=0.0), 0.25),
}
# name: (VAE, or the shipped one, what differs from BASE)
CHOICES = {
    "as shipped": (None, ()),
    "predicts x instead of v": (None, ("scheduler.prediction_type=sample",)),
    "SNR shift 3": (None, ("scheduler.snr_shift_scale=3.0",)),
    "tokens of 16x16 pixels, 2 frames": (None, ("model.patch_size=2", "model.patch_size_t=2")),
    "VAE trained without noise": ("clean", ()),
    "VAE trained with noise": ("noise", ()),
    "VAE trained for scale": ("equivariant", ()),
}


def of_steps(config: TransformerConfig, steps: int) -> TransformerConfig:
    return replace(config, training=replace(config.training, steps=steps))


def train_for(minutes: float, config: TransformerConfig, vae: Path, out: Path) -> int:
    """Train a transformer in `out` for about so many minutes of the processor and return its
    steps: a few of them, in a folder beside it, tell how many that are."""
    text, told = model_dir("toy-cogvideox") / "text_encoder", out.with_name(f"{out.name}_steps")
    if not told.exists():  # decided once, however often it is stopped
        for turn in ("first", "second"):  # the first time also encodes the clips
            probe = out.with_name(f"{out.name}_{turn}_probe")
            shutil.rmtree(probe, ignore_errors=True)
            start = time.process_time()
            train_transformer(of_steps(config, PROBE), vae, text, probe)
            spent = time.process_time() - start
        told.write_text(str(max(PROBE, round(60 * minutes * PROBE / spent))), "utf-8")
    steps = int(told.read_text("utf-8"))
    train_transformer(of_steps(config, steps), vae, text, out)
    return steps


def sample(pipe: CogVideoXPipeline, prompts: list[str]) -> list[Clip]:
    """Clips of four frames, all from one seed each."""
    pipe = pipe.to(accelerator().device)
    pipe.set_progress_bar_config(disable=True)
    clips = []
    for start in range(0, len(prompts), 8):
        part = prompts[start : start + 8]
        seeds = [torch.Generator().manual_seed(start + n) for n in range(len(part))]
        with fastest(pipe.device):
            frames = pipe(
                part,
                num_frames=FRAMES,
                num_inference_steps=25,
                max_sequence_length=pipe.transformer.config.max_text_seq_length,
                generator=seeds,
                output_type="np",
            ).frames
        clips += [Clip.from_float(frame, fps=4) for frame in frames]
    return clips


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", default=list(CHOICES))
    parser.add_argument("--minutes", type=float, default=10.0, help="of the processor, each")
    parser.add_argument("--out", type=Path, default=Path("runs/choices"))
    args = parser.parse_args()
    scenes = sample_scenes(48, 99, held_out=False)
    rng = np.random.default_rng(99)
    prompts = [caption(scene, "minimal", rng) for scene in scenes]
    judge, rows, strips = load_judge(model_dir("toy-judge")), [], []
    for name in args.names:
        kind, changes = CHOICES[name]
        if kind and not (args.out / kind / "vae").exists():
            stage, weight = VAES[kind]
            recipe = load(VAEConfig, read_recipe("vae"), ["clips=4000", f"equivariance={weight}"])
            train_vae(replace(recipe, stages=(stage,)), args.out / kind)
        vae = args.out / kind / "vae" if kind else model_dir("toy-cogvideox") / "vae"
        out = args.out / (kind or "shipped") / name.replace(" ", "_").replace(",", "")
        config = load(TransformerConfig, read_recipe("transformer"), [*BASE, *changes])
        steps = train_for(args.minutes, config, vae, out)
        clips = sample(CogVideoXPipeline.from_pretrained(out / "pipeline"), prompts)
        table = adherence_table(prompts, scenes, clips, judge)
        shares = {n: table[f"{n}_right"].mean() for n in ("subject", "colour", "background")}
        rows.append({"choice": name, "steps": steps} | shares)
        shown = np.hstack([clip.frames[1] for clip in clips[:12]])
        strips.append(np.pad(shown, ((14, 2), (0, 0), (0, 0)), constant_values=255))
        cv2.putText(strips[-1], name, (2, 11), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1)
        print(pd.DataFrame(rows).to_string(index=False), flush=True)
    pd.DataFrame(rows).to_csv(args.out / "choices.csv", index=False)
    write_png(np.vstack(strips), args.out / "choices.png")


if __name__ == "__main__":
    main()
