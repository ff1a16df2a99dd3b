"""What the embedded models can do, measured: adherence, judge accuracy, VAE quality, seconds.

The model cards are written from these numbers, so a card cannot claim what was not measured.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from diffusers import CogVideoXPipeline

from vidgen_lab.metrics.adherence import adherence_of
from vidgen_lab.metrics.judge import ToyJudge, load_judge
from vidgen_lab.progress import Progress
from vidgen_lab.toyworld import ATTRIBUTES, Scene, caption, is_held_out
from vidgen_lab.toyworld.language import REGISTERS
from vidgen_lab.training.toy_data import render_clips, sample_scenes
from vidgen_lab.training.toy_vae import psnr, squared_error
from vidgen_lab.video.clip import Clip
from vidgen_lab.video.sheets import film_strip

STEPS, GUIDANCE = 25, 6.0


@dataclass(frozen=True)
class HeldOutPrompt:
    """A sentence, the scene it describes, and whether training ever saw that composition."""

    text: str
    scene: Scene
    unseen: bool


def held_out_prompts(count: int = 200, unseen: int = 50, seed: int = 1234) -> list[HeldOutPrompt]:
    """Fresh prompts naming every visible attribute; `unseen` of them are compositions never trained
    on."""
    scenes = sample_scenes(count - unseen, seed, held_out=False)
    scenes += sample_scenes(unseen, seed + 1, held_out=True)
    rng = np.random.default_rng(seed + 2)
    prompts = []
    for i, scene in enumerate(scenes):
        text = caption(scene, REGISTERS[i % len(REGISTERS)], rng)
        prompts.append(HeldOutPrompt(text, scene, is_held_out(scene)))
    return prompts


def sample_clips(
    pipe: CogVideoXPipeline,
    prompts: Sequence[str],
    seeds: Sequence[int],
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    batch: int = 10,
) -> list[Clip]:
    """Sample many prompts in batches through the stock pipeline; every clip has its own seed."""
    pipe.set_progress_bar_config(disable=True)
    length = pipe.transformer.config.max_text_seq_length
    clips: list[Clip] = []
    for start in Progress(range(0, len(prompts), batch), "sample", "batch"):
        part = slice(start, start + batch)
        made = pipe(
            prompt=list(prompts[part]),
            num_inference_steps=steps,
            guidance_scale=guidance,
            max_sequence_length=length,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds[part]],
            output_type="np",
        )
        clips += [Clip.from_float(frames, fps=8) for frames in made.frames]
    return clips


def adherence_table(
    prompts: Sequence[HeldOutPrompt], clips: Sequence[Clip], judge: ToyJudge | None = None
) -> pd.DataFrame:
    """One row per clip: the prompt, what was named and seen per attribute, and whether all is
    right."""
    rows = []
    for prompt, found in zip(
        prompts, adherence_of(list(clips), [p.text for p in prompts], judge), strict=True
    ):
        row = {"prompt": prompt.text, "unseen": prompt.unseen, "all_right": found.all_right}
        for name in ATTRIBUTES:
            row[name] = found.named.get(name)
            row[f"{name}_seen"] = found.seen.get(name)
            row[f"{name}_right"] = found.right.get(name)
        rows.append(row)
    return pd.DataFrame(rows)


def summarise_adherence(table: pd.DataFrame) -> dict[str, float]:
    """Shares of right attributes over all prompts, and of all-right over seen and unseen
    compositions."""
    shares = {name: float(table[f"{name}_right"].dropna().mean()) for name in ATTRIBUTES}
    shares["all_right"] = float(table.all_right.mean())
    shares["all_right_unseen"] = float(table[table.unseen].all_right.mean())
    return shares


def seconds_per_clip(pipe: CogVideoXPipeline, repeats: int = 3) -> dict[str, float]:
    """Median seconds of one clip at the default steps, sampling and decoding, after one warm-up."""
    times = []
    for repeat in range(repeats + 1):
        start = time.perf_counter()
        sample_clips(pipe, ["a red ball bouncing over the ocean"], [repeat])
        times.append(time.perf_counter() - start)
    return {"seconds_per_clip": float(np.median(times[1:])), "first_clip": times[0]}


def measure(
    pipeline: Path, judge_folder: Path, count: int = 200
) -> tuple[dict, pd.DataFrame, list[Clip]]:
    """Everything the model cards state: (numbers, adherence table, the sampled clips)."""
    pipe = CogVideoXPipeline.from_pretrained(pipeline, torch_dtype=torch.float32)
    judge = load_judge(judge_folder)
    prompts = held_out_prompts(count, count // 4)
    speed = seconds_per_clip(pipe)
    clips = sample_clips(pipe, [p.text for p in prompts], list(range(len(prompts))))
    table = adherence_table(prompts, clips, judge)
    fresh = render_clips(sample_scenes(64, 4321, held_out=None), 96, 64, 17)
    numbers = {
        "adherence": summarise_adherence(table) | {"prompts": count},
        "vae_psnr_db": vae_quality(squared_error(pipe.vae, fresh), fresh),
        "parameters": {
            name: _count(getattr(pipe, name)) for name in ("transformer", "text_encoder", "vae")
        },
        **speed,
    }
    return numbers, table, clips


def vae_quality(squared: torch.Tensor, pixels: torch.Tensor) -> dict[str, float]:
    """PSNR in dB: mean and worst of the clips, and that of the pixels that move and stand still.

    squared: errors of the clips `pixels`, uint8 [N, 3, T, H, W]. A pixel moves in a frame when one
    of its colours differs by more than a twentieth from the frame before or after.
    """
    change = (pixels[:, :, 1:].int() - pixels[:, :, :-1].int()).abs().amax(1) > 255 / 20
    moving = F.pad(change, (0, 0, 0, 0, 1, 0)) | F.pad(change, (0, 0, 0, 0, 0, 1))  # [N, T, H, W]
    each, by_pixel = psnr(squared), squared.mean(1)
    parts = {"moving": by_pixel[moving], "still": by_pixel[~moving]}
    whole = {"mean": float(each.mean()), "worst": float(each.min())}
    return whole | {name: float(psnr(errors[None])) for name, errors in parts.items()}


def confusion(table: pd.DataFrame, attribute: str) -> pd.DataFrame:
    """Counts of what the judge saw (columns) where the prompt named a value (rows)."""
    return pd.crosstab(table[attribute], table[f"{attribute}_seen"])


def prompt_sheet(
    prompts: Sequence[str], clips: Sequence[Clip], num: int = 5, columns: int = 2
) -> np.ndarray:
    """Film strips of many clips in columns -> uint8 [H, W, 3]."""
    rows = -(-len(clips) // columns)
    strips = [
        film_strip(clips[i : i + rows], [p[:76] for p in prompts[i : i + rows]], num, scale=1)
        for i in range(0, len(clips), rows)
    ]
    height = max(strip.shape[0] for strip in strips)
    padded = [
        np.pad(s, ((0, height - s.shape[0]), (4, 4), (0, 0)), constant_values=255) for s in strips
    ]
    return np.hstack(padded)


def _count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
