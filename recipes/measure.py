"""What the embedded models can do, measured: adherence, VAE quality, bodies in pixels, seconds.

The model cards are written from these numbers, so a card cannot claim what was not measured.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from diffusers import CogVideoXPipeline, DiffusionPipeline, LattePipeline
from torch import nn

from recipes.latte import sample_corner
from recipes.pixels import check_body, checkable_scenes
from recipes.scenes import render_clips, sample_scenes
from recipes.vae import vae_quality
from recipes.vae_layers import fastest
from vidgen_lab.generation.generate import generate
from vidgen_lab.generation.request import GenerationRequest, ModelLimits
from vidgen_lab.latte import DDIMSampler, NoiseScheduler, VideoGenerator
from vidgen_lab.metrics.adherence import adherence_of
from vidgen_lab.metrics.judge import ToyJudge, load_judge
from vidgen_lab.progress import Progress
from vidgen_lab.toyworld import ATTRIBUTES, Scene, caption, is_held_out
from vidgen_lab.toyworld.language import REGISTERS
from vidgen_lab.video.clip import Clip

LATTE_STEPS, LATTE_GUIDANCE = 25, 4.0
LIKELY = "a red ball bouncing over the ocean"


def held_out_prompts(count: int = 200, unseen: int = 50) -> tuple[list[str], list[Scene]]:
    """Fresh prompts with every visible attribute, and scenes; `unseen` are never trained on."""
    scenes = sample_scenes(count - unseen, 1234, held_out=False)
    scenes += sample_scenes(unseen, 1235, held_out=True)
    rng = np.random.default_rng(1236)
    return [caption(s, REGISTERS[i % 3], rng) for i, s in enumerate(scenes)], scenes


def sample_clips(
    pipe: CogVideoXPipeline, prompts: Sequence[str], seeds: Sequence[int], **settings: Any
) -> list[Clip]:
    """A clip for each prompt and seed as `generate` makes it, with the request's default steps and
    guidance unless `settings` say otherwise; in bfloat16 where that is faster, which changes a
    pixel by half a grey level."""
    frames, height, width = ModelLimits.from_pipe(pipe).native
    settings = {"num_frames": frames, "height": height, "width": width} | settings
    asked = [GenerationRequest(p, seed=s, **settings) for p, s in zip(prompts, seeds, strict=True)]
    with fastest(pipe.device):
        return [generate(pipe, request).clip for request in Progress(asked, "sampling", "clip")]


def adherence_table(
    prompts: list[str], scenes: list[Scene], clips: list[Clip], judge: ToyJudge | None = None
) -> pd.DataFrame:
    """One row per clip: prompt, what was named and seen per attribute, whether all is right."""
    rows = []
    for scene, found in zip(scenes, adherence_of(clips, prompts, judge), strict=True):
        row = {"prompt": found.prompt, "unseen": is_held_out(scene), "all_right": found.all_right}
        for name in ATTRIBUTES:
            answers = {"": found.named, "_seen": found.seen, "_right": found.right}
            row |= {f"{name}{end}": said.get(name) for end, said in answers.items()}
        rows.append(row)
    return pd.DataFrame(rows)


def summarise_adherence(table: pd.DataFrame) -> dict[str, float]:
    """Shares of right attributes over all prompts, and of all-right over all and over unseen
    compositions."""
    shares = {n: float(table[f"{n}_right"].dropna().astype(float).mean()) for n in ATTRIBUTES}
    shares["all_right"] = float(table.all_right.astype(float).mean())
    shares["all_right_unseen"] = float(table[table.unseen].all_right.astype(float).mean())
    return shares | {"prompts": len(table)}


def seconds_per_clip(make: Callable[[int], Any], repeats: int = 3) -> dict[str, float]:
    """Median seconds of one clip, sampling and decoding, after a first one; make: of a seed."""
    times = []
    for seed in range(repeats + 1):
        start = time.perf_counter()
        make(seed)
        times.append(time.perf_counter() - start)
    return {"seconds_per_clip": float(np.median(times[1:])), "first_clip": times[0]}


def measure_cogvideox(
    pipeline: Path, judge_folder: Path, count: int = 200
) -> tuple[dict, pd.DataFrame, list[Clip]]:
    """All numbers of the card of toy-cogvideox, the table of its prompts, and their clips."""
    pipe = CogVideoXPipeline.from_pretrained(pipeline)
    prompts, scenes = held_out_prompts(count, count // 4)
    frames, height, width = ModelLimits.from_pipe(pipe).native
    request = GenerationRequest(LIKELY, num_frames=frames, height=height, width=width)
    speed = seconds_per_clip(lambda seed: generate(pipe, request.with_(seed=seed)))
    clips = sample_clips(pipe, prompts, range(count))
    table = adherence_table(prompts, scenes, clips, load_judge(judge_folder))
    numbers = {
        "adherence": summarise_adherence(table),
        "vae_psnr_db": vae_quality(pipe.vae, fresh_clips(count)),
        "bodies_in_pixels": bodies_in_pixels(pipe, max(8, 2 * count // 5)),
        "parameters": parameters(pipe),
        **speed,
    }
    return numbers, table, clips


def fresh_clips(count: int, frames: int = 16) -> torch.Tensor:
    """Renders that no training saw, reserved ones among them, uint8 [N, 3, T, H, W]."""
    return render_clips(sample_scenes(count, 4321, held_out=None, reserved=True), 96, 64, frames)


def bodies_in_pixels(pipe: CogVideoXPipeline, count: int) -> dict[str, float]:
    """Shares of clips of simple bodies with the right colour, size and path by their pixels."""
    truths = checkable_scenes(count)
    rng = np.random.default_rng(556)
    texts = [caption(truth.scene, "minimal", rng) for truth in truths]
    clips = sample_clips(pipe, texts, range(5000, 5000 + count))
    checks = pd.DataFrame(map(check_body, clips, truths))
    checks["all_right"] = checks.all(axis=1)
    return checks.mean().to_dict() | {"prompts": count}


def measure_latte(
    folder: Path, judge_folder: Path, count: int = 96
) -> tuple[dict, pd.DataFrame, list[Clip]]:
    """All numbers of the card of toy-latte, the table of its prompts, never trained on, and their
    clips."""
    generator, levels = VideoGenerator.from_diffusers(folder), NoiseScheduler.from_diffusers(folder)
    sampler = DDIMSampler(levels, LATTE_STEPS, spacing="trailing")
    size = {"height": 64, "width": 96}
    rng = np.random.default_rng(4343)
    scenes = sample_corner(count, 4344, held_out=True)
    texts, clips = [caption(scene, "minimal", rng) for scene in scenes], []
    for start in range(0, count, 8):
        part = texts[start : start + 8]
        clips += generator(part, sampler, LATTE_GUIDANCE, seed=start, **size).clips()
    table = adherence_table(texts, scenes, clips, load_judge(judge_folder))
    pipe = LattePipeline.from_pretrained(folder)
    numbers = {
        "adherence": summarise_adherence(table),
        "vae_psnr_db": vae_quality(pipe.vae, fresh_clips(40, 8)),
        "parameters": parameters(pipe),
        **seconds_per_clip(
            lambda seed: generator(texts[0], sampler, LATTE_GUIDANCE, seed=seed, **size)
        ),
        "torch_threads": torch.get_num_threads(),
    }
    return numbers, table, clips


def parameters(pipe: DiffusionPipeline) -> dict[str, int]:
    """Of each model of a pipeline."""
    parts = {name: part for name, part in pipe.components.items() if isinstance(part, nn.Module)}
    return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
