"""Will it fit? Memory of generating and of training, with every term shown.

`plan` is for generating with CogVideoX; `plan_training` for training it or a Latte, on one GPU or
many; `vidgen-lab plan` prints which way of sharing the work fits.

The terms are counted from the architecture. What training keeps of a block was measured here
(`latte.measure.saved_bytes`: 20.4 to 20.9 values per token and channel, at every size) and is what
follows from the published peaks of CogVideoX-2B with and without checkpointing. Two constants of
generating are fitted to the figures that the diffusers documentation measured for CogVideoX-2B at
49x480x720 (33 GB plain, 19 GB with model offload, 11 GB with tiling as well). Tests hold all of it
against the published figures.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

GIB = 2**30
SPARE = 1.0  # GiB of a card that the driver and fragmentation take

# Layers, width, heads, parameters: counted on the meta device.
TRANSFORMERS = {
    "CogVideoX-2B": (30, 1920, 30, 1.694e9),
    "CogVideoX-5B": (42, 3072, 48, 5.570e9),
    "Latte-S/2": (12, 384, 6, 32.5e6),
    "Latte-B/2": (12, 768, 12, 129.5e6),
    "Latte-L/2": (24, 1024, 16, 456.8e6),
    "Latte-XL/2": (28, 1152, 16, 673.7e6),
}
COGVIDEOX = ("CogVideoX-2B", "CogVideoX-5B")
TEXT_ENCODER, VAE = 4.762e9, 0.216e9  # parameters, beside those of CogVideoX
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}

# Live tensors at the peak, in units of one activation. A transformer block holds about fourteen
# (queries, keys, values, the four-fold feed-forward twice); the decoder's last stage holds about
# twenty-four of 128 channels at full size, in chunks of nine frames (fourteen in Latte).
TRANSFORMER_TENSORS, DECODER_TENSORS = 14, 24
DECODER_CHANNELS, DECODER_FRAMES, LATTE_FRAMES = 128, 9, 14


@dataclass(frozen=True)
class Plan:
    """Peak GPU memory of one generation. All sizes in GiB.

    Attributes:
        weights: of each part.
        work: what each stage needs beside its weights.
        peak: the largest sum that is on the GPU at one time, at the given offload mode.
    """

    model: str
    weights: dict[str, float]
    work: dict[str, float]
    offload: str
    peak: float

    def fits(self, vram_gib: float) -> bool:
        """Whether it fits a card of so many GiB, with SPARE left."""
        return self.peak + SPARE <= vram_gib

    def explain(self) -> str:
        """The sum in words."""
        parts = ", ".join(f"{name} {gib:.1f}" for name, gib in self.weights.items())
        work = ", ".join(f"{name} {gib:.1f}" for name, gib in self.work.items())
        rule = {
            "none": "all weights + the largest work",
            "model": "the largest (weights + work) of one part",
            "sequential": "the largest work, one layer at a time",
        }[self.offload]
        return f"weights {parts}; work {work}; offload {self.offload}: {rule} = {self.peak:.1f} GiB"


def plan(
    model: str = "CogVideoX-2B",
    height: int = 480,
    width: int = 720,
    num_frames: int = 49,
    dtype: str = "float16",
    offload: str = "none",
    tiling: bool = False,
) -> Plan:
    """Estimate the peak memory of one generation.

    Classifier-free guidance doubles the transformer's batch.

    Args:
        model: one of COGVIDEOX.
        height: of the clip, in pixels.
        width: of the clip, in pixels.
        num_frames: of the clip.
        dtype: of the weights, one of BYTES. With int8 activations stay at two bytes.
        offload: "none", "model" or "sequential".
        tiling: decode a quarter of the frame at a time.

    Raises:
        ValueError: the model, dtype or offload is unknown, or the clip has no pixel.
    """
    modes = ("none", "model", "sequential")
    if model not in COGVIDEOX or dtype not in BYTES or offload not in modes:
        raise ValueError(
            f"unknown model, dtype or offload: {model!r}, {dtype!r}, {offload!r}; "
            f"models: {', '.join(COGVIDEOX)}; dtypes: {', '.join(BYTES)}"
        )
    _, hidden, _, parameters = TRANSFORMERS[model]
    size, number = BYTES[dtype], max(BYTES[dtype], 2)
    weights = {
        "text encoder": TEXT_ENCODER * size / GIB,
        "transformer": parameters * size / GIB,
        "decoder": VAE * size / GIB,
    }
    activation = 2 * _tokens(model, height, width, num_frames) * hidden * number / GIB
    work = {
        "text encoder": 0.1,
        "transformer": activation * TRANSFORMER_TENSORS,
        "decoder": _decoding(height, width, min(num_frames, DECODER_FRAMES), number, tiling),
    }
    peak = {
        "none": sum(weights.values()) + max(work.values()),
        "model": max(weights[part] + work[part] for part in weights),
        "sequential": max(work.values()) + 0.3,  # the largest single layer, twice
    }[offload]
    return Plan(model, weights, work, offload, peak)


# training ---------------------------------------------------------------------------------------

# Values that a block keeps for its backward pass, per token and channel: measured. While a block
# that was recomputed runs backwards, gradients and copies of the same size are there too. Under
# autocast, as float32 weights are trained, norms and residuals stay float32 and copies of the
# weights are kept: what fits the peaks that an H200 measured (tests/training/test_plan.py).
BLOCK_VALUES, BLOCKS_AT_WORK, AUTOCAST_VALUES = 20.5, 4.0, 26.0
Strategy = Literal["ddp", "zero2", "fsdp2", "tensor", "pipeline", "context"]
STRATEGIES = get_args(Strategy)


@dataclass(frozen=True)
class TrainingPlan:
    """Peak memory of each GPU in a training, in GiB.

    Attributes:
        training, validation: by part; a validation makes a clip with the same weights on the GPU.
    """

    model: str
    strategy: str
    gpus: int
    training: dict[str, float]
    validation: dict[str, float]

    @property
    def training_peak(self) -> float:
        """GiB of a GPU in a training step."""
        return sum(self.training.values())

    @property
    def validation_peak(self) -> float:
        """GiB of a GPU while it makes a clip to look at."""
        return sum(self.validation.values())

    @property
    def peak(self) -> float:
        """GiB: the larger of the two."""
        return max(self.training_peak, self.validation_peak)

    @property
    def needs(self) -> float:
        """GiB of the smallest card that both fit."""
        return self.peak + SPARE

    def fits(self, vram_gib: float) -> bool:
        """Whether both fit a card of so many GiB, with SPARE left."""
        return self.needs <= vram_gib

    def explain(self) -> str:
        """The sums in words."""
        parts = ", ".join(f"{name} {gib:.1f}" for name, gib in self.training.items() if gib)
        also = ", ".join(f"{name} {gib:.1f}" for name, gib in self.validation.items() if gib)
        return (
            f"{self.strategy} on {self.gpus}: training {parts} = {self.training_peak:.1f} GiB; "
            f"validation {also} = {self.validation_peak:.1f} GiB"
        )


def plan_training(
    model: str = "CogVideoX-2B",
    height: int = 480,
    width: int = 720,
    num_frames: int = 49,
    batch: int = 1,
    rank: int = 0,
    checkpointing: bool = True,
    strategy: Strategy = "ddp",
    gpus: int = 1,
    ema: bool = False,
    optimizer_bytes: int = 8,
    weight_bytes: float = 0,
    tiling: bool = False,
) -> TrainingPlan:
    """What each GPU needs for clips of this size. They and their texts were encoded before.

    Args:
        model: one of TRANSFORMERS.
        height: of the clips, in pixels.
        width: of the clips, in pixels.
        num_frames: of the clips.
        batch: clips at a time on each GPU.
        rank: of LoRA on the four projections of attention; 0 trains everything.
        checkpointing: keep the inputs of blocks alone, and recompute the rest.
        strategy: what is cut among GPUs: "zero2" gradients, optimizer and average; "fsdp2",
            "tensor" and "pipeline" weights too; "tensor" part of the activations, "context" all
            these and nothing else; "ddp" nothing.
        gpus: how many.
        ema: a float32 average.
        optimizer_bytes: per trained value, 8 for Adam in float32 (4 in bfloat16, 4 for Muon).
        weight_bytes: of the model's weights; 0 is 2 for a frozen base and 4 where they are trained.
        tiling: a validation decodes a quarter of the frame at a time.

    Raises:
        ValueError: a name is unknown, a number too small, or heads or layers cannot be shared.
    """
    if model not in TRANSFORMERS or strategy not in STRATEGIES:
        raise ValueError(
            f"unknown model or strategy: {model!r}, {strategy!r}; models: "
            f"{', '.join(TRANSFORMERS)}; strategies: {', '.join(STRATEGIES)}"
        )
    if min(gpus, batch, rank + 1) < 1:
        raise ValueError(f"{gpus} GPUs, {batch} clips at a time, rank {rank}: nothing to plan")
    layers, channels, heads, parameters = TRANSFORMERS[model]
    if strategy in ("tensor", "context") and heads % gpus:
        raise ValueError(f"{heads} heads cannot be shared by {gpus} GPUs")
    if strategy == "pipeline" and layers < gpus:
        raise ValueError(f"{layers} layers cannot be cut into {gpus} stages")
    learnt = layers * 4 * 2 * rank * channels if rank else parameters
    bytes_each = weight_bytes or (2 if rank else 4)
    cut = gpus if strategy in ("fsdp2", "tensor", "pipeline") else 1
    states = gpus if strategy == "zero2" else cut
    weights = parameters * bytes_each / cut + (learnt * 4 if rank else 0) / cut
    if strategy == "fsdp2":  # the block at work is whole, and the next one on its way
        weights += 2 * parameters / layers * bytes_each
    if checkpointing:  # the input of each block, and what the one at work needs
        waiting = layers + BLOCKS_AT_WORK * BLOCK_VALUES
    else:  # in a pipeline 1/n of the layers, n micro-batches
        waiting = layers * (BLOCK_VALUES if bytes_each <= 2 else AUTOCAST_VALUES)
    unit = batch * _tokens(model, height, width, num_frames) * channels * 2
    if strategy == "context":
        unit /= gpus
    if strategy == "tensor":  # norms and residuals are whole everywhere: about a third
        unit *= 1 / 3 + 2 / 3 / gpus
    train = {
        "weights": weights,
        "gradients": learnt * (4 if rank else bytes_each) / states,
        "optimizer": learnt * optimizer_bytes / states,
        "average": 4 * learnt / states if ema else 0.0,
        "activations": waiting * unit,
    }
    train = {name: size / GIB for name, size in train.items()}
    train["VAE"] = VAE * 2 / GIB if model in COGVIDEOX else 0.2
    kept = {name: train[name] for name in ("weights", "optimizer", "average", "VAE")}
    frames = min(num_frames, DECODER_FRAMES if model in COGVIDEOX else LATTE_FRAMES)
    kept["decoding"] = _decoding(height, width, frames, 2, tiling)
    return TrainingPlan(model, strategy, gpus, train, kept)


def _decoding(height: int, width: int, frames: int, number: int, tiling: bool) -> float:
    """GiB that a VAE's decoder needs for so many frames at a time, of `number` bytes a value."""
    feature = height * width * frames * DECODER_CHANNELS * number / GIB
    return feature * DECODER_TENSORS / (4 if tiling else 1)


def _tokens(model: str, height: int, width: int, num_frames: int) -> int:
    """Of one clip: 16x16 pixels each; CogVideoX takes four frames together, and 226 of text."""
    if min(height, width, num_frames) < 1:
        raise ValueError(f"no clip is {num_frames} frames of {height}x{width} pixels")
    spatial = math.ceil(height / 16) * math.ceil(width / 16)
    if model in COGVIDEOX:
        return ((num_frames - 1) // 4 + 1) * spatial + 226
    return num_frames * spatial


def options(vram_gib: float, gpus: int = 1, **settings) -> list[TrainingPlan]:
    """All strategies that the model allows on so many GPUs, those that fit first, then by need;
    `settings` are those of `plan_training`."""
    wanted: Sequence[Strategy] = ("ddp",) if gpus == 1 else STRATEGIES
    plans = []
    for strategy in wanted:
        try:
            plans.append(plan_training(strategy=strategy, gpus=gpus, **settings))
        except ValueError:
            if strategy == "ddp":
                raise
    return sorted(plans, key=lambda p: (not p.fits(vram_gib), p.peak))
