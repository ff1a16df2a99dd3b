"""Controlled comparisons: settings x seeds, measured. One seed proves nothing (erratum E63)."""

import hashlib
import json
import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vidgen_lab.files import replacing
from vidgen_lab.generation.generate import Generation, generate, versions
from vidgen_lab.generation.lora import active_adapters
from vidgen_lab.generation.request import GenerationRequest, validate_request
from vidgen_lab.video.clip import Clip

if TYPE_CHECKING:
    from diffusers import CogVideoXPipeline

# One subject, described in three registers: the prompts of book listing 1.L12. The toy world's
# vocabulary covers them, so that the embedded model and the judge can be asked, too.
PROMPT_STYLES = {
    "minimal": "a butterfly",
    "detailed": "a colorful butterfly landing on a flower, high quality",
    "artistic": "ethereal glowing butterfly in magical forest, cinematic lighting, fantasy style",
}


@dataclass(frozen=True)
class Experiment:
    """What was measured and what was made.

    table: one row per clip: setting, seed, seconds, peak_memory_gib, and the metrics.
    clips: by (setting, seed).
    """

    table: pd.DataFrame
    clips: Mapping[tuple[Any, int], Clip]


def experiment_prompt_styles(
    pipe: "CogVideoXPipeline",
    request: GenerationRequest,
    prompts: Mapping[str, str] = PROMPT_STYLES,
    seeds: Sequence[int] = range(5),
    **options: Any,
) -> Experiment:
    """How does the wording of one idea change the result? (book listing 1.L12)

    request: everything that stays fixed. prompts: name of the style -> prompt.
    options: metrics, cache, on_clip, as for `run_grid`.
    """
    settings = {name: request.with_(prompt=prompt) for name, prompt in prompts.items()}
    return run_grid(pipe, settings, seeds, **options)


def run_grid(
    pipe: "CogVideoXPipeline",
    settings: Mapping[Any, GenerationRequest],
    seeds: Sequence[int],
    metrics: Callable[[Clip, str], Mapping[str, float]] | None = None,
    cache: str | Path | None = None,
    on_clip: Callable[[int, int, Clip], None] | None = None,
) -> Experiment:
    """Generate and measure every setting with every seed.

    metrics: (clip, prompt) -> named numbers; default `clip_metrics`.
    cache: a folder in which finished clips are kept, so that a run that was stopped goes on
        where it was. An entry is found again only for the same request, model, LoRA files,
        precision, device and library versions; changed metrics are measured anew. A pipeline
        altered in memory looks the same from outside: give each its own folder.
    on_clip: called with (clips done, clips in all, clip).
    All requests are checked before the first clip is made.
    """
    metrics = metrics or clip_metrics
    jobs = [(name, req.with_(seed=seed)) for name, req in settings.items() for seed in seeds]
    for _, request in jobs:
        validate_request(request, pipe)
    rows, clips = [], {}
    for done, (name, request) in enumerate(jobs, start=1):
        generation = _cached(pipe, request, cache)
        row = {"setting": name, "seed": request.seed, "prompt": request.prompt}
        row |= {k: generation.recipe[k] for k in ("seconds", "peak_memory_gib")}
        rows.append(row | dict(metrics(generation.clip, request.prompt)))
        clips[name, request.seed] = generation.clip
        if on_clip:
            on_clip(done, len(jobs), generation.clip)
    return Experiment(pd.DataFrame(rows), clips)


def clip_metrics(clip: Clip, prompt: str) -> dict[str, float]:
    """Consistency, sharpness and motion as the book measures them, and what it lacks: optical
    flow (% of the width a second) and warping error (flicker, % of full scale)."""
    from vidgen_lab.metrics.basics import evaluate_video_basics

    basics = evaluate_video_basics(clip)
    names = ("consistency", "sharpness", "motion", "flow_speed", "warping_error")
    return {name: getattr(basics, name) for name in names}


def toy_metrics(clip: Clip, prompt: str) -> dict[str, float]:
    """`clip_metrics` and `adherence`: how sure the judge is of what the prompt names (0 to 1).

    NaN where the prompt names nothing of the toy world: that cannot be measured.
    """
    from vidgen_lab.metrics.adherence import prompt_adherence

    score = prompt_adherence(clip, prompt).score
    return clip_metrics(clip, prompt) | {"adherence": math.nan if score is None else score}


def _cached(
    pipe: "CogVideoXPipeline", request: GenerationRequest, folder: str | Path | None
) -> Generation:
    if folder is None:
        return generate(pipe, request)
    path = Path(folder) / f"{_key(pipe, request)}.npz"
    try:
        with np.load(path) as stored:
            recipe = json.loads(str(stored["recipe"]))
            return Generation(Clip(stored["frames"], request.fps), recipe)
    except FileNotFoundError:
        pass
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        path.unlink()  # a damaged entry is made again
    made = generate(pipe, request)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:  # frames without loss: an MP4 would change the measurements
        np.savez_compressed(part, frames=made.clip.frames, recipe=json.dumps(made.recipe))
    return made


def _key(pipe: "CogVideoXPipeline", request: GenerationRequest) -> str:
    loaded = getattr(pipe, "loaded", None)
    model = (loaded.name, loaded.revision) if loaded else pipe.config._name_or_path
    facts = [
        request.to_dict() | {"model": None},
        model,
        str(pipe.transformer.dtype),
        str(pipe._execution_device),
        type(pipe.scheduler).__name__,
        [(entry["sha256"], entry["scale"]) for entry in active_adapters(pipe)],
        {k: v for k, v in versions().items() if k != "python"},
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]
