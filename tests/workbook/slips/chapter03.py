"""Chapter 3: answers that readers are likely to give, and the hint that each gets."""

import torch
import torch.nn.functional as F


def ddim(x, eps, a, b):
    return (x - (1 - a).sqrt() * eps) / a.sqrt()


def _in_place(x, f, shift, scale, gate):
    x += gate * f(F.layer_norm(x, (8,)) * (1 + scale) + shift)
    return x


def _mixed_in_place(x, n, a):
    a = a.view(-1, *[1] * (x.ndim - 1))
    return x.mul_(a.sqrt()).add_((1 - a).sqrt() * n)


RIGHT = [
    ("3.1", lambda h, w, t, p: t * h * w / (8 * p) ** 2),
    ("3.2", lambda y: y.double().numpy().transpose(0, 2, 1, 3).reshape(2, 5, 12)),
    ("3.3", lambda n, c: [[i // c >= j // c for j in range(n)] for i in range(n)]),
    ("3.4", _in_place),
    ("3.6", _mixed_in_place),
    (
        "3.6",
        lambda x, n, a: torch.stack(
            [s**0.5 * c + (1 - s) ** 0.5 * e for c, e, s in zip(x, n, a, strict=True)]
        ),
    ),
]
SLIPS = [
    ("3.1", lambda h, w, t, p: t * (h / p) * (w / p), "8 times smaller"),
    (
        "3.4",
        lambda x, f, shift, scale, gate: x + gate * f(F.layer_norm(x, (8,))),
        "now modulate it",
    ),
    ("3.8", 0.6, "more steps"),
    ("3.8", 0.03, "more steps"),  # nothing was changed
    ("3.8", 12.0, "about 1"),
    ("3.1", lambda h, w, t, p: t * (h // p) * (w // p), "8 times smaller"),
    ("3.1", lambda h, w, t, p: t * (h // 8) * (w // 8), "joins p×p"),
    ("3.1", lambda h, w, t, p: (h // 8 // p) * (w // 8 // p), "one frame"),
    ("3.1", lambda h, w, t, p: t * (h // (8 * p)) ** 2, "may differ"),
    ("3.1", lambda h, w, t, p: t * h * w / (64 * p * p) + 0.5, "whole numbers"),
    ("3.2", lambda y: y.reshape(y.shape[0], y.shape[2], -1), "shuffled"),
    ("3.2", lambda y: y.permute(0, 2, 3, 1).flatten(2), "lie together"),
    ("3.2", lambda y: y.flatten(1), "wanted shape"),
    ("3.2", lambda y: 3, "a tensor is wanted"),
    ("3.3", lambda n, c: torch.ones(n, n).tril().bool(), "everyone sees everyone"),
    ("3.3", lambda n, c: torch.ones(n, n).tril(), "dtype"),
    ("3.3", lambda n, c: torch.ones(n, n).triu().bool(), "transposed"),
    ("3.3", lambda n, c: ~torch.ones(n, n).tril().bool(), "inside out"),
    ("3.5", lambda h: 18 * h * h, "biases"),
    ("3.5", lambda h: 12 * h * h + 9 * h, "modulation is missing"),
    ("3.5", lambda h: 17 * h * h + 14 * h, "four matrices"),
    ("3.6", lambda x, n, a: x * a.view(-1, 1, 1, 1, 1) ** 0.5, "numbers differ"),
    ("3.6", lambda x, n, a: a.sqrt() * x + (1 - a).sqrt() * n, "do not line up"),
    (
        "3.6",
        lambda x, n, a: a.sqrt().view(-1, 1, 1, 1, 1) * x + (1 - a).sqrt().view(-1, 1, 1, 1, 1) * n,
        "mixed up",
    ),
    (
        "3.6",
        lambda x, n, a: (
            a.view(-1, *[1] * (x.ndim - 1)) * x + (1 - a.view(-1, *[1] * (x.ndim - 1))) * n
        ),
        "square roots",
    ),
    ("3.7", ddim, "noise it again"),
    ("3.7", lambda x, eps, a, b: x - eps, "no sampler"),
    ("3.7", lambda x, e, a, b: b.sqrt() * ddim(x, e, a, b) + (1 - a).sqrt() * e, "abar_prev"),
    (
        "3.4",
        lambda x, f, shift, scale, gate: (
            F.layer_norm(x, (8,)) * (1 + scale) + shift + gate * f(F.layer_norm(x, (8,)))
        ),
        "overwritten",
    ),
    (
        "3.4",
        lambda x, f, shift, scale, gate: x + gate * f(F.layer_norm(x, (8,)) * scale + shift),
        "1 + scale",
    ),
    (
        "3.4",
        lambda x, f, shift, scale, gate: x + gate * f(x * (1 + scale) + shift),
        "normalised",
    ),
    ("3.4", lambda x, f, shift, scale, gate: x + f(x), "with gate 0"),
]
