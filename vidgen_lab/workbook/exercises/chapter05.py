"""Exercises of chapter 5: merging, targets, rank, ZeRO, the scale of a file, a learning rate.

Three of them change a run: other layers, another rank, another rate; their checkers do it.
"""

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from vidgen_lab.workbook.exercises import compare, drawn, need

Run = Callable[[float], float]


def exercise_5_1(answer: Callable[..., Tensor]) -> str:
    """write merge(W, A, B, alpha, strength) -> the weight that does what layer and LoRA do

    def answer(W, A, B, alpha, strength):
        return W + strength * alpha / A.shape[0] * B @ A
    """
    slips = {
        "alpha is divided by the rank, which is how many rows A has": (
            lambda W, A, B, alpha, strength: W + strength * alpha * B @ A
        ),
        "the strength is missing: 0 gives W": lambda W, A, B, alpha, s: W + alpha / 2 * B @ A,
        "that is the change alone; add it to W": lambda W, A, B, alpha, s: s * alpha / 2 * B @ A,
        "turned over: [out, in] is wanted, as W has it": (
            lambda W, A, B, alpha, strength: (W + strength * alpha / 2 * B @ A).T
        ),
    }
    parts = drawn(6, 5, seed=1), drawn(2, 5, seed=2), drawn(6, 2, seed=3)
    cases = [(*parts, *how) for how in ((2.0, 1.0), (8.0, 1.0), (3.0, 0.25), (4.0, 0.0))]
    return compare(
        "5.1", answer, cases, slips, "W + strength alpha / r B A",
        "right: one matrix, as fast as before, and at strength 0 the old one",
    )  # fmt: skip


@cache
def _trained(overrides: tuple[str, ...]) -> tuple[int, frozenset[str], int]:
    """(trained parameters, names of the adapted layers, rank) of a toy LoRA."""
    from diffusers import CogVideoXTransformer3DModel

    from vidgen_lab.finetuning.config import load_config
    from vidgen_lab.finetuning.lora import apply_lora_to_model
    from vidgen_lab.paths import model_dir

    config = load_config("toy-lora", ["data.folder=CLIPS", *overrides])
    shape = CogVideoXTransformer3DModel.load_config(model_dir("toy-cogvideox") / "transformer")
    with torch.device("meta"):
        model = CogVideoXTransformer3DModel.from_config(shape)
        count = apply_lora_to_model(model, config.lora)
    names = (n for n, _ in model.named_modules() if n.endswith(".lora_A"))
    layers = frozenset(n.removesuffix(".lora_A").split(".", 2)[2] for n in names)
    return count.trained, layers, config.lora.rank


ATTENTION = "lora.targets=[to_q,to_k,to_v,to_out.0]"


def exercise_5_2(answer: Sequence[str]) -> str:
    """give settings for a LoRA on the feed-forward layers, smaller than rank 16 on attention

    from vidgen_lab.workbook.exercises.chapter05 import ATTENTION, _trained

    targets = "lora.targets=[net.0.proj,net.2]"
    limit = _trained((ATTENTION, "lora.rank=16"))[0]
    fitting = [r for r in range(1, 33) if _trained((targets, f"lora.rank={r}"))[0] < limit]
    answer = [targets, f"lora.rank={max(fitting)}"]
    """
    listed = isinstance(answer, list | tuple) and all(isinstance(pair, str) for pair in answer)
    need(listed, 'a list of settings is wanted, such as ["lora.rank=8"]')
    limit, _, _ = _trained((ATTENTION, "lora.rank=16"))
    trained, layers, rank = _trained(tuple(answer))
    need(
        layers == {"ff.net.0.proj", "ff.net.2"},
        f"this adapts {', '.join(sorted(layers))}; the two layers of the feed-forward are "
        "called net.0.proj and net.2: lora.targets=[...]",
    )
    need(trained < limit, f"rank {rank} trains {trained:,} parameters, not fewer than {limit:,}")
    more, _, _ = _trained((*answer, f"lora.rank={rank + 1}"))
    need(more >= limit, f"rank {rank + 1} would still do: {more:,} of {limit:,} parameters")
    return f"right: rank {rank}, {trained:,} parameters; wide layers pay more for each rank"


def exercise_5_3(answer: Callable[[Callable[[Tensor, int], float], Tensor], int]) -> str:
    """write smallest(learn, change) -> the smallest rank that misses less than 5 %

    def answer(learn, change):
        low, high = 1, min(change.shape)
        while low < high:
            middle = (low + high) // 2
            if learn(change, middle) < 0.05:
                high = middle
            else:
                low = middle + 1
        return low
    """
    trials: list[int] = []

    def learn(change: Tensor, rank: int) -> float:
        """What a LoRA of this rank misses when it has learned all it can."""
        trials.append(rank)
        strengths = torch.linalg.svdvals(change)
        return float((strengths[rank:].square().sum() / strengths.square().sum()).sqrt())

    worst = 0
    for true in (1, 3, 11, 16):
        trials.clear()
        change = drawn(32, true, seed=true) @ drawn(true, 24, seed=9)
        got = answer(learn, change)
        right = next(r for r in range(1, 25) if learn(change, r) < 0.05)
        side = "still misses 5 % or more" if got < right else "is more than is needed"
        need(got == right, f"rank {got} {side}; the smallest that does is {right}")
        worst = max(worst, len(trials) - right)  # without ours
    need(worst <= 24, f"{worst} trials for 24 ranks: none has to be tried twice")
    clever = "; halving the range needs only five" if worst > 8 else ", by halving the range"
    return f"right, with at most {worst} trials{clever}"


def exercise_5_4(answer: Callable[[float, int], float]) -> str:
    """write per_gpu(parameters, gpus) -> bytes on each GPU in ZeRO stage 2

    def answer(parameters, gpus):
        return parameters * 2 + parameters * (2 + 12) / gpus
    """
    slips = {
        "stage 2 leaves the weights whole on every GPU": lambda n, gpus: 16 * n / gpus,
        "stage 2 shares the gradients as well": lambda n, gpus: n * (4 + 12 / gpus),
        "nothing is shared yet: divide what stage 2 cuts by the GPUs": lambda n, gpus: 16 * n,
    }
    cases = ((1.694e9, 1), (1.694e9, 8), (5.57e9, 4))
    return compare(
        "5.4", answer, cases, slips, "weight 2, gradient 2, optimizer 12; stage 2 cuts 14",
        "right: 2 + 14/N bytes a parameter, so it never falls below 2",
    )  # fmt: skip


def exercise_5_5(answer: Callable[[int, float, bool], float]) -> str:
    """write scale(file_rank, trained_alpha, says_alpha) -> the scale to ask for

    def answer(file_rank, trained_alpha, says_alpha):
        return 1.0 if says_alpha else trained_alpha / file_rank
    """
    slips = {
        "a file that says alpha is read at its strength: ask for 1": lambda r, alpha, _: alpha / r,
        "upside down: it comes back too strong when alpha < rank": lambda r, alpha, _: r / alpha,
    }
    cases = ((128, 64, False), (128, 64, True), (16, 32, False), (8, 8, False))
    return compare(
        "5.5", answer, cases, slips, "the loader takes 1 instead of what?",
        "right: alpha / rank, as for every file of CogVideo's own trainer, 64 / 128",
    )  # fmt: skip


def _small_run(rate: float) -> float:
    """Last loss over first of a rank-4 LoRA that learns a change of rank 4, forty steps of Adam."""
    change = drawn(24, 4, seed=1) @ drawn(4, 16, seed=2) / 4
    A = (drawn(4, 16, seed=3) / 4).requires_grad_()
    B = torch.zeros(24, 4, requires_grad=True)
    optimizer = torch.optim.Adam([A, B], rate)
    x = drawn(128, 16, seed=4)
    losses = []
    for _ in range(40):
        loss = (x @ (B @ A - change).T).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses[-1] / losses[0]


def exercise_5_6(answer: Callable[[Run], float]) -> str:
    """write best(run) -> a rate with which less than 5 % of the loss is left, in 8 runs at most

    def answer(run):
        rates = [0.001 * 3**n for n in range(7)]
        return min(rates, key=run)
    """
    tried: list[float] = []

    def run(rate: float) -> float:
        need(0 < rate < 1e3, f"a learning rate is a positive number, not {rate}")
        tried.append(rate)
        return _small_run(float(rate))

    rate = answer(run)
    runs = len(tried)
    need(runs <= 8, f"{runs} runs; eight are enough when each rate is a multiple of the last")
    left = run(rate)
    why = "it has hardly begun" if _small_run(rate * 2) < left else "it overshoots"
    need(left < 0.05, f"at a rate of {rate:g}, {left:.0%} of the loss is left: {why}")
    return f"right: {left:.1%} left at {rate:g}, after {runs} runs"
