"""All that a run can be set to: a YAML file over typed defaults, and a sweep over its keys.

    config = load_run("toy_latte", ["training.steps=500", "optimizer.learning_rate=3e-4"])

Unknown keys and wrong types are refused with the nearest valid name; what comes out is frozen.
`vidgen-lab train --list` prints the folder CONFIGS.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vidgen_lab import config
from vidgen_lab.journal import Journal, key_of
from vidgen_lab.training.objectives import ObjectiveConfig
from vidgen_lab.training.optim import OptimizerConfig

CONFIGS = Path(__file__).parent / "configs"


@dataclass(frozen=True)
class TrainingConfig:
    """How a run goes.

    Attributes:
        accumulation: micro-batches a process adds up for one step.
        precision: what autocast computes in; see `optim.compute_dtype`.
        compile: with torch.compile.
        max_grad_norm: 0 measures the norm and does not clip.
        ema_decay: at least 0, below 1; 0 keeps no average.
        on_nonfinite: "skip" leaves a step without a finite gradient out; the tenth in a row stops.
        noise_levels: those of the held-out loss; 0 is clean, 1 is noise.
        log_every: steps, at least 1.
        validate_every, sample_every: steps, the first state and the last among them; 0 is never.
            A checkpoint is written before, but for the first.
        checkpoint_every: steps; 0 is never, but for the one at the end.
        checkpoint_minutes: minutes since the one before; 0 is never.
        keep_last: checkpoints, at least 1; the best is kept as well.
        measure: count FLOPs once, for the MFU.
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
        some = ("steps", "accumulation", "log_every", "keep_last")
        none = ("validate_every", "sample_every", "checkpoint_every", "checkpoint_minutes")
        ranges = dict.fromkeys((*none, "max_grad_norm"), (0, math.inf))
        ranges |= dict.fromkeys(some, (1, math.inf))
        config.check_ranges(self, **ranges, seed=(0, 2**63))
        if not self.noise_levels or not all(0 <= level <= 1 for level in self.noise_levels):
            raise ValueError(f"noise_levels must lie in 0..1, not {self.noise_levels}")


@dataclass(frozen=True)
class ModelConfig:
    """A Latte.

    Attributes:
        size: a published one such as "S/2", or "" for the numbers below.
        learn_sigma: twice the output channels, the second half for the variance.
        init: weights to begin from, a folder as diffusers writes it or an embedded model by name;
            its config decides then.
    """

    size: str = ""
    hidden_size: int = 144
    depth: int = 8
    num_heads: int = 3
    patch_size: int = 2
    learn_sigma: bool = True
    init: str = ""


@dataclass(frozen=True)
class DatasetConfig:
    """Which clips, and how they come.

    Attributes:
        folder: as `vidgen-lab prepare` or `toyworld` writes it.
        held_out: another such folder; "" keeps held_out_clips of the videos in `folder`.
        num_frames, height, width: of the clips that the model sees, in pixels.
        stride: every how manieth frame.
        sampling: see `VideoDataset`.
        epochs: how many windows of each clip are encoded.
        max_upscale: see `assign`.
        balanced: see `BucketBatchSampler`.
        models: folder, or embedded name, with vae/, tokenizer/ and text_encoder/.
        max_text_length: tokens.
        caption_dropout: share of clips shown without their caption, for guidance.
    """

    folder: str = config.MISSING
    held_out: str = ""
    held_out_clips: int = 16
    num_frames: int = 8
    height: int = 48
    width: int = 72
    stride: int = 1
    sampling: Literal["random", "uniform", "start"] = "random"
    epochs: int = 4
    max_upscale: float = 1.0
    batch_size: int = 16
    balanced: bool = False
    workers: int = 0
    models: str = "toy-latte"
    max_text_length: int = 24
    caption_dropout: float = 0.1

    def __post_init__(self) -> None:
        ranges = {"held_out_clips": (0, math.inf), "epochs": (1, math.inf)}
        config.check_ranges(self, **ranges, caption_dropout=(0, 1))


@dataclass(frozen=True)
class LoggingConfig:
    """The samples made while training: a clip of each prompt, at this guidance, steps and seed."""

    prompts: tuple[str, ...] = ()
    guidance_scale: float = 5.0
    sampling_steps: int = 20
    sample_seed: int = 0


@dataclass(frozen=True)
class RunConfig:
    """One run of `vidgen-lab train`: everything it depends on."""

    output: str = "runs/training"
    model: ModelConfig = field(default_factory=ModelConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    diffusion: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)

    def __post_init__(self) -> None:
        if not self.output.strip():
            raise ValueError("output names the folder of the run: it cannot be empty")


def listed() -> dict[str, str]:
    """The configurations that come with the package: name and first line of comment."""
    return config.listed(CONFIGS)


def load_run(source: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """A run's settings from a YAML file or a listed name, changed by NAME=VALUE pairs.

    Raises FileNotFoundError naming what there is, or ConfigError in one line.
    """
    return config.load_listed(RunConfig, CONFIGS, source, overrides)


def sweep(
    grid: Mapping[str, Sequence[Any]],
    run: Callable[[list[str], Path], Mapping[str, Any]],
    folder: str | Path,
    base: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """`run` for every combination of values; what is done is not done again.

    Returns a row of values and numbers for each; a run that was killed goes on.

    Args:
        grid: {"optimizer.learning_rate": [1e-4, 1e-3], ...}.
        run: (overrides, folder of this run) -> numbers to compare.
        folder: holds the runs, one folder each, and what they gave.
        base: all other settings; what was done with others does not count.
    """
    done, rows = Journal(Path(folder), "sweep"), []
    for combination in itertools.product(*grid.values()):
        values = dict(zip(grid, combination, strict=True))
        key = key_of(values, base)
        if key not in done:
            name = ",".join(f"{n.rpartition('.')[2]}={v}" for n, v in values.items())
            pairs = [f"{n}={v}" for n, v in values.items()]
            numbers = run(pairs, Path(folder) / name.replace("/", "-"))
            done.add(key, {"values": values, "numbers": numbers})
        rows.append(values | done[key]["numbers"])
    return rows
