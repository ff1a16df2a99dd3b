"""Chapter 1: answers that readers are likely to give, and the hint that each gets."""

import math

import numpy as np
import torch

from vidgen_lab.metrics.basics import evaluate_video_basics
from vidgen_lab.metrics.flow import analyse_flow

TEXT = 226


def _guided_in_place(negative, positive, scale):
    negative += scale * (positive - negative)
    return negative


def _moves(clip):
    flow = analyse_flow(clip)
    return flow.speed.mean() > 1 and flow.unexplained.mean() < 0.05


RIGHT = [
    ("1.1", _guided_in_place),
    ("1.2", np.float32(80)),
    ("1.2", torch.tensor(80.0)),
    ("1.5", lambda clip: 1.0 if _moves(clip) else -math.inf),
    ("1.3", lambda n: max(1, round((n - 1) / 8)) * 8 + 1),
    ("1.3", lambda n: max(1, (n + 3) // 8) * 8 + 1),  # above, where both are equally near
    ("1.4", lambda t, h, w: TEXT + (t + 3) // 4 * h * w / 256),
    ("1.7", np.int64(2)),
    ("1.7", 2.0),
]

SLIPS = [
    ("1.2", "a lot", "a number"),
    ("1.2", 0.5, "ignore the prompt"),
    ("1.2", 6, "go further"),
    ("1.7", 2.5, "whole number"),
    ("1.7", 25, "the fewest"),
    ("1.7", 4, "one step less"),
    ("1.3", lambda n: n // 8 * 8, "multiple of 8"),
    ("1.3", lambda n: round((n - 1) / 4) * 4 + 1, "4N+1"),
    ("1.3", lambda n: max((n - 1) // 8, 1) * 8 + 1, "look above"),
    ("1.3", lambda n: (n - 1) / 8 * 8 + 1, "whole number"),
    ("1.3", lambda n: (41, 49), "a number is wanted"),
    ("1.4", lambda t, h, w: ((t - 1) // 4 + 1) * (h // 16) * (w // 16), "text is missing"),
    ("1.4", lambda t, h, w: TEXT + ((t - 1) // 4 + 1) * (h // 8) * (w // 8), "2x2"),
    ("1.4", lambda t, h, w: TEXT + ((t - 1) // 4 + 1) * (h / 8) * (w / 8), "2x2"),
    ("1.4", lambda t, h, w: TEXT + t * (h // 16) * (w // 16), "time is compressed"),
    ("1.4", lambda t, h, w: TEXT + t // 4 * (h // 16) * (w // 16), "latent frame of its own"),
    ("1.1", lambda n, p, g: p + g * (p - n), "start lower"),
    ("1.1", lambda n, p, g: p + g * (n - p), "swapped"),
    ("1.1", lambda n, p, g: g * p, "not used"),
    ("1.5", lambda clip: evaluate_video_basics(clip).consistency, "frozen"),
    ("1.5", lambda clip: evaluate_video_basics(clip).motion, "jumps"),
    (
        "1.5",
        lambda clip: np.abs(np.diff(clip.frames.astype(float), axis=0)).mean(),
        "flow explains",
    ),
    ("1.5", lambda clip: float("nan"), "not a number"),
    ("1.6", "a lawyer in a courtroom", "toy world"),
    ("1.6", "a red ball moving left", "no background"),
    ("1.6", "vintage film of a ball moving left in a desert", "black-and-white"),
    ("1.6", 7, "sentence"),
]
