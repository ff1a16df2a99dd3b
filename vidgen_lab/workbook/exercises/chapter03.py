"""Exercises of chapter 3: tokens, heads, masks, parameters, noise, a DDIM step, a gated branch."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from vidgen_lab.workbook.exercises import Wrong, compare, drawn, need, solved


def exercise_3_1(answer: Callable[[int, int, int, int], int]) -> str:
    """write tokens(height, width, num_frames, patch) -> tokens of a clip behind a VAE of 8

    def answer(height, width, num_frames, patch):
        side = 8 * patch                               # pixels under one token
        return num_frames * (height // side) * (width // side)
    """
    tokens = solved("3.1")
    slips = {
        "patches are cut from latents, 8 times smaller a side": lambda *size: 64 * tokens(*size),
        "a patch joins p×p latents into one token": lambda h, w, t, p: tokens(h, w, t, p) * p**2,
        "a patch is p wide *and* p high": lambda h, w, t, p: tokens(h, w, t, p) * p,
        "that is one frame; the clip has all of them": lambda h, w, t, p: tokens(h, w, 1, p),
        "height and width may differ": lambda h, w, t, p: tokens(h, h, t, p),
    }
    cases = ((256, 256, 16, 2), (256, 384, 16, 2), (512, 512, 49, 4), (256, 256, 16, 1))
    return compare(
        "3.1", answer, cases, slips, "count: frames, times patches down, times patches across",
        "right: 256×256 in 16 frames makes 4,096 tokens",
    )  # fmt: skip


def exercise_3_2(answer: Callable[[Tensor], Tensor]) -> str:
    """write merge(y) -> [B, L, heads*d] from [B, heads, L, d]

    def answer(y):
        return y.transpose(1, 2).flatten(2)            # tokens first, then join the heads
    """
    slips = {
        "the shape is right, the content shuffled: heads and tokens must trade places first": (
            lambda y: y.reshape(2, 5, 12)
        ),
        "inside a token the numbers of one head should lie together": (
            lambda y: y.permute(0, 2, 3, 1).flatten(2)
        ),
    }
    return compare(
        "3.2", answer, [(drawn(2, 3, 5, 4),)], slips, "the numbers are others",
        "right: tokens keep their place, and heads lie side by side in each",
    )  # fmt: skip


def exercise_3_3(answer: Callable[[int, int], Tensor]) -> str:
    """write mask(frames, chunk) -> who may look at whom, chunk by chunk

    import torch

    def answer(frames, chunk):
        number = torch.arange(frames) // chunk         # the chunk of each frame
        return number[:, None] >= number[None, :]      # rows ask, columns are looked at
    """
    mask = solved("3.3")
    slips = {
        "the mask has another dtype; compare with >= to get True and False": (
            lambda frames, chunk: mask(frames, chunk).float()
        ),
        "transposed: rows ask, columns are looked at": lambda frames, chunk: mask(frames, chunk).T,
        "inside out: True means *may* look": lambda frames, chunk: ~mask(frames, chunk),
        "that is frame by frame; in a chunk everyone sees everyone": lambda t, chunk: mask(t, 1),
    }
    return compare(
        "3.3", answer, ((6, 1), (6, 2), (7, 3)), slips, "which chunk is frame 5 in?",
        "right: with chunk 1 it is the causal mask, with chunk T no mask at all",
    )  # fmt: skip


def exercise_3_4(answer: Callable[..., Tensor]) -> str:
    """write block(x, branch, shift, scale, gate) -> the stream after one gated branch

    import torch.nn.functional as F

    def answer(x, branch, shift, scale, gate):
        inside = F.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift
        return x + gate * branch(inside)
    """
    x = drawn(2, 4, 6, 8, seed=5) * 3 + 1
    shift, scale, gate = (drawn(2, 1, 1, 8, seed=s) for s in (6, 7, 8))
    matrix = drawn(8, 8, seed=9)

    def norm(x: Tensor) -> Tensor:
        return F.layer_norm(x, (8,))

    def branch(y: Tensor) -> Tensor:
        return y @ matrix

    overwritten = "the stream itself was overwritten: add the branch to x, not to its norm"
    slips = {overwritten: lambda x, f, shift, scale, gate: norm(x) * (1 + scale) + shift}
    still = "with gate 0 the block must return x, unchanged"
    compare("3.4", answer, [(x, branch, shift, scale, 0 * gate)], slips, still)
    slips = {
        "use 1 + scale: then zero means 'leave the norm as it is'": (
            lambda x, f, shift, scale, gate: x + gate * f(norm(x) * scale + shift)
        ),
        "the branch should see a *normalised* x: F.layer_norm(x, x.shape[-1:])": (
            lambda x, f, shift, scale, gate: x + gate * f(x * (1 + scale) + shift)
        ),
        "the norm is right; now modulate it, by 1 + scale and shift": (
            lambda x, f, shift, scale, gate: x + gate * f(norm(x))
        ),
    }
    inside = "gate 0 is right; look at what goes into the branch"
    return compare(
        "3.4", answer, [(x, branch, shift, scale, gate)], slips, inside,
        "right: the stream runs straight, the branch hears the modulated norm",
    )  # fmt: skip


def exercise_3_5(answer: Callable[[int], int]) -> str:
    """write parameters(h) -> parameters of one block of width h with AdaLN-Zero

    def answer(h):
        attention = 4 * (h * h + h)                    # q, k, v, out
        mlp = (4 * h * h + 4 * h) + (4 * h * h + h)    # up, down
        modulation = 6 * h * h + 6 * h
        return attention + mlp + modulation            # 18h^2 + 15h
    """
    slips = {
        "the biases are missing: every matrix has one": lambda h: 18 * h * h,
        "the modulation is missing: its matrix gives six vectors": lambda h: 12 * h * h + 9 * h,
        "the MLP has two matrices, up and down": lambda h: 14 * h * h + 14 * h,
        "attention has four matrices: q, k, v and one at its end": lambda h: 17 * h * h + 14 * h,
    }
    add = "add up: 4 matrices of attention, 8h² of MLP, 6h² of modulation"
    return compare(
        "3.5", answer, ((384,), (1152,)), slips, add,
        "right: 18h² + 15h; a third of it sits in the modulation, hence adaLN-single",
    )  # fmt: skip


def exercise_3_6(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> str:
    """write mix(x0, noise, abar) -> noised data of any number of axes

    def answer(x0, noise, abar):
        a = abar.reshape(-1, *[1] * (x0.ndim - 1))
        return a.sqrt() * x0 + (1 - a).sqrt() * noise
    """

    def mixed(x0: Tensor, noise: Tensor, clip: Tensor, rest: Tensor, axes: int = 0) -> Tensor:
        shape = (-1, *[1] * ((axes or x0.ndim) - 1))
        return clip.reshape(shape) * x0 + rest.reshape(shape) * noise

    slips = {
        "samples were mixed up: the factors need as many axes as the data": (
            lambda x, n, a: mixed(x, n, a.sqrt(), (1 - a).sqrt(), 5)
        ),
        "variances add up to one: take square roots": lambda x, n, a: mixed(x, n, a, 1 - a),
        "the clip's factor needs a root, too": lambda x, n, a: mixed(x, n, a, (1 - a).sqrt()),
        "swapped: abar is the clip's share": lambda x, n, a: mixed(x, n, (1 - a).sqrt(), a.sqrt()),
    }
    abar, shapes = torch.tensor([0.9, 0.5, 0.01, 1.0]), ((4, 3, 2, 5, 5), (4, 3, 4, 4), (4, 6))
    cases = [(drawn(*shape, seed=1), drawn(*shape, seed=2), abar) for shape in shapes]
    try:
        return compare(
            "3.6", answer, cases, slips, "the numbers differ; look at the head of part 4",
            "right: variance stays one at every level, and any number of axes works",
        )  # fmt: skip
    except RuntimeError:
        raise Wrong(
            "the four factors do not line up with the data; give them as many axes, of length 1"
        ) from None


def exercise_3_7(answer: Callable[[Tensor, Tensor, float, float], Tensor]) -> str:
    """write step(x, eps, abar, abar_prev) -> one DDIM step

    def answer(x, eps, abar, abar_prev):
        x0 = (x - (1 - abar) ** 0.5 * eps) / abar ** 0.5
        return abar_prev ** 0.5 * x0 + (1 - abar_prev) ** 0.5 * eps
    """
    step, x, eps = solved("3.7"), drawn(2, 3, seed=3), drawn(2, 3, seed=4)
    slips = {
        "that is the estimate of the clean clip; noise it again, to abar_prev": (
            lambda x, eps, a, b: step(x, eps, a, torch.tensor(1.0))
        ),
        "plain subtraction is no sampler; estimate the clean clip first": lambda x, e, a, b: x - e,
        "both factors of the new mixture belong to abar_prev": (
            lambda x, eps, a, b: (
                b.sqrt() * step(x, eps, a, torch.tensor(1.0)) + (1 - a).sqrt() * eps
            )
        ),
    }
    levels = ((0.2, 0.6), (0.5, 1.0))
    cases = [(x, eps, torch.tensor(abar), torch.tensor(before)) for abar, before in levels]
    return compare(
        "3.7", answer, cases, slips, "first x0, then mix it anew",
        "right: at abar_prev = 1 the step lands on the clip itself",
    )  # fmt: skip


def exercise_3_8(answer: float) -> str:
    """train the pupil better and hand in the mean loss of its last 20 steps

    # pupil = Latte(pupil.config)
    # learned = train(pupil, sparse, spoken.embeddings, spoken.mask,
    #                 (silent.embeddings, silent.mask), steps=1200)
    # answer = np.mean(learned[-20:])
    answer = 0.016
    """
    need(0 < answer < 1.5, "a fresh model has a loss of about 1; hand in a mean of squared errors")
    less = f"{answer:.3f}: the shipped settings reach about 0.03; more steps, or another rate?"
    need(answer <= 0.022, less)
    return f"right: {answer:.3f}. Now look whether the clips agree with the number"
