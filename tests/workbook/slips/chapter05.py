"""Likely slips in the exercises of chapter 5: (exercise, wrong answer, what the hint must say)."""

from fractions import Fraction

import numpy as np
import torch


def _merged_in_place(W, A, B, alpha, strength):
    W += strength * alpha / len(A) * B @ A
    return W


def _best(run):
    return np.float32(min((0.001 * 3**n for n in range(7)), key=run))


RIGHT = [
    ("5.1", _merged_in_place),
    ("5.2", ("lora.rank=12", "lora.targets=[net.0.proj, net.2]")),
    ("5.5", lambda rank, alpha, says: 1 if says else alpha / rank),
    ("5.6", _best),
    ("5.6", lambda run: min(torch.logspace(-3, 0, 7), key=run)),
    ("5.5", lambda rank, alpha, says: Fraction(1) if says else Fraction(alpha, rank)),
]
SLIPS = [
    ("5.6", lambda run: float("inf"), "positive"),
    ("5.6", lambda run: float("nan"), "positive"),
    ("5.1", lambda W, A, B, alpha, s: W + s * alpha * B @ A, "divided by the rank"),
    ("5.1", lambda W, A, B, alpha, s: W + alpha / 2 * B @ A, "the strength is missing"),
    ("5.1", lambda W, A, B, alpha, s: s * alpha / 2 * B @ A, "the change alone"),
    ("5.1", lambda W, A, B, alpha, s: (W + B @ A).T, "[out, in]"),
    ("5.1", lambda W, A, B, alpha, s: W + s / alpha * B @ A, "W + strength alpha"),
    ("5.2", "lora.rank=8", "a list of settings"),
    ("5.2", ["lora.rank=8"], "net.0.proj and net.2"),
    ("5.2", ["lora.rank=16", "lora.targets=[net.0.proj,net.2]"], "not fewer than"),
    ("5.2", ["lora.rank=2", "lora.targets=[net.0.proj,net.2]"], "would still do"),
    ("5.3", lambda learn, change: 1, "still misses"),
    ("5.3", lambda learn, change: [1], "a number is wanted"),
    ("5.3", lambda learn, change: 24, "more than is needed"),
    (
        "5.3",
        lambda learn, change: [
            r for r in range(1, 25) if learn(change, r) < 0.05 and learn(change, r) < 0.05
        ][0],
        "tried twice",
    ),  # fmt: skip
    ("5.4", lambda parameters, gpus: 16 * parameters / gpus, "weights whole"),
    ("5.4", lambda parameters, gpus: parameters * (4 + 12 / gpus), "gradients as well"),
    ("5.4", lambda parameters, gpus: 16 * parameters, "nothing is shared yet"),
    ("5.4", lambda parameters, gpus: parameters / gpus, "stage 2 cuts 14"),
    ("5.5", lambda rank, alpha, says: alpha / rank, "ask for 1"),
    ("5.5", lambda rank, alpha, says: 1.0 if says else rank / alpha, "upside down"),
    ("5.5", lambda rank, alpha, says: 1.0, "takes 1 instead"),
    ("5.6", lambda run: 1e-4, "hardly begun"),
    ("5.6", lambda run: 30.0, "overshoots"),
    ("5.6", lambda run: min([0.001 * n for n in range(1, 40)], key=run), "eight are enough"),
    ("5.6", lambda run: "fast", "a number is wanted"),
    ("5.6", lambda run: run(-1.0), "positive"),
]
