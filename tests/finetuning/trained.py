"""A tiny model with an adapter that has an effect, as after a training."""

from pathlib import Path

import torch

from tests.tiny_models import tiny_pipeline
from vidgen_lab.finetuning.lora import CogVideoLoRAConfig, apply_lora_to_model


def trained_transformer(
    variant="2b", rank=4, alpha=None, dtype=torch.float32, adapter_dtype=torch.float32, **more
):
    """Of a tiny model, its adapter filled with random numbers of `adapter_dtype`."""
    transformer = tiny_pipeline(variant).transformer.eval()
    if dtype != torch.float32:
        transformer.to(dtype)
    config = CogVideoLoRAConfig(rank=rank, alpha=alpha, **more)
    apply_lora_to_model(transformer, config)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in transformer.named_parameters():
        if ".lora_" in name:
            if ".lora_B." in name:
                parameter.data.normal_(std=0.5, generator=generator)
            parameter.data = parameter.data.to(adapter_dtype)
    return transformer


def old_torchao(folder: Path) -> Path:
    """A folder of packages with a torchao that PEFT refuses; Colab has such a one."""
    (folder / "torchao").mkdir(parents=True)
    (folder / "torchao" / "__init__.py").write_text("__version__ = '0.10.0'\n")
    (folder / "torchao" / "quantization.py").write_text("quantize_ = None\n")
    (folder / "torchao-0.10.0.dist-info").mkdir()
    (folder / "torchao-0.10.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: torchao\nVersion: 0.10.0\n"
    )
    return folder
