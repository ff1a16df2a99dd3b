"""What moves the weights: precision, optimizers, learning rates, and an average of the weights."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer

from vidgen_lab.config import check_ranges

Optimizers = dict[str, Optimizer]
Builder = Callable[[nn.Module], Optimizers | Optimizer]
Schedule = Callable[[int], float]


def has_fast_bfloat16(device: torch.device | str) -> bool:
    """Whether a device computes in bfloat16 itself, by what it says it can do.

    A CPU without it is some 30 times slower in bfloat16 than in float32, and a T4 (compute
    capability 7.5) emulates it although `torch.cuda.is_bf16_supported()` says yes.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def compute_dtype(precision: str, device: torch.device | str) -> torch.dtype | None:
    """What autocast computes in: None for float32, torch.bfloat16 or torch.float16.

    Args:
        precision: "no", "bf16", "fp16", or "auto": bfloat16 where the device has it, else float16
            on a GPU and float32 elsewhere.
        device: where it computes; only "auto" asks what it can do.
    """
    if precision == "auto":
        on_gpu = torch.device(device).type == "cuda"
        precision = "bf16" if has_fast_bfloat16(device) else "fp16" if on_gpu else "no"
    return {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def enable_checkpointing(model: nn.Module) -> None:
    """Recompute activations block by block in the backward pass; ValueError if the model cannot."""
    if hasattr(model, "enable_gradient_checkpointing"):  # diffusers
        model.enable_gradient_checkpointing()
    elif hasattr(model, "gradient_checkpointing"):  # Latte
        model.gradient_checkpointing = True
    else:
        raise ValueError(
            f"{type(model).__name__} cannot recompute its activations: it has neither "
            "enable_gradient_checkpointing() nor a switch gradient_checkpointing"
        )


def compile_blocks(model: nn.Module, **options: Any) -> None:
    """torch.compile for what a model repeats, else for the whole: a block is compiled once for all
    its likes, so that the first step waits for seconds instead of minutes."""
    for part in list(repeated(model)) or [model]:
        part.compile(**options)


def repeated(model: nn.Module) -> Iterator[nn.Module]:
    """The blocks of a model's stacks, the outer ones where a block has stacks of its own."""
    within: set[nn.Module] = set()
    for stack in model.modules():  # outer ones first
        if isinstance(stack, nn.ModuleList) and stack not in within:
            for block in stack:
                within.update(block.modules())
                yield block


# learning rates ---------------------------------------------------------------------------------


def warmup_cosine(step: int, steps: int, warmup: int = 0, floor: float = 0.0) -> float:
    """Linear warm-up to 1, then half a cosine to `floor` at step `steps`, and `floor` ever after.

    Step 0 already moves: its factor is 1 / warmup. The warm-up is a part of `steps`.
    """
    if step < warmup:
        return (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, steps - warmup))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))


def warmup_exponential(step: int, steps: int, warmup: int = 0, floor: float = 0.01) -> float:
    """Linear warm-up to 1, then the same share of the rest at each step, to `floor` > 0 at last."""
    if step < warmup:
        return (step + 1) / warmup
    return floor ** min(1.0, (step - warmup) / max(1, steps - warmup))


def warmup_stable_decay(step: int, steps: int, warmup: int = 0, decay_share: float = 0.4) -> float:
    """Warm-up to 1, constant, then linear to 0 over the last `decay_share` of the run.

    Until the decay begins nothing depends on `steps`, so that a run can be resumed for longer.
    """
    start = steps * (1 - decay_share)
    left = max(0.0, (steps - step) / max(1e-9, steps - start))
    decay = left if decay_share and step >= start else 1.0
    return min(1.0, (step + 1) / max(1, warmup)) * decay


@dataclass(frozen=True)
class OptimizerConfig:
    """Which optimizer, how fast, and how the rate changes over the run.

    Attributes:
        name: "adamw", or "muon": Muon (Jordan 2024) for the matrices inside the blocks and AdamW
            for the rest. A model trained with AdamW before stays with it (arXiv 2605.10468).
        learning_rate, muon_learning_rate: of AdamW and of Muon, where the schedule has 1.
        betas: of AdamW.
        weight_decay: for matrices; norms, biases, embeddings and position tables are left alone.
        schedule: constant, cosine, exponential or stable_decay, after `warmup` linear steps.
        end: what is left of the rate at the end, as a share (cosine; exponential, there above 0).
        decay_share: the part of the run over which stable_decay goes to 0.
    """

    name: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = 1e-4
    muon_learning_rate: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    schedule: Literal["constant", "cosine", "exponential", "stable_decay"] = "cosine"
    warmup: int = 100
    end: float = 0.01
    decay_share: float = 0.4

    def __post_init__(self) -> None:
        rates = ("learning_rate", "muon_learning_rate", "weight_decay", "warmup")
        check_ranges(self, **dict.fromkeys(rates, (0, math.inf)), end=(0, 1), decay_share=(0, 1))
        if self.schedule == "exponential" and not self.end:
            raise ValueError("an exponential never reaches end=0: take 0.001, or another schedule")

    def factor(self, steps: int) -> Schedule:
        """The share of the learning rate at each step of a run of `steps`."""
        schedule = {
            "constant": partial(warmup_stable_decay, decay_share=0.0),
            "cosine": partial(warmup_cosine, floor=self.end),
            "exponential": partial(warmup_exponential, floor=self.end),
            "stable_decay": partial(warmup_stable_decay, decay_share=self.decay_share),
        }[self.schedule]
        return partial(schedule, steps=steps, warmup=self.warmup)

    def build(self, model: nn.Module) -> Optimizers:
        """The optimizers of a model's trainable parameters, by name; none is without parameters.

        A model without matrices inside blocks has AdamW alone, whatever `name` says. ValueError if
        nothing is trainable.
        """
        inside = {id(p) for p in hidden_matrices(model)} if self.name == "muon" else set()
        muon, rest = [], []
        for group in decay_groups(model, self.weight_decay):
            muon += [p for p in group["params"] if id(p) in inside]
            others = [p for p in group["params"] if id(p) not in inside]
            rest += [group | {"params": others}] if others else []
        made: Optimizers = {}
        if muon:
            made["muon"] = FloatMuon(
                muon, self.muon_learning_rate, self.weight_decay, adjust_lr_fn="match_rms_adamw"
            )
        if rest:
            made["adamw"] = AdamW(rest, self.learning_rate, self.betas, fused=True)
        return made


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters in two groups: matrices and kernels, which decay, and all others.

    Decided by what a parameter is, not by its name: norms scale, biases shift, embeddings and
    position tables are looked up, and pulling any of them to zero takes away what was learnt.
    ValueError if no parameter is trainable.
    """
    kept_whole = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            table = isinstance(module, nn.Embedding)
            # a table that hangs at a module with other parts is no weight of a layer
            table |= not name.startswith(("weight", "lora_", "in_proj_weight"))
            if parameter.ndim < 2 or table:
                kept_whole.add(id(parameter))
    groups: list[dict[str, Any]] = [
        {"params": [], "weight_decay": weight_decay}, {"params": [], "weight_decay": 0.0}
    ]  # fmt: skip
    for parameter in trainable(model).values():
        groups[id(parameter) in kept_whole]["params"].append(parameter)
    if found := [group for group in groups if group["params"]]:
        return found
    raise ValueError("no parameter of this model requires a gradient: nothing to train")


def hidden_matrices(model: nn.Module) -> Iterator[nn.Parameter]:
    """The weights of linear layers inside stacks of blocks: what Muon is made for."""
    for block in repeated(model):
        for module in block.modules():
            if isinstance(module, nn.Linear) and module.weight.requires_grad:
                yield module.weight


class FloatMuon(Muon):
    """`torch.optim.Muon` (Jordan 2024) whose iteration runs in float32 where bfloat16 is slow."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of all its matrices, as torch.optim's optimizers do it."""
        first = self.param_groups[0]["params"][0]
        if has_fast_bfloat16(first.device):
            return super().step(closure)
        with patch("torch.optim._muon._zeropower_via_newtonschulz", _orthogonalise):
            return super().step(closure)


def _orthogonalise(
    gradient: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> Tensor:
    """Newton-Schulz iteration as in torch.optim._muon, in float32."""
    a, b, c = coefficients
    x = gradient.float()
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / x.norm().clamp(min=eps)  # no singular value over 1
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


class EMA:
    """Exponential moving average of a model's trainable parameters; buffers stay the model's own.

        average <- d average + (1 - d) weights,    d = min(decay, (1 + n) / (10 + n))

    n counts updates, so that the random weights of the start are soon forgotten. Averages are kept
    in float32 at least: in half precision an update of 0.01 % is rounded away. Frozen parameters
    are not kept twice. Without `warm` d is `decay`, which lies in 0 .. 1, 1 excluded.
    """

    def __init__(self, model: nn.Module, decay: float, warm: bool = True) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"the decay of an average lies in 0 .. 1, not at {decay}")
        self.decay, self.warm, self.updates = decay, warm, 0
        self.shadow = {n: _precise(p).clone() for n, p in trainable(model).items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Once for every step of the optimizer."""
        weights, n = [_precise(p) for p in trainable(model).values()], self.updates
        decay = min(self.decay, (1 + n) / (10 + n)) if self.warm else self.decay
        torch._foreach_lerp_(list(self.shadow.values()), weights, 1 - decay)
        self.updates += 1

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """The model with averaged weights, within the block."""
        now = trainable(model)  # a sharded model has others after it was called
        before = {name: p.detach().clone() for name, p in now.items()}
        try:
            self.copy_to(model)
            yield
        finally:
            with torch.no_grad():
                for name, p in now.items():
                    p.copy_(before[name])

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Give the model the averaged weights for good."""
        for name, p in trainable(model).items():
            p.copy_(self.shadow[name])


def _precise(parameter: Tensor) -> Tensor:
    return parameter.detach().to(torch.promote_types(parameter.dtype, torch.float32))


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that learn, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def learnt_state(model: nn.Module) -> dict[str, Tensor]:
    """What a checkpoint must hold of a model: what learns, and buffers that its state has."""
    learning = trainable(model).keys()
    frozen = {name for name, _ in model.named_parameters()} - learning
    return {name: value for name, value in model.state_dict().items() if name not in frozen}


def set_rates(optimizers: Mapping[str, Optimizer], factor: float) -> None:
    """Every group's learning rate: the one it was made with, times `factor`."""
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor
