"""What is saved: a pipeline, or an adapter that every loader reads at its trained strength.

diffusers' format and header, and alpha / rank folded into lora_B, so that alpha = rank is true for
loaders that read the header, for those that do not, and for those that assume it. What was saved
is then tried by a process of its own with stock diffusers.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import send_to_device
from diffusers import CogVideoXTransformer3DModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save
from torch import nn

from vidgen_lab.files import write_files
from vidgen_lab.finetuning.lora import ADAPTER, input_layer
from vidgen_lab.finetuning.specification import CogVideoXSpec
from vidgen_lab.generation import stock
from vidgen_lab.generation.lora_file import (
    OWN_FACTS,
    PREFIX,
    SETTINGS,
    WEIGHTS,
    LoRAError,
    LoRAFile,
    inspect_lora,
)

_OURS = "finetune.json"  # in a pipeline that a fine-tuning wrote
# settings that some diffusers takes for given
_ALWAYS = ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "lora_dropout", "bias")


def save_lora(
    transformer: CogVideoXTransformer3DModel,
    path: str | Path,
    facts: Mapping[str, Any] | None = None,
) -> LoRAFile:
    """Write a transformer's adapter in float32; returns what `inspect_lora` finds in the file.

    The file appears whole or not at all.

    Args:
        transformer: with an adapter of `apply_lora_to_model`.
        path: a .safetensors file, or a folder, which gets diffusers' own file name.
        facts: plain values to keep in the file's header (base model, trigger word, steps).

    Raises:
        LoRAError: there is no adapter, or what was written does not fit the model it came from.
    """
    if ADAPTER not in getattr(transformer, "peft_config", {}):
        raise LoRAError("there is no adapter on this model")
    path = Path(path)
    path = path if path.suffix == ".safetensors" else path / WEIGHTS
    config = transformer.peft_config[ADAPTER].to_dict()
    weights = {}
    for name, weight in get_peft_model_state_dict(transformer, adapter_name=ADAPTER).items():
        weight = weight.detach().float()
        if ".lora_B." in name:
            layer = transformer.get_submodule(name.partition(".lora_B.")[0])
            weight = weight * layer.scaling[ADAPTER]
        weights[PREFIX + name] = weight.cpu().contiguous()
    known = dict(facts or {}) | {"trained_alpha": config["lora_alpha"]}
    config |= {"lora_alpha": config["r"], "alpha_pattern": config["rank_pattern"]}
    config |= {"use_rslora": False, "lora_dropout": 0.0}  # a pipeline would go on dropping out
    usual = LoraConfig().to_dict()
    # an older PEFT refuses a file with any setting that it does not know, even at its default
    own = {f"{PREFIX}{n}": v for n, v in config.items() if n in _ALWAYS or v != usual.get(n)}
    header = {
        "format": "pt",
        SETTINGS: json.dumps(own, default=sorted, indent=2, sort_keys=True),  # sets
        OWN_FACTS: json.dumps(known),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_files({path: save(weights, header)})
    found = inspect_lora(path, transformer)
    untrained = "every lora_B is zero"  # no mistake in the file
    if wrong := [problem for problem in found.problems if not problem.startswith(untrained)]:
        raise LoRAError(f"{path} does not fit its own model: {'; '.join(wrong)}")
    return found


def save_pipeline(
    transformer: nn.Module, model: Path, folder: Path, kind: str, about: Mapping[str, Any]
) -> Path:
    """A copy of the pipeline in `model` with this transformer, in `folder`; returns that.

    Nothing is linked: who writes into the result must not change the model it came from.

    Args:
        transformer: a model of diffusers, without adapters.
        model: the pipeline's folder.
        folder: replaced if a fine-tuning wrote it, else FileExistsError.
        kind: the class of diffusers that loads it.
        about: plain values, kept beside.
    """
    check_pipeline_folder(folder)
    new = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    for part in ("tokenizer", "text_encoder", "vae", "scheduler"):
        shutil.copytree(model / part, new / part)
    index = json.loads((model / "model_index.json").read_text("utf-8")) | {"_class_name": kind}
    (new / "model_index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")
    transformer.save_pretrained(new / "transformer")
    (new / _OURS).write_text(json.dumps(about, indent=2, default=str), encoding="utf-8")
    check_pipeline_folder(folder)  # again: writing takes a while
    if folder.exists():
        shutil.rmtree(folder)
    return new.rename(folder)


def check_pipeline_folder(folder: Path) -> None:
    """FileExistsError if something is there that no fine-tuning wrote."""
    if os.path.lexists(folder) and (folder.is_symlink() or not (folder / _OURS).is_file()):
        raise FileExistsError(
            f"{folder} is there and no fine-tuning wrote it: move it away and run again"
        )


# the check -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SelfCheck:
    """What a fresh process found, as largest differences between outputs of the transformer.

    Attributes:
        effect: what the adapter changes at all, trained against base.
        reloaded: loaded by stock diffusers against trained.
        scale_0: loaded, at scale 0, against base.
        base: the base of that process against ours.
        strength: of the loaded adapter's effect as a share of the trained one's, 1 when alpha
            survived.
        tolerance: what the differences may be.
    """

    effect: float
    reloaded: float
    scale_0: float
    base: float
    strength: float
    tolerance: float

    @property
    def told(self) -> bool:
        """Whether the effect is so large that rounding blurs its strength by less than a tenth."""
        return self.effect > 4 * self.tolerance

    @property
    def passed(self) -> bool:
        strong = not self.told or abs(self.strength - 1) < 0.1
        return strong and max(self.reloaded, self.scale_0, self.base) <= self.tolerance

    def __str__(self) -> str:
        strength = f"strength {self.strength:.3f}" if self.told else "too weak to tell its strength"
        return (
            f"{'as trained' if self.passed else 'NOT as trained'}: {strength}, "
            f"effect {self.effect:.2g}, reloaded differs by {self.reloaded:.1g}, "
            f"scale 0 by {self.scale_0:.1g} (allowed {self.tolerance:.1g})"
        )


def self_checks(
    jobs: Sequence[tuple[CogVideoXTransformer3DModel, CogVideoXSpec, Path, Path]],
) -> list[SelfCheck]:
    """Load files onto their models with stock diffusers in a fresh process, and compare.

    That process has the transformer's precision and a base of as few bits. It works on the CPU, but
    for int4 on the GPU.

    Args:
        jobs: (transformer with the adapter that was saved, active; its specification; folder of the
            base; file).

    Raises:
        LoRAError: a file does not load at all.
    """
    orders, ours = [], []
    for transformer, spec, base, file in jobs:
        dtype = transformer.norm_final.weight.dtype  # of the base; the adapter's own are float32
        fewer_bits = getattr(transformer, "quantization_method", None)  # set by diffusers
        order = {
            "base": str(base),
            "pipeline": spec.pipeline_name,
            "dtype": dtype,
            "quantize": {None: "none", "torchao": "int8"}.get(fewer_bits, "int4"),
            "lora": str(file),
            "inputs": probe_inputs(spec, dtype),
        }
        orders.append(order)
        ours.append(_outputs(transformer, order["inputs"]))
    with tempfile.TemporaryDirectory() as folder:
        torch.save(orders, Path(folder) / "jobs.pt")
        command = [sys.executable, "-P", stock.__file__, folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise LoRAError(f"stock diffusers could not load the file: {last}")
        theirs = torch.load(Path(folder) / "found.pt", weights_only=True)
    return [_compare(*each) for each in zip(ours, theirs, strict=True)]


def probe_inputs(spec: CogVideoXSpec, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """The smallest input that shows every layer: two tokens in time and, if free, 2x2 in space."""
    generator, config = torch.Generator().manual_seed(0), spec.transformer

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    sides = (2 * config["patch_size"],) * 2
    if config.get("use_learned_positional_embeddings"):
        sides = config["sample_height"], config["sample_width"]
    cells = draw(1, 2 * (config.get("patch_size_t") or 1), spec.latent_channels, *sides)
    text = draw(1, spec.text_tokens, config["text_embed_dim"])
    image = draw(1, spec.latent_channels, 1, *sides) if spec.image_to_video else None
    return spec.inputs(cells, torch.tensor([500]), text, image)


@torch.no_grad()
def _outputs(
    transformer: CogVideoXTransformer3DModel, inputs: Mapping[str, Any]
) -> tuple[torch.Tensor, torch.Tensor]:
    """With the adapter, and without."""
    weight, was_training = transformer.norm_final.weight, transformer.training
    given = send_to_device(inputs, weight.device)
    # An input layer that learned is in float32, and does not take what is in 16 bits.
    mixed = input_layer(transformer).weight.dtype == torch.float32 != weight.dtype
    transformer.eval()
    try:
        with torch.autocast(weight.device.type, weight.dtype if mixed else None, enabled=mixed):
            trained = transformer(**given, return_dict=False)[0]
            transformer.disable_lora()
            return trained, transformer(**given, return_dict=False)[0]
    finally:
        transformer.enable_lora()
        transformer.train(was_training)


def _compare(
    ours: tuple[torch.Tensor, torch.Tensor], theirs: Mapping[str, torch.Tensor]
) -> SelfCheck:
    def apart(one: torch.Tensor, other: torch.Tensor) -> float:
        return (one - other).abs().max().item()

    exact = ours[0].device.type == "cpu" and ours[0].dtype == torch.float32
    trained, base = (output.float().cpu() for output in ours)
    change, loaded = trained - base, theirs["reloaded"] - theirs["base"]
    strength = (loaded * change).sum() / change.square().sum().clamp(min=1e-30)
    # Sixteen bits, or another device, round differently; half the strength would still be seen.
    tolerance = (1e-5 if exact else 2**-5) * max(1.0, base.abs().max().item())
    return SelfCheck(
        apart(trained, base),
        apart(theirs["reloaded"], trained),
        apart(theirs["scale_0"], base),
        apart(theirs["base"], base),
        strength.item(),
        tolerance,
    )
