"""Exercises of chapter 4: faults told from curves, loops repaired, and pieces of large training."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from vidgen_lab.workbook.exercises import Wrong, compare, drawn, need

HINTS = {
    "rate": "too high a rate shows in the training loss from the first steps on; does it here?",
    "zero_grad": "then the norm of the gradient would grow far beyond the healthy run's",
    "unscaled": "then the very first loss would not be 1",
    "captions": "then the clips would look fine, only show something else than was asked for",
    "slow_ema": "then the held-out loss would lag far behind the training loss",
    "warmup": "look for a hump in the first twenty steps; is there one?",
    "leak": "then held-out loss and the loss on known clips would be equal",
}


def exercise_4_1(answer: str) -> str:
    """name the fault of the ninth run with one of the eight words

    answer = "timestep"      # curves are healthy: training and validation share the mistake
    """
    word = str(answer).strip().lower()
    none = f"{answer!r} is none of the eight words: {', '.join(HINTS)}, timestep"
    need(word == "timestep", HINTS.get(word, none))
    return "right: both curves are as they should be, and only the samples burn out"


def _trained(
    batches: list, clears: bool = True, late: bool = False, rate: float = 1e-2, seed: int = 1
) -> tuple[nn.Linear, float]:
    """A fresh model, and its last loss, after a loop that is right, never clears, or is late."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        line = nn.Linear(3, 1)
    optimizer, loss = torch.optim.AdamW(line.parameters(), lr=rate), torch.zeros(())
    for x, y in batches:
        loss = (line(x) - y).square().mean()
        if late:
            optimizer.step()
        if clears:
            optimizer.zero_grad()
        loss.backward()
        if not late:
            optimizer.step()
    return line, loss.item()


def exercise_4_2(answer: float) -> str:
    """give a learning rate that brings train_line(rate) below 0.01

    answer = 0.1             # ten times less does not arrive in sixty steps
    """
    need(0 < answer < math.inf, "a learning rate is a number above zero")
    with torch.random.fork_rng():  # the data of the chapter's train_line
        torch.manual_seed(0)
        _, xs = nn.Linear(3, 1), torch.randn(64, 3)
    _, loss = _trained([(xs, xs.sum(1, keepdim=True))] * 60, rate=answer, seed=0)
    slow = "at this rate sixty steps do not get there"
    fast = "this rate steps over the goal again and again"
    need(loss < 1e-2, f"the loss is {loss:.3g}: {slow if answer < 0.3 else fast}")
    return f"right: a loss of {loss:.1e} after sixty steps"


def exercise_4_3(answer: Callable[[nn.Module, list], list[float]]) -> str:
    """write answer(model, batches): the repaired loop, which returns the losses

    import torch

    def answer(model, batches):
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        losses = []
        for x, y in batches:
            loss = (model(x) - y).square().mean()
            optimizer.zero_grad()                      # was missing
            loss.backward()
            optimizer.step()                           # after the gradient is known
            losses.append(loss.item())
        return losses
    """
    batches = [(x, x.sum(1, keepdim=True)) for x in drawn(60, 8, 3)]
    mine, _ = _trained([])
    losses = answer(mine, batches)
    right, last = _trained(batches)
    each = hasattr(losses, "__len__") and len(losses) == len(batches)
    need(each, "return one loss for each batch")

    def like(other: nn.Linear) -> bool:
        return torch.allclose(mine.weight, other.weight, atol=1e-5)

    if like(right) and math.isclose(float(losses[-1]), last, rel_tol=1e-3):
        return "right: clear, backward, step, in this order"
    for how, hint in (
        ({"batches": []}, "the weights have not moved: does a step see this batch's gradient?"),
        ({"clears": False}, "the gradients of the batch before are still there"),
        (
            {"clears": False, "late": True},
            "nothing clears the gradients, and the step is too early",
        ),
        ({"late": True}, "one step late: the step must use this batch's gradient"),
    ):
        need(not like(_trained(**{"batches": batches} | how)[0]), hint)
    raise Wrong("it learns, but not as it should: AdamW at 1e-2, one step for each batch")


def exercise_4_4(answer: Callable[[Tensor, Tensor, float], Tensor]) -> str:
    """write answer(x_s, velocity, s) -> the clip that a flow's velocity implies

    def answer(x_s, velocity, s):
        return x_s - s * velocity                      # straight on, as far as is left
    """
    clean, noise = drawn(2, 2, 3)
    slips = {
        "that is the noise: walk the other way, towards s = 0": lambda x, v, s: x + (1 - s) * v,
        "a whole step is too far: from level s only s is left to go": lambda x, v, s: x - v,
    }
    cases = [((1 - s) * clean + s * noise, noise - clean, s) for s in (0.2, 0.9)]
    solve = "solve x_s = (1 - s) x0 + s noise together with velocity = noise - x0"
    return compare(
        "4.4", answer, cases, slips, solve,
        "right: x0 = x_s - s times the velocity, one straight step",
    )  # fmt: skip


def true_velocity(x: Tensor, s: Tensor, mean: float = 2.0, spread: float = 0.3) -> Tensor:
    """E[noise - x0 | x_s] for x0 from N(mean, spread²), as the chapter has it."""
    variance = (1 - s) ** 2 * spread**2 + s**2
    surprise = (x - (1 - s) * mean) / variance
    return s * surprise - (mean + (1 - s) * spread**2 * surprise)


def _euler_error(levels: Tensor) -> float:
    x = noise = drawn(500).double()
    for s, after in zip(levels[:-1], levels[1:], strict=True):
        x = x + (after - s) * true_velocity(x, s)
    return (x - (2.0 + 0.3 * noise)).abs().mean().item()


def exercise_4_5(answer: Callable[[int], list[float]]) -> str:
    """write answer(model_calls) -> noise levels that serve Euler better than even ones

    def answer(model_calls):
        even = [1 - i / model_calls for i in range(model_calls + 1)]
        return [s ** 1.5 for s in even]                # the path bends near the clip
    """
    gains = []
    for calls in (6, 12):
        levels = torch.as_tensor([float(s) for s in answer(calls)], dtype=torch.float64)
        need(len(levels) == calls + 1, f"{calls} calls need {calls + 1} levels, not {len(levels)}")
        ends = abs(levels[0] - 1) <= 1e-6 and abs(levels[-1]) <= 1e-6
        need(ends, "begin at 1, all noise, and end at 0, the clip")
        need((levels.diff() < 0).all(), "levels must fall from each to the next")
        even = _euler_error(torch.linspace(1, 0, calls + 1).double())
        mine = _euler_error(levels)
        need(
            mine < even * 0.999,
            f"{calls} calls miss by {mine:.3f}, evenly spaced ones by {even:.3f}: put more "
            "levels where the path bends, which is near one of the ends",
        )
        gains.append(even / mine)
    return f"right: {gains[0]:.1f} and {gains[1]:.1f} times nearer than evenly spaced levels"


def exercise_4_6(answer: Callable[[list[Tensor]], tuple[Tensor, Tensor]]) -> str:
    """write answer(clips) -> (batch padded with zeros, mask of real frames)

    import torch

    def answer(clips):
        longest = max(clip.shape[1] for clip in clips)
        batch = torch.zeros(len(clips), clips[0].shape[0], longest, *clips[0].shape[2:])
        mask = torch.zeros(len(clips), longest, dtype=torch.bool)
        for row, clip in enumerate(clips):
            batch[row, :, : clip.shape[1]] = clip
            mask[row, : clip.shape[1]] = True
        return batch, mask
    """
    clips = [torch.full((2, length, 3, 4), float(length)) for length in (5, 2, 4)]
    got = answer(clips)
    need(isinstance(got, tuple | list) and len(got) == 2, "return two tensors: batch and mask")
    need(hasattr(got[0], "shape"), "the batch is one tensor, not a list of them")
    batch, mask = map(torch.as_tensor, got)
    need(
        batch.shape == (3, 2, 5, 3, 4),
        f"the batch should be [3, 2, 5, 3, 4] for lengths 5, 2, 4; it is {[*batch.shape]}",
    )
    right = torch.arange(5) < torch.tensor([[5], [2], [4]])
    need(
        mask.shape == (3, 5),
        f"the mask says for each clip and frame whether it is real: [3, 5], not {[*mask.shape]}",
    )
    need(not torch.equal(mask.bool(), ~right), "inside out: True means a real frame")
    need(
        torch.equal(mask.bool(), right),
        "the mask is wrong: clip 1 has two real frames, then three of padding",
    )
    padded = right * torch.tensor([[5.0], [2.0], [4.0]])
    need(
        (batch == padded[:, None, :, None, None]).all(),
        "frames first, then zeros: look at what stands where in clip 1 and clip 2",
    )
    return "right: a loss must be masked with it, or the model learns to paint black"


def exercise_4_7(answer: Callable[[int, float], float]) -> str:
    """write answer(depth, scale) -> growth of the variance of a residual stream

    def answer(depth, scale):
        return (1 + scale ** 2) ** depth
    """
    slips = {
        "amplitudes add like that; variances of independent parts add as squares": (
            lambda depth, scale: (1 + scale) ** depth
        ),
        "each branch sees the stream as it is by then, so it multiplies block by block": (
            lambda depth, scale: 1 + depth * scale**2
        ),
    }
    what = "what does one branch do to the variance?"
    return compare(
        "4.7", answer, ((4, 1.0), (48, 48**-0.5), (10, 0.5)), slips, what,
        "right: with a scale of 1/sqrt(depth) it stays below e, however deep",
    )  # fmt: skip


def exercise_4_8(answer: Callable[[int, int], float]) -> str:
    """write answer(size, n) -> numbers that each process sends in a ring all-reduce

    def answer(size, n):
        return 2 * (n - 1) * (size / n)                # two rounds of n - 1 pieces
    """
    slips = {
        "that is the first half; finished pieces travel too": lambda size, n: (n - 1) * size / n,
        "in each round a process sends one piece, not all": lambda size, n: 2 * (n - 1) * size,
        "nearly: that is the limit for very many processes": lambda size, n: 2 * size,
    }
    return compare(
        "4.8", answer, ((240, 8), (240, 2), (1200, 4)), slips, "count rounds and pieces",
        "right: less than two gradients each, however many processes",
    )  # fmt: skip
