"""Exercises of chapter 3: tokens, heads, masks, parameters, noise, a sampler step, a gated branch.

Each checker runs the reader's answer on a few cases and names the likely slip in a wrong one.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from vidgen_lab.latte.attention import merge_heads
from vidgen_lab.workbook.exercises import Exercise, Wrong


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _close(got: object, right: Tensor) -> bool:
    """Whether the answer is a tensor with these numbers; an own error if it is none at all."""
    if not isinstance(got, Tensor):
        raise Wrong(f"the answer gives a {type(got).__name__}; a tensor is wanted")
    same = got.shape == right.shape and got.dtype == right.dtype
    return same and torch.allclose(got, right, atol=1e-5)


def _check_tokens(answer: Callable[[int, int, int, int], int]) -> str:
    for size in ((256, 256, 16, 2), (256, 384, 16, 2), (512, 512, 49, 4), (256, 256, 16, 1)):
        height, width, frames, patch = size
        got, right = answer(*size), frames * (height // (8 * patch)) * (width // (8 * patch))
        if got == right:
            continue
        if isinstance(got, float):
            raise Wrong(f"tokens{size} is {got!r}; tokens are whole numbers: divide with //")
        slips = {
            right * 64: "patches are cut from latents, which are 8 times smaller a side",
            right * patch**2: "a patch joins p×p latents into one token",
            right * patch: "a patch is p wide *and* p high",
            right // frames: "that is one frame; the clip has all of them",
            frames * (height // (8 * patch)) ** 2: "height and width may differ",
        }
        hint = slips.get(got, "count: frames, times patches down, times patches across")
        raise Wrong(f"tokens{size} is {got:,}: {hint}")
    return "right: 256×256 in 16 frames makes 4,096 tokens"


def _check_merge(answer: Callable[[Tensor], Tensor]) -> str:
    y = _random(2, 3, 5, 4)
    got, right = answer(y), merge_heads(y)
    if _close(got, right):
        return "right: tokens keep their place, and heads lie side by side in each"
    if got.shape == right.shape and torch.equal(got, y.reshape(2, 5, 12)):
        raise Wrong(
            "the shape is right, the content shuffled: heads and tokens must trade places first"
        )
    if got.shape == right.shape and torch.equal(got, y.permute(0, 2, 3, 1).flatten(2)):
        raise Wrong("inside a token the numbers of one head should lie together")
    raise Wrong(f"wanted shape {tuple(right.shape)}, got {tuple(got.shape)}")


def _chunk_mask(frames: int, chunk: int) -> Tensor:
    number = torch.arange(frames) // chunk
    return number[:, None] >= number[None, :]


def _check_mask(answer: Callable[[int, int], Tensor]) -> str:
    for frames, chunk in ((6, 1), (6, 2), (7, 3)):
        got, right = answer(frames, chunk), _chunk_mask(frames, chunk)
        if _close(got, right):
            continue
        if got.dtype != torch.bool:
            raise Wrong(f"the mask has dtype {got.dtype}; compare with >= to get True and False")
        if got.shape != right.shape:
            raise Wrong(f"the mask has shape {tuple(got.shape)}, not {tuple(right.shape)}")
        if torch.equal(got, right.T):
            raise Wrong("transposed: rows ask, columns are looked at")
        if torch.equal(got, ~right):
            raise Wrong("inside out: True means *may* look")
        if torch.equal(got, _chunk_mask(frames, 1)):
            raise Wrong("that is frame by frame; inside a chunk everyone sees everyone")
        raise Wrong(f"wrong for {frames} frames in chunks of {chunk}; which chunk is frame 5 in?")
    return "right: with chunk 1 it is the causal mask, with chunk T no mask at all"


def _check_parameters(answer: Callable[[int], int]) -> str:
    for h in (384, 1152):
        got, right = answer(h), 18 * h * h + 15 * h
        if got == right:
            continue
        slips = {
            18 * h * h: "the biases are missing: every matrix has one",
            12 * h * h + 9 * h: "the modulation is missing: its matrix gives six vectors",
            16 * h * h + 13 * h: "the MLP has two matrices, up and down",
            17 * h * h + 14 * h: "attention has four matrices: q, k, v and the one at its end",
            10 * h * h
            + 7 * h: "attention has four matrices, and the modulation one with six parts",
        }
        hint = slips.get(got, "add up: 4 matrices of attention, 8h² of MLP, 6h² of modulation")
        raise Wrong(f"a block of width {h} has {right:,} parameters, not {got:,}: {hint}")
    return "right: 18h² + 15h; a third of it sits in the modulation, hence adaLN-single"


def _check_noise(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> str:
    abar = torch.tensor([0.9, 0.5, 0.01, 1.0])
    for shape in ((4, 3, 2, 5, 5), (4, 3, 4, 4), (4, 6)):
        x0, noise = _random(*shape, seed=1), _random(*shape, seed=2)
        a = abar.reshape(-1, *[1] * (len(shape) - 1))
        right = a.sqrt() * x0 + (1 - a).sqrt() * noise
        try:
            got = answer(x0, noise, abar)
        except RuntimeError:
            raise Wrong(
                f"for data of shape {shape} the four factors do not line up; "
                "give them as many axes as the data, of length 1"
            ) from None
        if _close(got, right):
            continue
        if got.shape != right.shape:
            raise Wrong(f"data of shape {shape} became {tuple(got.shape)}: samples were mixed up")
        if torch.allclose(got, a * x0 + (1 - a) * noise):
            raise Wrong("variances add up to one, amplitudes do not: take square roots")
        if torch.allclose(got, a * x0 + (1 - a).sqrt() * noise):
            raise Wrong("the clip's factor needs a square root as well")
        if torch.allclose(got, (1 - a).sqrt() * x0 + a.sqrt() * noise):
            raise Wrong("swapped: abar is the share of the *clip*")
        raise Wrong("the numbers differ; the equation is at the head of part 4")
    return "right: variance stays one at every level, and any number of axes works"


def _check_ddim(answer: Callable[[Tensor, Tensor, float, float], Tensor]) -> str:
    x, eps = _random(2, 3, seed=3), _random(2, 3, seed=4)
    for abar, before in ((0.2, 0.6), (0.5, 1.0)):
        a, b = torch.tensor(abar), torch.tensor(before)
        x0 = (x - (1 - a).sqrt() * eps) / a.sqrt()
        right = b.sqrt() * x0 + (1 - b).sqrt() * eps
        got = answer(x, eps, a, b)
        if _close(got, right):
            continue
        if torch.allclose(got, x0, atol=1e-5):
            raise Wrong("that is the estimate of the clean clip; noise it again, to abar_prev")
        if torch.allclose(got, x - eps, atol=1e-5):
            raise Wrong("plain subtraction is no sampler; estimate the clean clip first")
        if torch.allclose(got, b.sqrt() * x0 + (1 - a).sqrt() * eps, atol=1e-5):
            raise Wrong("both factors of the new mixture belong to abar_prev")
        raise Wrong(f"wrong from abar {abar} to {before}: first x0, then mix it anew")
    return "right: at abar_prev = 1 the step lands on the clip itself"


def _check_gate(answer: Callable[..., Tensor]) -> str:
    x = _random(2, 4, 6, 8, seed=5) * 3 + 1
    shift, scale, gate = (_random(2, 1, 1, 8, seed=s) for s in (6, 7, 8))
    matrix = _random(8, 8, seed=9)

    def branch(y: Tensor) -> Tensor:
        return y @ matrix

    still = answer(x, branch, shift, scale, torch.zeros_like(gate))
    if not _close(still, x):
        normed = F.layer_norm(x, (8,))
        if torch.allclose(still, normed * (1 + scale) + shift, atol=1e-4):
            raise Wrong("the stream itself was overwritten: add the branch to x, not to its norm")
        raise Wrong("with gate 0 the block must return x, unchanged")
    got = answer(x, branch, shift, scale, gate)
    inside = F.layer_norm(x, (8,), eps=1e-6)
    right = x + gate * branch(inside * (1 + scale) + shift)
    if torch.allclose(got, right, atol=1e-3):
        return "right: the stream runs straight, the branch hears the modulated norm"
    if torch.allclose(got, x + gate * branch(inside * scale + shift), atol=1e-3):
        raise Wrong("use 1 + scale: then zero means 'leave the norm as it is'")
    if torch.allclose(got, x + gate * branch(x * (1 + scale) + shift), atol=1e-3):
        raise Wrong("the branch should see a *normalised* x: F.layer_norm(x, x.shape[-1:])")
    raise Wrong("gate 0 is right; look at what goes into the branch")


def _check_training(answer: float) -> str:
    value = float(answer)
    if not 0 < value < 1.5:
        raise Wrong("a fresh model has a loss of about 1; hand in a mean of squared errors")
    if value > 0.3:
        raise Wrong(f"{value:.2f}: the shipped settings reach less; more steps, or another rate?")
    return f"right: {value:.3f}. Now look whether the clips agree with the number"


EXERCISES = (
    Exercise(
        "3.1",
        "write tokens(height, width, num_frames, patch) -> tokens of a clip behind a VAE of 8",
        _check_tokens,
        """
def answer(height, width, num_frames, patch):
    side = 8 * patch                               # pixels under one token
    return num_frames * (height // side) * (width // side)
""",
    ),
    Exercise(
        "3.2",
        "write merge(y) -> [B, L, heads*d] from [B, heads, L, d]",
        _check_merge,
        """
def answer(y):
    return y.transpose(1, 2).flatten(2)            # tokens first, then join the heads
""",
    ),
    Exercise(
        "3.3",
        "write mask(frames, chunk) -> who may look at whom, chunk by chunk",
        _check_mask,
        """
import torch

def answer(frames, chunk):
    number = torch.arange(frames) // chunk         # the chunk of each frame
    return number[:, None] >= number[None, :]      # rows ask, columns are looked at
""",
    ),
    Exercise(
        "3.4",
        "write block(x, branch, shift, scale, gate) -> the stream after one gated branch",
        _check_gate,
        """
import torch.nn.functional as F

def answer(x, branch, shift, scale, gate):
    inside = F.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift
    return x + gate * branch(inside)
""",
    ),
    Exercise(
        "3.5",
        "write parameters(h) -> parameters of one block of width h with AdaLN-Zero",
        _check_parameters,
        """
def answer(h):
    attention = 4 * (h * h + h)                    # q, k, v, out
    mlp = (4 * h * h + 4 * h) + (4 * h * h + h)    # up, down
    modulation = 6 * h * h + 6 * h
    return attention + mlp + modulation            # 18h^2 + 15h
""",
    ),
    Exercise(
        "3.6",
        "write mix(x0, noise, abar) -> noised data of any number of axes",
        _check_noise,
        """
def answer(x0, noise, abar):
    a = abar.reshape(-1, *[1] * (x0.ndim - 1))
    return a.sqrt() * x0 + (1 - a).sqrt() * noise
""",
    ),
    Exercise(
        "3.7",
        "write step(x, eps, abar, abar_prev) -> one DDIM step",
        _check_ddim,
        """
def answer(x, eps, abar, abar_prev):
    x0 = (x - (1 - abar) ** 0.5 * eps) / abar ** 0.5
    return abar_prev ** 0.5 * x0 + (1 - abar_prev) ** 0.5 * eps
""",
    ),
    Exercise(
        "3.8",
        "train the pupil better and hand in the mean loss of its last 20 steps",
        _check_training,
        """
# pupil = Latte(pupil.config)
# learned = train(pupil, encoded, spoken.embeddings, spoken.mask,
#                 (silent.embeddings, silent.mask), steps=600)
# answer = np.mean(learned[-20:])
answer = 0.1
""",
    ),
)
