"""Exercises of chapter 1: guidance, legal lengths, tokens, an honest metric, prompts and runs."""

from collections.abc import Callable
from functools import cache
from math import isnan
from typing import Any

import numpy as np

from vidgen_lab.toyworld import Scene, parse_prompt, render
from vidgen_lab.toyworld.world import ATTRIBUTES
from vidgen_lab.video.clip import Clip
from vidgen_lab.workbook.exercises import Wrong, compare, need, solved

FULL_PROMPT = "a red ball bouncing over the ocean"


@cache
def _toy() -> Any:
    from vidgen_lab.generation.loading import load_pipeline

    return load_pipeline("toy-cogvideox")


@cache  # an answer that is checked again is told at once
def _seen(**settings: Any) -> Any:
    """What the judge sees of FULL_PROMPT in a clip of the embedded model at its own size."""
    from vidgen_lab.generation.generate import generate
    from vidgen_lab.generation.request import GenerationRequest, ModelLimits
    from vidgen_lab.metrics.adherence import prompt_adherence

    frames, height, width = ModelLimits.from_pipe(_toy()).native
    size = {"num_frames": frames, "height": height, "width": width}
    clip = generate(_toy(), GenerationRequest(FULL_PROMPT, **size, **settings)).clip
    return prompt_adherence(clip, FULL_PROMPT)


def _paradox(seed: int) -> dict[str, Clip]:
    """The four clips of the chapter: one that moves, and three that only look like it."""
    moving = render(Scene("ball", "red", "left", "meadow", seed=seed)).clip
    frames = {name: moving.frames.copy() for name in ("moving", "frozen", "flickering")}
    frames["frozen"][:] = frames["flickering"][:] = moving.frames[0]
    frames["flickering"][1::2] = np.minimum(moving.frames[0], 225) + 30
    frames["teleporting"] = np.random.default_rng(seed).permutation(moving.frames)
    return {name: Clip(some, moving.fps) for name, some in frames.items()}


def exercise_1_1(answer: Callable[[np.ndarray, np.ndarray, float], np.ndarray]) -> str:
    """write guide(negative, positive, scale) -> the prediction that guidance uses

    def answer(negative, positive, scale):
        return negative + scale * (positive - negative)
    """
    negative, positive = np.random.default_rng(1).standard_normal((2, 3, 4))
    cases = [(negative, positive, scale) for scale in (1.0, 6.0, 0.0)]
    slips = {
        "the roles are swapped: start at the negative prediction, walk to the positive": (
            lambda n, p, scale: p + scale * (n - p)
        ),
        "at scale 1 the result should be the positive prediction itself; start lower": (
            lambda n, p, scale: p + scale * (p - n)
        ),
        "the negative prediction is not used: its prompt would do nothing": lambda n, p, s: s * p,
    }
    return compare(
        "1.1", answer, cases, slips, "draw both predictions as points, the step as an arrow",
        "right: 1 gives the plain prediction, larger numbers lean away from the negative",
    )  # fmt: skip


def exercise_1_2(answer: float) -> str:
    """find a guidance scale that ruins the clip

    answer = 80.0  # the guided prediction leaves everything the model has ever seen
    """
    need(answer >= 1, "scales below 1 ignore the prompt; here too much of it shall do the damage")
    seen = _seen(num_inference_steps=6, guidance_scale=float(answer), seed=42)
    need(not seen.all_right, f"at {answer:g} the judge still sees {seen}; go further")
    return f"right: at {answer:g} the judge sees {seen}. Too much guidance is no guidance"


def exercise_1_3(answer: Callable[[int], int]) -> str:
    """write f(wanted) -> the nearest legal number of frames, 8N+1 with N >= 1

    def answer(wanted):
        below = max((wanted - 1) // 8, 1) * 8 + 1
        above = below + 8
        return below if wanted - below <= above - wanted else above
    """
    nearest = solved("1.3")
    for wanted in (49, 48, 47, 20, 22, 60, 12, 3):
        got, right = answer(wanted), nearest(wanted)
        rounds = isinstance(got, int) or got == right
        for is_slip, hint in (
            (not rounds, "a number of frames is a whole number: use // or round"),
            (got % 8 == 0, "a multiple of 8; the first frame stands alone, so add 1"),
            (got % 8 != 1, "which is not 8N+1: 4N+1 suits the encoder, not the decoder"),
            (got < 9, "a clip has at least 9 frames"),
            (got < right, f"but {right} is nearer: look above as well"),
            (got > right, f"but {right} is nearer: look below as well"),
        ):
            need(not is_slip, f"f({wanted}) is {got!r}, {hint}")
    return "right: every length finds its nearest legal neighbour"


def exercise_1_4(answer: Callable[[int, int, int], int]) -> str:
    """write tokens(num_frames, height, width) -> tokens in one attention of CogVideoX-2B

    def answer(num_frames, height, width):
        latent_frames = (num_frames - 1) // 4 + 1      # the first frame alone, then fours
        patches = (height // 16) * (width // 16)       # 8 from the VAE, 2 from the patches
        return 226 + latent_frames * patches           # 226 text tokens in the same row
    """
    tokens = solved("1.4")
    slips = {
        "the text is missing: its 226 tokens sit in the same row": lambda *to: tokens(*to) - 226,
        "the transformer joins 2x2 latents into one patch": (
            lambda t, h, w: 226 + ((t - 1) // 4 + 1) * (h // 8) * (w // 8)
        ),
        "time is compressed too: four frames share a latent frame, the first has its own": (
            lambda t, h, w: 226 + t * (h // 16) * (w // 16)
        ),
        "the first frame has a latent frame of its own: (T - 1) // 4 + 1": (
            lambda t, h, w: 226 + (t // 4) * (h // 16) * (w // 16)
        ),
    }
    count = "count: latent frames, times patches down, times patches across, plus text"
    return compare(
        "1.4", answer, ((49, 480, 720), (9, 480, 720), (49, 240, 352)), slips, count,
        f"right: a 49-frame clip makes {tokens(49, 480, 720):,} tokens look at each other",
    )  # fmt: skip


def exercise_1_5(answer: Callable[[Clip], float]) -> str:
    """write score(clip) -> a number that is highest for the clip that really moves

    from vidgen_lab.metrics.flow import analyse_flow

    def answer(clip):
        flow = analyse_flow(clip)
        honest = flow.speed.mean()                     # motion that the flow explains
        suspicious = 100 * flow.unexplained.mean() + 10 * flow.error.mean()
        return honest - suspicious
    """
    advice = {
        "frozen": "a frozen clip should not win: reward motion, not sameness",
        "flickering": "brightness that comes and goes is no motion: ask what the flow explains",
        "teleporting": "the ball jumps about: subtract what changes without moving there",
    }
    for seed in (0, 3):
        scores = {name: answer(clip) for name, clip in _paradox(seed).items()}
        for name, score in scores.items():
            need(not isnan(score), f"the score of the {name} clip is not a number")
        listed = ", ".join(f"{name} {score:.3g}" for name, score in scores.items())
        for name, hint in advice.items():
            need(scores[name] < scores["moving"], f"{listed}: {hint}")
    return "right: the moving clip wins against all three impostors"


def exercise_1_6(answer: str) -> str:
    """write a prompt that names subject, colour, motion, background and style

    answer = "a purple rocket taking off in the desert, glowing neon style"
    """
    need(isinstance(answer, str), "the answer is a sentence, in quotes")
    named = parse_prompt(answer)
    need(named, "no subject of the toy world yet; begin with one, such as 'a rocket'")
    missing = [name for name in ATTRIBUTES if name not in named]
    colourless = missing == ["colour"] and named.get("style") == "vintage"
    need(not colourless, "black-and-white film shows no colour; choose another style")
    if missing:
        example = ATTRIBUTES[missing[0]][0].replace("_", " ")
        raise Wrong(f"no {missing[0]} yet (for example {example}); found so far: {named}")
    return f"right, it is read as {named}"


def exercise_1_7(answer: int) -> str:
    """find the fewest steps at which "a red ball bouncing over the ocean" is seen, word by word

    answer = 2
    """
    need(answer >= 1 and answer % 1 == 0, "hand in a whole number of steps, 1 or more")
    need(answer <= 12, f"{answer} steps will do, but are they the fewest? Try half of them")
    for seed in (0, 1, 2):
        seen = _seen(num_inference_steps=int(answer), seed=seed)
        need(seen.all_right, f"with seed {seed} the judge sees {seen}: a few more steps")
    fewer = (_seen(num_inference_steps=int(answer) - 1, seed=s).all_right for s in (0, 1, 2))
    need(answer == 1 or not all(fewer), "one step less will do as well")
    return f"right: {answer} steps are enough for every word of {FULL_PROMPT!r}"
