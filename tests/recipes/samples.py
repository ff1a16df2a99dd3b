"""Every part of the embedded models at the smallest size, and a training that is killed."""

import json
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

import pytest

from recipes.judge import JudgeConfig
from recipes.latte import ToyLatteConfig
from recipes.make import PARTS
from recipes.text import TextConfig
from recipes.transformer import TransformerConfig
from recipes.vae import Stage, VAEConfig
from vidgen_lab.training.config import DatasetConfig, ModelConfig, TrainingConfig
from vidgen_lab.training.monitor import TIMING
from vidgen_lab.training.objectives import ObjectiveConfig
from vidgen_lab.training.optim import OptimizerConfig
from vidgen_lab.training.trainer import VideoModelTrainer

VAE = VAEConfig(
    block_out_channels=(4, 4, 8, 8),
    latent_channels=4,
    width=24,
    height=16,
    clips=4,
    batch=2,
    crop=16,
    stages=(Stage(4, 2e-3, noise_steps=3), Stage(3, 5e-4, moving_weight=4.0)),
    warmup=2,
)
FRAME_VAE = replace(VAE, family="frame", stages=VAE.stages[:1])
TEXT = TextConfig(width=32, layers=1, steps=4, batch=2, warmup=2)
LATTE_TEXT = replace(TEXT, max_length=24, long_length=24, masked=True)
TRANSFORMER = TransformerConfig(  # at the size that the judge sees
    heads=1,
    head_dim=32,
    layers=2,
    time_embed_dim=16,
    text_width=32,
    clips=4,
    held_out_clips=1,
    steps=4,
    batch=2,
    short_steps=1,
    short_batch=3,
    long_text_share=0.5,
    warmup=2,
)
LATTE = ToyLatteConfig(
    model=ModelConfig(hidden_size=16, depth=4, num_heads=2, patch_size=1),
    dataset=DatasetConfig("", num_frames=4, height=32, width=32, batch_size=2, held_out_clips=2),
    diffusion=ObjectiveConfig(prediction="v"),
    optimizer=OptimizerConfig("muon", 1e-3, betas=(0.9, 0.98), schedule="stable_decay", warmup=2),
    training=TrainingConfig(steps=4, ema_decay=0.995),
    clips=4,
)
JUDGE = JudgeConfig(clips=10, unfinished=2, calibration=8, steps=4, batch=4)
RECIPES = {
    "vae": VAE,
    "text": TEXT,
    "early": replace(TRANSFORMER, steps=1),
    "judge": JUDGE,
    "transformer": TRANSFORMER,
    "frame-vae": FRAME_VAE,
    "latte-text": LATTE_TEXT,
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
