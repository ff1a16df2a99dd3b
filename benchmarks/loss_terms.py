"""What do the optional terms of the loss change? Three trainings alike but for one term.

    python benchmarks/loss_terms.py --steps 300

A small Latte learns latents of the toy world: with the plain loss, with the error in the
differences between frames, and with the alignment of the judge's features, which looks at decoded
clips. All are measured on clips never trained on, at three noise levels with the same noise.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidgen_lab.latte import FrameVAE, Latte, LatteConfig
from vidgen_lab.metrics.judge import HEIGHT, WIDTH, load_judge
from vidgen_lab.paths import model_dir
from vidgen_lab.toyworld import render
from vidgen_lab.toyworld.world import sample_scene
from vidgen_lab.training.config import TrainingConfig
from vidgen_lab.training.objectives import ObjectiveConfig
from vidgen_lab.training.optim import OptimizerConfig
from vidgen_lab.training.stream import Draw
from vidgen_lab.training.trainer import VideoModelTrainer
from vidgen_lab.video.tensors import as_tensor

TERMS = {
    "none": {},
    "frame differences": {"frame_difference": 1.0},
    "alignment": {"alignment": 0.2},
}
MEASURED = ("mse", "frame_difference", "alignment")
LEVELS = (0.3, 0.5, 0.7)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--clips", type=int, default=128)
    parser.add_argument("--batch", type=int, default=4)
    args = parser.parse_args()
    vae = FrameVAE.from_diffusers(model_dir("toy-latte")).requires_grad_(False)
    judge = load_judge().requires_grad_(False)
    rng, frames = np.random.default_rng(0), judge.frames
    drawn = (render(sample_scene(rng), WIDTH, HEIGHT, frames).clip for _ in range(args.clips + 16))
    with torch.no_grad():
        latents = torch.cat([vae.encode(as_tensor([clip])) for clip in drawn])  # [N, C, T, h, w]
    training, held_out = latents[: args.clips], latents[args.clips :]

    def features(latents: Tensor) -> Tensor:
        video = vae.decode(latents).flatten(1, 2)  # [B, 3 T, H, W]
        video = F.interpolate(video, (HEIGHT, WIDTH), mode="bilinear")
        return judge.features(video.unflatten(1, (3, frames)))  # [B, D]

    everything = ObjectiveConfig(frame_difference=1.0, alignment=1.0).build(features=features)

    def measure(model: nn.Module) -> dict[str, float]:
        sums = dict.fromkeys(MEASURED, 0.0)
        for level in LEVELS:
            draw = Draw(0, 0, torch.Generator().manual_seed(1), level)
            _, numbers = everything(model, {"latents": held_out}, draw)
            sums = {name: sums[name] + numbers[name].mean().item() for name in MEASURED}
        return {name: total / len(LEVELS) for name, total in sums.items()}

    def batch(number: int) -> dict[str, Tensor]:
        chosen = np.random.default_rng(number).integers(len(training), size=args.batch)
        return {"latents": training[torch.from_numpy(chosen)]}

    print(f"{'term':>18}  " + "  ".join(f"{name:>16}" for name in MEASURED))
    for name, term in TERMS.items():
        torch.manual_seed(0)
        model = Latte(LatteConfig(
            sample_size=latents.shape[-2], num_frames=frames, in_channels=latents.shape[1],
            patch_size=2, hidden_size=96, depth=4, num_heads=3, learn_sigma=False,
        ))  # fmt: skip
        objective = ObjectiveConfig(**term).build(features=features)
        config = TrainingConfig(
            args.steps, ema_decay=0.98, tensorboard=False, measure=False, log_every=args.steps
        )
        with tempfile.TemporaryDirectory() as folder:
            rate = OptimizerConfig(learning_rate=2e-3, warmup=20)
            trainer = VideoModelTrainer(
                model, objective, batch, Path(folder), config, optimizers=rate
            )
            trainer.fit()
            with trainer.evaluating(0):
                found = measure(model)
        print(f"{name:>18}  " + "  ".join(f"{found[n]:16.4f}" for n in MEASURED), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
