"""More than one GPU: what ZeRO shards, settings for DeepSpeed and accelerate, and which to take.

Our trainer shards by itself (`training.strategy=fsdp`, which is what ZeRO-3 does) and is started by
`accelerate launch --config_file ...` with the files in LAUNCH. The DeepSpeed settings are for tools
that are built on it, such as CogVideo's own trainer.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

LAUNCH = Path(__file__).with_name("launch")
GIB = 2**30

# Adam in mixed precision: bytes a parameter (Rajbhandari et al. 2020, section 3.1).
WEIGHTS, GRADIENTS, OPTIMIZER = 2, 2, 12


@dataclass(frozen=True)
class States:
    """GiB on each GPU, and in host memory on behalf of each."""

    weights: float
    gradients: float
    optimizer: float
    host: float = 0.0

    @property
    def gpu(self) -> float:
        return self.weights + self.gradients + self.optimizer


def zero_states(
    parameters: float,
    gpus: int,
    stage: Literal[0, 1, 2, 3],
    offload_optimizer: bool = False,
    offload_weights: bool = False,
) -> States:
    """What full fine-tuning keeps of a model, activations apart (book rows 5.13, 5.16).

    Stage 1 cuts the optimizer's state into one part a GPU, 2 the gradients as well, 3 the weights
    too; on one GPU nothing is cut, and only offloading saves memory.
    Raises ValueError for weights that are offloaded without being sharded: DeepSpeed refuses it.
    """
    if gpus < 1 or stage not in (0, 1, 2, 3):
        raise ValueError(f"at least one GPU and a stage of 0 to 3, not {gpus} and {stage}")
    if offload_weights and stage < 3:
        raise ValueError("weights can be offloaded in stage 3 only")
    unit = parameters / GIB
    weights = WEIGHTS * unit / (gpus if stage == 3 else 1)
    gradients = GRADIENTS * unit / (gpus if stage >= 2 else 1)
    optimizer = OPTIMIZER * unit / (gpus if stage >= 1 else 1)
    host = (optimizer if offload_optimizer else 0.0) + (weights if offload_weights else 0.0)
    return States(
        0.0 if offload_weights else weights,
        gradients,
        0.0 if offload_optimizer else optimizer,
        host,
    )


@dataclass(frozen=True)
class DeepSpeedConfig:
    """Settings of DeepSpeed (book listings 5.L04 and 5.L13), as it reads them itself.

    stage: see `zero_states`. precision: "bf16" for CogVideoX-5B, which overflows in float16.
    Raises ValueError for settings that DeepSpeed would refuse.
    """

    stage: Literal[1, 2, 3] = 2
    precision: Literal["bf16", "fp16", "no"] = "bf16"
    micro_batch: int = 1
    accumulation: int = 4
    max_grad_norm: float = 1.0
    offload_optimizer: bool = False
    offload_weights: bool = False

    def __post_init__(self) -> None:
        zero_states(1, 1, self.stage, self.offload_optimizer, self.offload_weights)
        if self.micro_batch < 1 or self.accumulation < 1:
            raise ValueError("micro_batch and accumulation must be at least 1")

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `json.dumps` of them is the configuration file: JSON has no comments."""
        zero: dict[str, Any] = {
            "stage": self.stage,
            "overlap_comm": True,
            "contiguous_gradients": True,
        }
        if self.offload_optimizer:
            zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
        if self.offload_weights:
            zero["offload_param"] = {"device": "cpu", "pin_memory": True}
        if self.stage == 3:
            zero["stage3_gather_16bit_weights_on_model_save"] = True
        return {
            "train_micro_batch_size_per_gpu": self.micro_batch,
            "gradient_accumulation_steps": self.accumulation,
            "gradient_clipping": self.max_grad_norm,
            "bf16": {"enabled": self.precision == "bf16"},
            "fp16": {"enabled": self.precision == "fp16"},
            "zero_optimization": zero,
        }


@dataclass(frozen=True)
class Profile:
    """How to fine-tune a model on some GPUs: a recipe, how to start it, and why."""

    recipe: str
    launch: str | None
    overrides: tuple[str, ...]
    reason: str

    def command(self, processes: int = 1) -> str:
        """What to type, but for the folder of clips."""
        given = " ".join((self.recipe, *self.overrides, "data.folder=CLIPS"))
        if self.launch is None:
            return f"vidgen-lab finetune {given}"
        file = LAUNCH / f"{self.launch}.yaml"
        start = f"accelerate launch --config_file {file} --num_processes {processes}"
        return f"{start} -m vidgen_lab.finetuning {given}"


# GiB that a 49x480x720 step takes with checkpointing beside the states of what is trained, and that
# a LoRA of rank 128 takes in all: figures of others, research notes of training, not measured here.
_ACTIVATIONS = 10.0
_LORA = {"2b": 16.0, "5b": 24.0, "1.5-5b": 35.0}
_PARAMETERS = {"2b": 1.694e9, "5b": 5.570e9}


def profile_for(memory_gib: float, gpus: int = 1, full: bool = False) -> Profile:
    """The largest fine-tuning that fits GPUs of this memory (book row 5.18).

    full: every weight instead of a LoRA. Raises ValueError when not even the smallest one fits,
    naming what it would take.
    """
    launch = "ddp" if gpus > 1 else None
    if not full:
        for name, need in sorted(_LORA.items(), key=lambda item: -item[1]):
            if need <= memory_gib:
                reason = f"a LoRA of rank 128 takes about {need:g} GiB of {memory_gib:g}"
                return Profile(f"lora-{name}", launch, (), reason)
        raise ValueError(f"a LoRA of CogVideoX-2B takes about {_LORA['2b']:g} GiB a GPU")
    for name, parameters in sorted(_PARAMETERS.items(), key=lambda item: -item[1]):
        for stage in (0, 3):
            need = zero_states(parameters, gpus, stage).gpu + _ACTIVATIONS
            if need <= memory_gib and (stage == 0 or gpus > 1):
                how = "sharded" if stage else "whole"
                reason = f"states {how} and activations take about {need:.0f} GiB of {memory_gib:g}"
                given = ("training.strategy=fsdp",) if stage else ("training.strategy=auto",)
                return Profile(f"sft-{name}", launch, given, reason)
    need = zero_states(_PARAMETERS["2b"], 1, 0).gpu + _ACTIVATIONS
    raise ValueError(f"full fine-tuning of CogVideoX-2B takes about {need:.0f} GiB on one GPU")


def lora_or_sft(clips: int, new_look: bool, keep_old: bool, memory_gib: float) -> tuple[str, str]:
    """("lora" or "sft", why): one rule with its reason (book rows 5.19 and 5.20, erratum E55).

    clips: how many there are. new_look: whether all of the picture shall change, not one thing.
    keep_old: whether what the model could do before must stay. memory_gib: of the GPU.
    """
    need = zero_states(_PARAMETERS["2b"], 1, 0).gpu + _ACTIVATIONS
    if memory_gib < need:
        return "lora", f"full fine-tuning of the 2B model takes about {need:.0f} GiB"
    if keep_old:
        return "lora", "the base stays as it is, and the adapter can be taken off"
    if clips < 1000:
        return "lora", f"{clips} clips are fewer than every weight needs not to learn them by heart"
    if not new_look:
        return "lora", "one subject or style is a change of low rank"
    return "sft", "many clips, a new look throughout, and nothing old to keep"
