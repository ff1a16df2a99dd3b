"""All that a run can be set to, each part a frozen dataclass of its own."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TrainingConfig:
    """How a run goes.

    accumulation: micro-batches a process adds up for one step. precision: what autocast computes
        in; see `optim.compute_dtype`. compile: with torch.compile.
    max_grad_norm: 0 measures the norm and does not clip. ema_decay: 0 keeps no average.
    on_nonfinite: "skip" leaves a step without a finite gradient out, at most ten in a row.
    noise_levels: those of the held-out loss; 0 is clean, 1 is noise.
    log_every, validate_every, sample_every, checkpoint_every: steps; 0 is never. There is a
        checkpoint before every validation and at the end, and every checkpoint_minutes if not 0.
    keep_last: checkpoints; the best is kept as well. measure: count FLOPs once, for the MFU.
    strategy: "fsdp" shards the model; else as it was launched.
    """

    steps: int = 1000
    seed: int = 0
    accumulation: int = 1
    precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    tf32: bool = True
    gradient_checkpointing: bool = False
    compile: bool = False
    max_grad_norm: float = 1.0
    ema_decay: float = 0.0
    on_nonfinite: Literal["stop", "skip"] = "stop"
    log_every: int = 10
    validate_every: int = 0
    noise_levels: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)
    sample_every: int = 0
    checkpoint_every: int = 100
    checkpoint_minutes: float = 0.0
    keep_last: int = 3
    tensorboard: bool = True
    measure: bool = True
    device: Literal["auto", "cpu", "cuda"] = "auto"
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"

    def __post_init__(self) -> None:
        for name in ("steps", "accumulation", "log_every", "keep_last"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
