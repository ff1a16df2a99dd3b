"""What the recipes of the embedded models share: learning rates and optimizers."""

import math
from collections.abc import Callable

import torch
from torch import nn


def warmup_cosine(step: int, steps: int, warmup: int) -> float:
    """Linear warm-up to 1, then a cosine to 0 at `steps`: a pure function of the step."""
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def warmup_stable_decay(step: int, steps: int, warmup: int, decay_share: float) -> float:
    """Warm-up to 1, constant, then linear to 0 over the last `decay_share` of the run.

    Until the decay begins nothing depends on `steps`, so that a run can be resumed for longer.
    """
    start = steps * (1 - decay_share)
    decay = 1.0 if step < start else (steps - step) / (steps - start)
    return min(1.0, (step + 1) / warmup) * decay


def muon_and_adamw(
    model: nn.Module,
    is_muon: Callable[[str, nn.Parameter], bool],
    muon_learning_rate: float,
    learning_rate: float,
) -> dict[str, torch.optim.Optimizer]:
    """Muon (Jordan 2024) for the matrices that `is_muon` names, AdamW for everything else."""
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        groups[is_muon(name, parameter)].append(parameter)
    return {
        "muon": torch.optim.Muon(
            groups[True],
            lr=muon_learning_rate,
            weight_decay=0.01,
            adjust_lr_fn="match_rms_adamw",
        ),
        "adamw": torch.optim.AdamW(
            groups[False], lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
        ),
    }
