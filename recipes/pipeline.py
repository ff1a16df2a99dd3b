"""Pipelines on disk."""

import copy
import json
import shutil
from pathlib import Path

from diffusers import DiffusionPipeline
from torch import nn


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
