"""What a fine-tuning needs, and how several processes are started.

Our trainer shards by itself (`training.strategy=fsdp`, which is what ZeRO-3 does) and is started by
`accelerate launch --config_file ...` with the files in LAUNCH. The DeepSpeed files among them are
for tools that are built on it, such as CogVideo's own trainer.
"""

import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from packaging.version import Version

from vidgen_lab.finetuning.config import FinetuneConfig
from vidgen_lab.finetuning.lora import Trainable
from vidgen_lab.finetuning.specification import CogVideoXSpec
from vidgen_lab.settings.hardware import GIB, probe
from vidgen_lab.training.parallel.plan import TRANSFORMERS, TrainingPlan, plan_training

LAUNCH = Path(__file__).with_name("launch")
BYTES = {"int8": 1, "int4": 0.5}  # of a quantised weight
LIBRARIES = {"int8": ("torchao", "0.16"), "int4": ("bitsandbytes", "0.45")}


def forecast(spec: CogVideoXSpec, config: FinetuneConfig) -> TrainingPlan | None:
    """Peak memory of training and of sampling; None for a model that is in no table.

    The clips' size in `config` must be given; WORLD_SIZE says how many GPUs there are. Method
    "blocks" is taken for "sft" and needs less.
    """
    shape = spec.transformer
    size = shape["num_layers"], shape["num_attention_heads"] * shape["attention_head_dim"]
    known = (name for name, facts in TRANSFORMERS.items() if facts[:2] == size)
    if (name := next(known, None)) is None or shape.get("patch_size_t"):
        return None
    data, training = config.data, config.training
    return plan_training(
        name, data.height, data.width, data.num_frames, data.batch_size,
        rank=config.lora.rank if config.method == "lora" else 0,
        checkpointing=training.gradient_checkpointing,
        strategy="fsdp2" if training.strategy == "fsdp" else "ddp",
        gpus=int(os.environ.get("WORLD_SIZE", 1)),
        ema=training.ema_decay > 0,
        weight_bytes=BYTES.get(config.quantize, 0),
    )  # fmt: skip


def check_quantize(kind: str) -> None:
    """ValueError where `FinetuneConfig.quantize` cannot be had, naming what is missing."""
    if kind == "none":
        return
    name, least = LIBRARIES[kind]
    try:
        there = version(name)
    except PackageNotFoundError:
        there = "none"
    if there == "none" or Version(there) < Version(least):
        raise ValueError(
            f"quantize={kind} needs {name} {least} or newer, and {there} is installed: "
            f"pip install -U {name}, or set quantize=none"
        )
    if kind == "int4" and not torch.cuda.is_available():
        raise ValueError("quantize=int4 needs a GPU; on a processor take int8 or none")


def check_memory(
    trainable: Trainable, device: torch.device, dtype: torch.dtype, quantize: str = "none"
) -> float:
    """GiB of weights, gradients and Adam's averages, all on one device.

    Activations come on top. Of what learns there are four float32 numbers a parameter; what is
    frozen is in `dtype`, or as `quantize` says.

    Raises:
        ValueError: a run on this device cannot fit, whatever its clips are.
    """
    frozen = trainable.total - (0 if trainable.layers else trainable.trained)
    needed = (frozen * BYTES.get(quantize, dtype.itemsize) + 16 * trainable.trained) / GIB
    machine = probe()
    there = machine.vram_gib if device.type == "cuda" else machine.ram_gib
    if needed > there:
        raise ValueError(
            f"weights, gradients and optimizer alone take {needed:.1f} GiB, and there are "
            f"{there:.1f}: take method=lora, a smaller lora.rank, quantize=int8, or shard "
            "them over several GPUs with training.strategy=fsdp"
        )
    return needed
