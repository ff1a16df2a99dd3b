"""All that a fine-tuning can be set to, in one YAML file; `vidgen-lab finetune --list` shows ours.

Each part is a frozen dataclass: what is trained on (`DataConfig`), what is trained
(`CogVideoLoRAConfig` or a method), and how (chapter 4's `OptimizerConfig` and `TrainingConfig`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vidgen_lab import config as settings
from vidgen_lab.finetuning.dataset import DataConfig
from vidgen_lab.finetuning.lora import CogVideoLoRAConfig
from vidgen_lab.training.config import TrainingConfig
from vidgen_lab.training.optim import OptimizerConfig

RECIPES = Path(__file__).with_name("recipes")


@dataclass(frozen=True)
class SampleConfig:
    """Clips made at the start of a training, every `training.sample_every` steps, and at its end.

    Attributes:
        prompts: one clip of each, with the same seed every time.
        images: the first frame of each, for image-to-video models.
        guidance_scale: None is what suits the model; 6 for one that is not in the list.
    """

    prompts: tuple[str, ...] = ()
    images: tuple[Path, ...] = ()
    num_inference_steps: int = 25
    guidance_scale: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class FinetuneConfig:
    """A fine-tuning of CogVideoX (book listing 5.L02).

    Attributes:
        model: embedded name, folder or hub id.
        output: gets checkpoints, log, samples and the result.
        method: "lora" trains an adapter, "sft" every weight, "blocks" the last `blocks` blocks.
        input_layer: train the layer that reads latents as well, and let a text-to-video model read
            a first frame beside them; the result of a LoRA then is a pipeline and a LoRA for it.
        quantize: keep the frozen weights under a LoRA in fewer bits: "int8" by torchao on any
            device, "int4" (NF4, as in QLoRA) by bitsandbytes on a GPU.
        data, lora, optimizer, training, samples: see their classes.
        cache: of latents and texts, can be shared by runs; default: in `output`.
        check: try the saved LoRA in a process of its own with stock diffusers.
    """

    data: DataConfig
    output: Path
    model: str = "toy-cogvideox"
    method: Literal["lora", "sft", "blocks"] = "lora"
    blocks: int = 2
    input_layer: bool = False
    quantize: Literal["none", "int8", "int4"] = "none"
    lora: CogVideoLoRAConfig = field(default_factory=CogVideoLoRAConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    samples: SampleConfig = field(default_factory=SampleConfig)
    cache: Path | None = None
    check: bool = True

    def __post_init__(self) -> None:
        settings.as_paths(self, "output", "cache")
        settings.check_ranges(self, blocks=(1, math.inf))
        whole = self.method != "lora" or self.input_layer or self.training.strategy == "fsdp"
        if self.quantize != "none" and whole:
            raise ValueError(
                f"quantize={self.quantize} is for a base that stays frozen and in one piece: take "
                "method=lora without input_layer and fsdp, or quantize=none"
            )


def recipes() -> dict[str, str]:
    """The configurations that come with the package: name and first line of comment."""
    return settings.listed(RECIPES)


def load_config(source: str | Path, overrides: Sequence[str] = ()) -> FinetuneConfig:
    """A YAML file, or the name of one of RECIPES, changed by name=value pairs.

    Raises:
        FileNotFoundError: there is neither; names the recipes there are.
        ConfigError: a setting does not exist or does not fit.
    """
    return settings.load_listed(FinetuneConfig, RECIPES, source, overrides)
