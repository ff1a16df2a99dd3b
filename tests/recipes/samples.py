"""Every part of the embedded models at the smallest size, and a training that is killed."""

import json
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

import pytest

from recipes.latte import ToyLatteConfig
from recipes.make import PARTS, read_recipe
from recipes.vae import Stage
from vidgen_lab.config import load
from vidgen_lab.training.config import DatasetConfig, ModelConfig
from vidgen_lab.training.monitor import TIMING
from vidgen_lab.training.objectives import ObjectiveConfig
from vidgen_lab.training.optim import OptimizerConfig
from vidgen_lab.training.trainer import VideoModelTrainer

# A checkpoint every second step, and no TensorBoard.
SMALL = ["training.checkpoint_every=2", "training.tensorboard=false", "training.steps=4"]


def small(part, *changes):
    """The recipe of a part at the smallest size."""
    return load(PARTS[part][0], read_recipe(part), [*SMALL, *changes])


VAE_SIZE = (
    "model.block_out_channels=[4,4,8,8]",
    "model.latent_channels=4",
    "width=24",
    "height=16",
    "clips=4",
    "batch=2",
    "crop=16",
    "optimizer.warmup=2",
)
VAE = replace(
    small("vae", "model.sample_height=16", "model.sample_width=24", *VAE_SIZE),
    stages=(Stage(4, 2e-3, noise_steps=3), Stage(3, 5e-4, moving_weight=4.0)),
)
FRAME_VAE = replace(small("frame-vae", "model.sample_size=24", *VAE_SIZE), stages=VAE.stages[:1])
TEXT_SIZE = (
    "model.d_model=32",
    "model.d_ff=64",
    "model.num_layers=1",
    "model.num_heads=1",
    "batch=2",
    "optimizer.warmup=2",
)
TRANSFORMER = small(  # at the size that the judge sees
    "transformer",
    "model.num_attention_heads=1",
    "model.attention_head_dim=32",
    "model.num_layers=2",
    "model.in_channels=4",
    "model.out_channels=4",
    "model.time_embed_dim=16",
    "model.text_embed_dim=32",
    "clips=4",
    "held_out_clips=1",
    "batch=2",
    "short_steps=1",
    "short_batch=3",
    "long_text_share=0.5",
    "optimizer.warmup=2",
)
LATTE = ToyLatteConfig(
    model=ModelConfig(hidden_size=16, depth=4, num_heads=2, patch_size=1),
    dataset=DatasetConfig("", num_frames=4, height=32, width=32, batch_size=2, held_out_clips=2),
    diffusion=ObjectiveConfig(prediction="v"),
    optimizer=OptimizerConfig("muon", 1e-3, betas=(0.9, 0.98), schedule="stable_decay", warmup=2),
    training=replace(TRANSFORMER.training, ema_decay=0.995),
    clips=4,
    short_steps=2,
    short_batch=3,
    subject_weight=3.0,
)
JUDGE = small("judge", "clips=10", "unfinished=2", "calibration=8", "batch=4")
RECIPES = {
    "vae": VAE,
    "text": small("text", *TEXT_SIZE),
    "early": replace(TRANSFORMER, training=replace(TRANSFORMER.training, steps=1)),
    "judge": JUDGE,
    "transformer": TRANSFORMER,
    "frame-vae": FRAME_VAE,
    "latte-text": small("latte-text", *TEXT_SIZE),
    "latte": LATTE,
}


def train(part, out):
    """Train (or resume) a part in `out`/PART, on the parts that lie there."""
    _, training, needs = PARTS[part]
    training(RECIPES[part], *(out / need for need in needs), out / part)


class Killed(Exception):
    """Stands in for kill -9, which test_trainer.py sends: here it must be cheap."""


@contextmanager
def killed(steps):
    """The training in the block breaks off in the middle of a step, after `steps` others."""
    draw, left = VideoModelTrainer.draw, [steps]

    def draw_or_die(trainer, number, level=None):
        left[0] -= trainer.model.training
        if left[0] < 0:
            raise Killed
        return draw(trainer, number, level)

    with patch.object(VideoModelTrainer, "draw", draw_or_die), pytest.raises(Killed):
        yield


def outcome(folder):
    """What a training leaves: every file of weights, byte by byte, and the numbers of its log."""
    weights = {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*.safetensors")}
    logs = {}
    for log in folder.rglob("log.jsonl"):
        rows = map(json.loads, log.read_text("utf-8").splitlines())
        logs[log.parent.name if log.parent != folder else ""] = [
            {name: value for name, value in row.items() if name not in TIMING} for row in rows
        ]
    return weights, logs


def survives(part, trained, out, steps):
    """Whether `part`, killed after so many steps and trained on, ends bit by bit as in `trained`;
    there are checkpoints after every second step."""
    for other in trained.iterdir():
        if other.name != part:
            (out / other.name).symlink_to(other)
    with killed(steps):
        train(part, out)
    before = outcome(out / part)
    train(part, out)
    (weights, logs), (whole, whole_logs) = outcome(out / part), outcome(trained / part)
    assert before[0] != weights and len(weights) > 1
    return weights == whole and logs == whole_logs
