"""How every part is trained, by vidgen_lab's trainer in a folder of its own, and how it is kept."""

import copy
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline
from torch import nn

from vidgen_lab.training.config import TrainingConfig
from vidgen_lab.training.distributed import Loss
from vidgen_lab.training.optim import OptimizerConfig
from vidgen_lab.training.trainer import VideoModelTrainer

TRAINING = TrainingConfig(
    log_every=50,
    validate_every=500,
    checkpoint_minutes=2,
    checkpoint_every=0,
    keep_last=1,
    measure=False,
)


@dataclass(frozen=True)
class Recipe:
    """What the recipes have in common. model: settings of the class that is trained, by their names
    there."""

    model: dict[str, Any] = field(default_factory=dict)
    optimizer: OptimizerConfig = OptimizerConfig()
    training: TrainingConfig = TRAINING


def fit(
    model: nn.Module,
    loss: Loss,
    batch: Callable[[int], Any],
    out: Path,
    recipe: Any,
    **options: Any,
) -> VideoModelTrainer:
    """Train (or resume) `model` in `out`.

    batch: gives micro-batch n, a function of n alone. recipe: the dataclass of settings, with an
    `optimizer` and a `training`; a run is resumed only with the same ones. options: of
    `VideoModelTrainer`. Ctrl-C saves and leaves the program.
    """
    options = {"optimizers": recipe.optimizer, "settings": {"recipe": asdict(recipe)}} | options
    trainer = VideoModelTrainer(model, loss, batch, out, recipe.training, **options)
    if trainer.fit().interrupted:  # what comes after it must not begin
        sys.exit("stopped: the same command goes on from here")
    return trainer


def save_halves(pipe: DiffusionPipeline, folder: Path) -> None:
    """Write a folder that plain diffusers loads: float16 on disk, float32 in use.

    Weights come in files of at most 12 MB, which every host of git repositories takes.
    """
    models = {name: part for name, part in pipe.components.items() if isinstance(part, nn.Module)}
    halves = {name: copy.deepcopy(part).half().cpu() for name, part in models.items()}
    shutil.rmtree(folder, ignore_errors=True)  # no shard of an earlier save stays
    type(pipe)(**pipe.components | halves).save_pretrained(folder, max_shard_size="12MB")
    for name in halves:
        file = folder / name / "config.json"
        config = json.loads(file.read_text("utf-8"))
        config.pop("_name_or_path", None)  # from which folder the part was loaded
        if name == "text_encoder":  # transformers computes in the type a config names
            config["dtype"] = "float32"
        file.write_text(json.dumps(config, indent=2) + "\n", "utf-8")
