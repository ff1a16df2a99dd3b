"""Exercises of chapter 5: merging, targets, rank, ZeRO, the scale of a file, a learning rate.

Three of them change a run: other layers, another rank, another rate; their checkers do it.
"""

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from vidgen_lab.workbook.exercises import Exercise, Wrong

Run = Callable[[float], float]


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _check_merge(answer: Callable[..., Tensor]) -> str:
    W, A, B = _random(6, 5, seed=1), _random(2, 5, seed=2), _random(6, 2, seed=3)
    for alpha, strength in ((2.0, 1.0), (8.0, 1.0), (3.0, 0.25), (4.0, 0.0)):
        got, right = answer(W, A, B, alpha, strength), W + strength * alpha / 2 * B @ A
        if not isinstance(got, Tensor) or got.shape != W.shape:
            raise Wrong(f"a tensor of shape {tuple(W.shape)} is wanted: [out, in], as W")
        if torch.allclose(got, right, atol=1e-5):
            continue
        if torch.allclose(got, W + strength * alpha * B @ A, atol=1e-5):
            raise Wrong("alpha is divided by the rank, which is how many rows A has")
        if torch.allclose(got, W + alpha / 2 * B @ A, atol=1e-5):
            raise Wrong("the strength is missing: at 0 the layer must be W again")
        if torch.allclose(got, strength * alpha / 2 * B @ A, atol=1e-5):
            raise Wrong("that is the change alone; add it to W")
        raise Wrong(f"wrong at alpha {alpha:g}, strength {strength:g}: W + strength alpha / r B A")
    return "right: one matrix, as fast as before, and at strength 0 the old one"


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


def _check_targets(answer: Sequence[str]) -> str:
    if isinstance(answer, str) or not all(isinstance(pair, str) for pair in answer):
        raise Wrong('a list of settings is wanted, such as ["lora.rank=8"]')
    limit, _, _ = _trained(("lora.rank=16",))
    trained, layers, rank = _trained(tuple(answer))
    if layers != {"ff.net.0.proj", "ff.net.2"}:
        raise Wrong(
            f"this adapts {', '.join(sorted(layers))}; the two layers of the feed-forward are "
            "called net.0.proj and net.2: lora.targets=[...]"
        )
    if trained >= limit:
        raise Wrong(f"rank {rank} trains {trained:,} parameters, not fewer than {limit:,}")
    more, _, _ = _trained((*answer, f"lora.rank={rank + 1}"))
    if more < limit:
        raise Wrong(f"rank {rank + 1} would still do: {more:,} of {limit:,} parameters")
    return f"right: rank {rank}, {trained:,} parameters; wide layers pay more for each rank"


def _check_smallest(answer: Callable[[Callable[[Tensor, int], float], Tensor], int]) -> str:
    trials: list[int] = []

    def learn(change: Tensor, rank: int) -> float:
        """What a LoRA of this rank misses when it has learned all it can."""
        trials.append(rank)
        strengths = torch.linalg.svdvals(change)
        return float((strengths[rank:].square().sum() / strengths.square().sum()).sqrt())

    worst = 0
    for true in (1, 3, 11, 16):
        trials.clear()
        change = _random(32, true, seed=true) @ _random(true, 24, seed=9)
        got = answer(learn, change)
        right = next(r for r in range(1, 25) if learn(change, r) < 0.05)
        used = len(trials) - right
        if got != right:
            side = "still misses 5 % or more" if got < right else "is more than is needed"
            raise Wrong(f"rank {got} {side}; the smallest that does is {right}")
        worst = max(worst, used)
    if worst > 24:
        raise Wrong(f"{worst} trials for 24 ranks: none has to be tried twice")
    clever = "; halving the range needs only five" if worst > 8 else ", by halving the range"
    return f"right, with at most {worst} trials{clever}"


def _check_zero(answer: Callable[[float, int], float]) -> str:
    for parameters, gpus in ((1.694e9, 1), (1.694e9, 8), (5.57e9, 4)):
        got, right = answer(parameters, gpus), parameters * (2 + 14 / gpus)
        if abs(got - right) < 1e-6 * right:
            continue
        slips = {
            16 * parameters / gpus: "stage 2 leaves the weights whole on every GPU",
            parameters * (4 + 12 / gpus): "stage 2 shares the gradients as well",
            16 * parameters: "nothing is shared yet: divide what stage 2 cuts by the GPUs",
        }
        near = (hint for value, hint in slips.items() if abs(got - value) < 1e-6 * value)
        hint = next(near, "2 of weight, 2 of gradient, 12 of optimizer; stage 2 cuts 14")
        raise Wrong(f"{parameters:.3g} parameters on {gpus}: {got:.4g}, but {hint}")
    return "right: 2 + 14/N bytes a parameter, so it never falls below 2"


def _check_scale(answer: Callable[[int, float, bool], float]) -> str:
    for rank, alpha, says in ((128, 64, False), (128, 64, True), (16, 32, False), (8, 8, False)):
        got, right = answer(rank, alpha, says), 1.0 if says else alpha / rank
        if abs(got - right) < 1e-9:
            continue
        if says:
            raise Wrong("a file that says its alpha is read at its strength: ask for 1")
        if abs(got - rank / alpha) < 1e-9:
            raise Wrong("upside down: without alpha it comes back too strong when alpha < rank")
        raise Wrong(f"rank {rank}, trained at alpha {alpha}: the loader takes 1 instead of what?")
    return "right: alpha / rank, as for every file of CogVideo's own trainer, 64 / 128"


def _small_run(rate: float) -> float:
    """Last loss over first of a rank-4 LoRA that learns a change of rank 4, forty steps of Adam."""
    change = _random(24, 4, seed=1) @ _random(4, 16, seed=2) / 4
    A = (_random(4, 16, seed=3) / 4).requires_grad_()
    B = torch.zeros(24, 4, requires_grad=True)
    optimizer = torch.optim.Adam([A, B], rate)
    x = _random(128, 16, seed=4)
    losses = []
    for _ in range(40):
        loss = (x @ (B @ A - change).T).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses[-1] / losses[0]


def _check_rate(answer: Callable[[Run], float]) -> str:
    tried: list[float] = []

    def run(rate: float) -> float:
        if not 0 < rate < 1e3:
            raise Wrong(f"a learning rate is a positive number, not {rate}")
        tried.append(rate)
        return _small_run(rate)

    rate = answer(run)
    if not isinstance(rate, float | int):
        raise Wrong(f"a rate is wanted, not a {type(rate).__name__}")
    if len(tried) > 8:
        raise Wrong(f"{len(tried)} runs; eight are enough when each rate is a multiple of the last")
    left = _small_run(rate)
    if left >= 0.05:
        why = "it has hardly begun" if _small_run(rate * 2) < left else "it overshoots"
        raise Wrong(f"at a rate of {rate:g}, {left:.0%} of the loss is left: {why}")
    return f"right: {left:.1%} left at {rate:g}, after {len(tried)} runs"


EXERCISES = (
    Exercise(
        "5.1",
        "write merge(W, A, B, alpha, strength) -> the weight that does what layer and LoRA do",
        _check_merge,
        """
def answer(W, A, B, alpha, strength):
    return W + strength * alpha / A.shape[0] * B @ A
""",
    ),
    Exercise(
        "5.2",
        "give settings for a LoRA on the feed-forward layers, smaller than rank 16 on attention",
        _check_targets,
        """
from vidgen_lab.workbook.exercises.chapter05 import _trained

targets = "lora.targets=[net.0.proj,net.2]"
limit = _trained(("lora.rank=16",))[0]
fitting = [r for r in range(1, 33) if _trained((targets, f"lora.rank={r}"))[0] < limit]
answer = [targets, f"lora.rank={max(fitting)}"]
""",
    ),
    Exercise(
        "5.3",
        "write smallest(learn, change) -> the smallest rank that misses less than 5 %",
        _check_smallest,
        """
def answer(learn, change):
    low, high = 1, min(change.shape)
    while low < high:
        middle = (low + high) // 2
        if learn(change, middle) < 0.05:
            high = middle
        else:
            low = middle + 1
    return low
""",
    ),
    Exercise(
        "5.4",
        "write per_gpu(parameters, gpus) -> bytes on each GPU in ZeRO stage 2",
        _check_zero,
        """
def answer(parameters, gpus):
    return parameters * 2 + parameters * (2 + 12) / gpus
""",
    ),
    Exercise(
        "5.5",
        "write scale(file_rank, trained_alpha, says_alpha) -> the scale to ask for",
        _check_scale,
        """
def answer(file_rank, trained_alpha, says_alpha):
    return 1.0 if says_alpha else trained_alpha / file_rank
""",
    ),
    Exercise(
        "5.6",
        "write best(run) -> a rate with which less than 5 % of the loss is left, in 8 runs at most",
        _check_rate,
        """
def answer(run):
    rates = [0.001 * 3**n for n in range(7)]
    return min(rates, key=run)
""",
    ),
)
