"""Train the judge: on renders, on what generators do to them, and on what it must not accept."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLCogVideoX, CogVideoXPipeline
from safetensors.torch import save_file
from torch import Tensor

from recipes.impostors import empty_stage, ragged, trails, wrong_body
from recipes.scenes import sample_scenes
from recipes.training import Recipe, fit
from recipes.vae import reconstruct
from recipes.vae_layers import fastest
from vidgen_lab.files import replacing, write_files
from vidgen_lab.metrics.judge import ToyJudge, judge_clips, load_judge
from vidgen_lab.progress import Progress
from vidgen_lab.toyworld import Scene, caption, render
from vidgen_lab.toyworld.world import ATTRIBUTES, RESERVED_SUBJECTS
from vidgen_lab.training.stream import Draw
from vidgen_lab.video.tensors import to_model_range, to_pixels

IGNORE = -100
SIZE = (96, 64, 16)
SOFT = ("aurora", "cloud", "lighthouse", "coffee")


@dataclass(frozen=True)
class JudgeConfig(Recipe):
    """Recipe of the judge, a `ToyJudge`.

    Of its clips `shares` are: renders; renders that passed through the VAE with noise on the
    latents; wrong bodies; ragged ones; empty scenes; two scenes in one; smeared ones. To them come
    `unfinished` clips of a text-to-video model that had trained for a few minutes: the colours and
    places of their prompts, and bodies that are none.
    """

    clips: int = 9000
    shares: tuple[float, ...] = (0.42, 0.12, 0.18, 0.1, 0.05, 0.08, 0.05)
    unfinished: int = 640
    calibration: int = 1000
    batch: int = 32


KINDS = ("render", "round_trip", "wrong_body", "ragged", "empty", "mixture", "smeared")


def _label(scene: Scene, name: str) -> int:
    """A class index; what cannot be seen (colour in black and white) is ignored by the loss."""
    return ATTRIBUTES[name].index(scene.visible[name]) if name in scene.visible else IGNORE


def none_of_these(name: str) -> int:
    """The index of an attribute's last answer."""
    return len(ATTRIBUTES[name])


def judge_clip(kind: str, scene: Scene, rng: np.random.Generator) -> tuple[np.ndarray, dict]:
    """A clip of one kind, uint8 [T, H, W, 3], and its class index per attribute."""
    target = {name: _label(scene, name) for name in ATTRIBUTES}
    wrong = {"subject": none_of_these("subject"), "motion": IGNORE}
    if kind == "empty":
        gone = {name: none_of_these(name) for name in ("subject", "colour", "motion")}
        return empty_stage(scene, SIZE), target | gone
    if kind == "wrong_body":
        return render(scene, *SIZE, drawing=wrong_body(scene, rng)).clip.frames, target | wrong
    made = render(scene, *SIZE)
    clip = made.clip.frames
    if kind == "ragged":
        return ragged(clip, made.masks, rng), target | wrong | {"colour": IGNORE}
    if kind == "smeared":
        strength = rng.uniform(0.2, 0.9)
        if strength > 0.45 and scene.motion not in ("in_place", "growing", "spinning"):
            subject = wrong["subject"] if strength > 0.7 else IGNORE
            target |= {"subject": subject, "colour": IGNORE}
        return trails(clip, strength), target
    if kind == "mixture":
        other = sample_scenes(1, int(rng.integers(2**31)), held_out=None, reserved=True)[0]
        share = rng.uniform(0.35, 0.65)
        both = share * clip + (1 - share) * render(other, *SIZE).clip.frames
        differing = (name for name in ATTRIBUTES if _label(other, name) != target[name])
        return both.astype(np.uint8), target | {name: none_of_these(name) for name in differing}
    return clip, target


def judge_clips_of(
    config: JudgeConfig, count: int, seed: int, vae: AutoencoderKLCogVideoX
) -> tuple[Tensor, dict[str, Tensor]]:
    """`count` clips of all kinds, uint8 [N, 3, 8, H, W], and their targets [N] per attribute."""
    rng = np.random.default_rng(seed)
    scenes = sample_scenes(count, seed, held_out=None, reserved=True)
    kinds = rng.choice(KINDS, count, p=config.shares)
    clips, targets = [], []
    for scene, kind in zip(Progress(scenes, "drawing", "clip"), kinds, strict=True):
        frames, target = judge_clip(kind, scene, rng)
        pixels = torch.from_numpy(frames.copy()).permute(3, 0, 1, 2)
        if kind == "round_trip":
            noise = float(rng.uniform(0, 0.6))
            with fastest(vae.device):
                pixels = to_pixels(reconstruct(vae, pixels[None], noise))[0]
        clips.append(pixels[:, np.linspace(0, SIZE[2] - 1, 8).round().astype(int)].clone())
        targets.append(target)
    stacked = {name: torch.tensor([target[name] for target in targets]) for name in ATTRIBUTES}
    return torch.stack(clips), stacked


def unfinished_clips(folder: Path, count: int, seed: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Four frames, shown twice each, that the early model in `folder` makes of captions: uint8
    [N, 3, 8, H, W], and targets. Clouds and the like, of which it makes something, are left out."""
    pipe = CogVideoXPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    rng = np.random.default_rng(seed)
    drawn = sample_scenes(2 * count + 20, seed, held_out=None)
    scenes = [scene for scene in drawn if scene.subject not in SOFT][:count]
    clips = []
    for start in Progress(range(0, count, 8), "sampling", "round"):
        part = scenes[start : start + 8]
        with fastest(pipe.device):
            made = pipe(
                [caption(scene, "minimal", rng) for scene in part],
                num_frames=4,
                num_inference_steps=12,
                guidance_scale=5.0,
                max_sequence_length=pipe.transformer.config.max_text_seq_length,
                generator=torch.Generator().manual_seed(seed + start),
                output_type="pt",
            ).frames  # [B, 4, 3, H, W] in 0 .. 1
        clips.append((made.float() * 255).round().byte().transpose(1, 2).repeat_interleave(2, 2))
    targets = {name: [_label(scene, name) for scene in scenes] for name in ATTRIBUTES}
    targets |= {"subject": [none_of_these("subject")] * count, "motion": [IGNORE] * count}
    return torch.cat(clips), {name: torch.tensor(column) for name, column in targets.items()}


def judge_loss(judge: ToyJudge, batch: dict[str, Tensor], draw: Draw) -> Tensor:
    """Sum over attributes of the mean cross-entropy, with a little label smoothing to keep the
    judge modest. batch: "video" [B, 3, 8, H, W] in uint8, and a class index per attribute."""
    logits = judge(degrade(to_model_range(batch["video"]), draw.generator))
    losses = []
    for name, values in logits.items():
        truth = batch[name]
        total = F.cross_entropy(
            values.float(), truth, ignore_index=IGNORE, label_smoothing=0.02, reduction="sum"
        )
        losses.append(total / (truth != IGNORE).sum().clamp_min(1))
    return torch.stack(losses).sum()


def degrade(video: Tensor, generator: torch.Generator) -> Tensor:
    """Soften video [B, 3, T, H, W] and add noise by chance: detail alone must decide nothing."""
    strength = torch.rand(2, generator=generator, device=generator.device)
    if strength[0] < 0.4:
        b, _, t, h, w = video.shape
        flat = video.transpose(1, 2).flatten(0, 1)
        small = F.interpolate(
            flat, scale_factor=0.6 + strength[0].item(), mode="bilinear", antialias=True
        )
        video = F.interpolate(small, (h, w), mode="bilinear").unflatten(0, (b, t)).transpose(1, 2)
    noise = torch.randn(video.shape, generator=generator, device=video.device)
    return video + 0.1 * strength[1] * noise


def train_judge(config: JudgeConfig, vae_folder: Path, early_folder: Path, out: Path) -> None:
    """Train (or resume) and calibrate the judge in `out`; `out`/judge is the result.

    early_folder: the pipeline of a transformer after its first few hundred steps.
    """
    seed = config.training.seed
    torch.manual_seed(seed)
    vae = AutoencoderKLCogVideoX.from_pretrained(vae_folder)
    drawn = judge_clips_of(config, config.clips, seed + 20, vae)
    sampled = unfinished_clips(early_folder, config.unfinished, seed + 22)
    clips = torch.cat([drawn[0], sampled[0]])
    target = {name: torch.cat([drawn[1][name], sampled[1][name]]) for name in ATTRIBUTES}
    judge = ToyJudge(**config.model)

    def batch(number: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((seed, number))
        index = torch.from_numpy(rng.integers(len(clips), size=config.batch))
        return {"video": clips[index]} | {name: column[index] for name, column in target.items()}

    fit(judge, judge_loss, batch, out, config)
    fresh = judge_clips_of(config, config.calibration, seed + 21, vae)
    calibrate(judge.eval().cpu(), *fresh)
    save_judge(judge, out / "judge")


@torch.no_grad()
def calibrate(judge: ToyJudge, clips: Tensor, target: dict[str, Tensor]) -> None:
    """Fit, on clips that training never saw, a temperature per attribute (Guo et al. 2017) and the
    lowest confidence at which 98 of 100 answers that name a value are right."""
    judge.temperature = dict.fromkeys(ATTRIBUTES, 1.0)
    logits = [judge(to_model_range(part)) for part in clips.split(64)]
    for name in ATTRIBUTES:
        known = target[name] != IGNORE
        scores, truth = torch.cat([part[name] for part in logits])[known], target[name][known]
        grid = np.geomspace(0.3, 3, 60)
        losses = [F.cross_entropy(scores / t, truth).item() for t in grid]
        judge.temperature[name] = float(round(grid[int(np.argmin(losses))], 3))
        confidence, answer = (scores / judge.temperature[name]).softmax(-1).max(-1)
        named = answer != none_of_these(name)
        order = confidence[named].argsort(descending=True)
        right = (answer == truth)[named][order].float()
        precise = (right.cumsum(0) / torch.arange(1, len(right) + 1) >= 0.98).nonzero()
        lowest = float(confidence[named][order][precise.max()]) if len(precise) else 1.0
        judge.unsure_below[name] = round(max(0.5, lowest), 3)


def save_judge(judge: ToyJudge, folder: Path) -> None:
    """Write config.json and half-precision model.safetensors, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        n: v.half() if v.is_floating_point() else v for n, v in judge.cpu().state_dict().items()
    }
    with replacing(folder / "model.safetensors") as temporary:
        save_file(state, temporary)
    write_files({folder / "config.json": json.dumps(judge.settings, indent=2)})


def judge_accuracy(folder: Path, count: int = 1000, seed: int = 99) -> dict[str, float]:
    """Share of right answers per attribute on fresh renders, where the attribute is visible."""
    judge = load_judge(folder)
    reserved = set(RESERVED_SUBJECTS) <= set(judge.answers["subject"])
    scenes = sample_scenes(count, seed, held_out=None, reserved=reserved)
    tables = judge_clips([render(scene, *SIZE).clip for scene in scenes], judge)
    right = [
        {name: max(table[name], key=table[name].get) == value for name, value in s.visible.items()}
        for s, table in zip(scenes, tables, strict=True)
    ]
    return pd.DataFrame(right).mean().to_dict()
