"""Random numbers that depend on what they are for and on nothing else: not on order or workers."""

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def rng(seed: int, *names: int | str) -> np.random.Generator:
    """NumPy's generator for one purpose: `rng(seed, step)`, `rng(seed, epoch, clip_id)`.

    Numbers alone go into NumPy's SeedSequence as they are; with a text among them, a hash of all.
    """
    if all(isinstance(name, int) for name in names):
        return np.random.default_rng((seed, *names) if names else seed)
    digest = hashlib.sha256("/".join(map(str, (seed, *names))).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def torch_generator(source: np.random.Generator) -> "torch.Generator":
    """PyTorch's generator, on the CPU, from the next number of NumPy's."""
    import torch

    return torch.Generator().manual_seed(int(source.integers(2**62)))
