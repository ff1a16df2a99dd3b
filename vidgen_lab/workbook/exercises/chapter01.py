"""Exercises of chapter 1: guidance, legal lengths, tokens, an honest metric, prompts and runs.

Each checker runs the reader's answer on a few cases and names the likely slip in a wrong one.
"""

from collections.abc import Callable
from functools import cache
from math import isfinite
from typing import Any

import numpy as np

from vidgen_lab.metrics.paradox import paradox_clips
from vidgen_lab.toyworld import parse_prompt
from vidgen_lab.toyworld.world import ATTRIBUTES
from vidgen_lab.video.clip import Clip
from vidgen_lab.workbook.exercises import Exercise, Wrong

FULL_PROMPT = "a red ball bouncing over the ocean"


@cache
def _toy() -> Any:
    from vidgen_lab.generation.loading import load_pipeline

    return load_pipeline("toy-cogvideox")


def _clip(prompt: str, **settings: Any) -> Clip:
    """A clip of the embedded model at its own size."""
    from vidgen_lab.generation.generate import generate
    from vidgen_lab.generation.request import GenerationRequest, ModelLimits

    pipe = _toy()
    frames, height, width = ModelLimits.from_pipe(pipe).native
    size = {"num_frames": frames, "height": height, "width": width}
    return generate(pipe, GenerationRequest(prompt, **size, **settings)).clip


def _check_ruin(answer: float) -> str:
    from vidgen_lab.metrics.adherence import prompt_adherence

    if isinstance(answer, bool) or not isinstance(answer, (int, float)):
        raise Wrong("hand in the scale, a number")
    if answer < 1:
        raise Wrong("scales below 1 ignore the prompt; here too much of it shall do the damage")
    clip = _clip(FULL_PROMPT, num_inference_steps=6, guidance_scale=float(answer), seed=42)
    seen = prompt_adherence(clip, FULL_PROMPT)
    if seen.all_right:
        raise Wrong(f"at {answer:g} the judge still sees {seen}; go further")
    return f"right: at {answer:g} the judge sees {seen}. Too much guidance is no guidance"


def _check_fewest(answer: int) -> str:
    from vidgen_lab.metrics.adherence import prompt_adherence

    if isinstance(answer, bool) or not isinstance(answer, int) or answer < 1:
        raise Wrong("hand in a whole number of steps, 1 or more")
    if answer > 12:
        raise Wrong(f"{answer} steps will do, but are they the fewest? Try half of them")
    for seed in (0, 1):
        clip = _clip(FULL_PROMPT, num_inference_steps=answer, seed=seed)
        seen = prompt_adherence(clip, FULL_PROMPT)
        if not seen.all_right:
            raise Wrong(f"with seed {seed} the judge sees {seen}: a few more steps")
    return f"right: {answer} steps are enough for every word of {FULL_PROMPT!r}"


def _count_tokens(num_frames: int, height: int, width: int) -> int:
    """Tokens in one attention of CogVideoX-2B: the text, and a 2x2 patch of latents each."""
    return 226 + ((num_frames - 1) // 4 + 1) * (height // 16) * (width // 16)


def _nearest_frames(wanted: int) -> int:
    """The legal frame count (8N+1, N >= 1) nearest to `wanted`; the smaller one of two."""
    below = max((wanted - 1) // 8, 1) * 8 + 1
    return below if wanted - below <= below + 8 - wanted else below + 8


def _check_frames(answer: Callable[[int], int]) -> str:
    for wanted in (49, 48, 47, 20, 22, 60, 13, 3):
        got, right = answer(wanted), _nearest_frames(wanted)
        if got == right:
            continue
        if isinstance(got, float):
            raise Wrong(
                f"f({wanted}) is {got!r}; a number of frames is a whole number: use // or round"
            )
        if got % 8 == 0:
            raise Wrong(
                f"f({wanted}) is {got}, a multiple of 8; the first frame stands alone, so add 1"
            )
        if got % 8 != 1:
            raise Wrong(
                f"f({wanted}) is {got}, which is not 8N+1: 4N+1 suits the encoder, not the decoder"
            )
        if got < 9:
            raise Wrong(f"f({wanted}) is {got}; a clip has at least 9 frames")
        side = "above" if got < right else "below"
        raise Wrong(f"f({wanted}) is {got}, but {right} is nearer: look {side} as well")
    return "right: every length finds its nearest legal neighbour"


def _check_tokens(answer: Callable[[int, int, int], int]) -> str:
    for size in ((49, 480, 720), (9, 480, 720), (49, 240, 352)):
        got, right = answer(*size), _count_tokens(*size)
        if got == right:
            continue
        frames, height, width = size
        slips = {
            right - 226: "the text is missing; its 226 tokens sit in the same row",
            226 + ((frames - 1) // 4 + 1) * (height // 8) * (width // 8): (
                "the transformer joins 2x2 latents into one patch"
            ),
            226 + frames * (height // 16) * (width // 16): (
                "time is compressed too: four frames share a latent frame, the first has its own"
            ),
            226 + (frames // 4) * (height // 16) * (width // 16): (
                "the first frame has a latent frame of its own: (T - 1) // 4 + 1"
            ),
        }
        hint = slips.get(
            got, "count: latent frames, times patches down, times patches across, plus text"
        )
        raise Wrong(f"tokens{size} is {right - got:+,} off: {hint}")
    return f"right: a 49-frame clip makes {_count_tokens(49, 480, 720):,} tokens look at each other"


def _check_guidance(answer: Callable[[np.ndarray, np.ndarray, float], np.ndarray]) -> str:
    rng = np.random.default_rng(1)
    negative, positive = rng.standard_normal((2, 3, 4))
    for scale in (1.0, 6.0, 0.0):
        got = np.asarray(answer(negative, positive, scale))
        right = negative + scale * (positive - negative)
        if got.shape == right.shape and np.allclose(got, right):
            continue
        if np.allclose(got, positive + scale * (negative - positive)):
            raise Wrong(
                "the roles are swapped: start at the negative prediction, walk to the positive"
            )
        if np.allclose(got, positive + scale * (positive - negative)):
            raise Wrong(
                "at scale 1 the result should be the positive prediction itself; start lower"
            )
        if np.allclose(got, scale * positive):
            raise Wrong("the negative prediction is not used: a negative prompt would do nothing")
        raise Wrong(
            f"wrong at scale {scale:g}; draw the two predictions as points and the step as an arrow"
        )
    return "right: 1 gives the plain prediction, larger numbers lean away from the negative"


def _check_honest(answer: Callable[[Clip], float]) -> str:
    for seed in (0, 3):
        clips = paradox_clips(seed)
        scores = {name: float(answer(clip)) for name, clip in clips.items()}
        broken = [name for name, score in scores.items() if not isfinite(score)]
        if broken:
            raise Wrong(f"the score of the {broken[0]} clip is not a number")
        beaten = [name for name in scores if scores[name] >= scores["moving"] and name != "moving"]
        if not beaten:
            continue
        advice = {
            "frozen": "a frozen clip should not win: reward motion, not sameness",
            "flickering": "brightness that comes and goes is no motion: ask what the flow explains",
            "teleporting": "the ball jumps about: subtract what changes without moving there",
        }
        listed = ", ".join(f"{name} {score:.3g}" for name, score in scores.items())
        raise Wrong(f"{listed}: {advice[beaten[0]]}")
    return "right: the moving clip wins against all three impostors"


def _check_prompt(answer: str) -> str:
    if not isinstance(answer, str):
        raise Wrong("the answer is a sentence, in quotes")
    named = parse_prompt(answer)
    if not named:
        raise Wrong(
            "nothing here belongs to the toy world; begin with a subject such as 'a rocket'"
        )
    missing = [name for name in ATTRIBUTES if name not in named]
    if missing == ["colour"] and named.get("style") == "vintage":
        raise Wrong("black-and-white film shows no colour; choose another style")
    if missing:
        example = ATTRIBUTES[missing[0]][0].replace("_", " ")
        raise Wrong(f"no {missing[0]} yet (for example {example}); found so far: {named}")
    return f"right, it is read as {named}"


EXERCISES = (
    Exercise(
        "1.1",
        "write guide(negative, positive, scale) -> the prediction that guidance uses",
        _check_guidance,
        """
def answer(negative, positive, scale):
    return negative + scale * (positive - negative)
""",
    ),
    Exercise(
        "1.2",
        "find a guidance scale that ruins the clip",
        _check_ruin,
        """
answer = 80.0  # the guided prediction leaves everything the model has ever seen
""",
    ),
    Exercise(
        "1.3",
        "write f(wanted) -> the nearest legal number of frames, 8N+1 with N >= 1",
        _check_frames,
        """
def answer(wanted):
    below = max((wanted - 1) // 8, 1) * 8 + 1
    above = below + 8
    return below if wanted - below <= above - wanted else above
""",
    ),
    Exercise(
        "1.4",
        "write tokens(num_frames, height, width) -> tokens in one attention of CogVideoX-2B",
        _check_tokens,
        """
def answer(num_frames, height, width):
    latent_frames = (num_frames - 1) // 4 + 1      # the first frame alone, then fours
    patches = (height // 16) * (width // 16)       # 8 from the VAE, 2 from the patches
    return 226 + latent_frames * patches           # 226 text tokens in the same row
""",
    ),
    Exercise(
        "1.5",
        "write score(clip) -> a number that is highest for the clip that really moves",
        _check_honest,
        """
from vidgen_lab.metrics.flow import analyse_flow

def answer(clip):
    flow = analyse_flow(clip)
    honest = flow.speed.mean()                     # motion that the flow explains
    suspicious = 100 * flow.unexplained.mean() + 10 * flow.error.mean()
    return honest - suspicious
""",
    ),
    Exercise(
        "1.6",
        "write a prompt that names subject, colour, motion, background and style",
        _check_prompt,
        """
answer = "a purple rocket taking off in the desert, glowing neon style"
""",
    ),
    Exercise(
        "1.7",
        "find the fewest steps at which every word of a full prompt is recognised",
        _check_fewest,
        """
answer = 8
""",
    ),
)
