"""What the embedded models can do, measured: adherence, VAE quality, seconds; and their cards.

Cards are templates in recipes/cards, filled with these numbers: none can claim what was not
measured.
"""

import json
import shutil
import timeit
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXPipeline, DiffusionPipeline, LattePipeline
from torch import nn

from recipes.judge import judge_accuracy
from recipes.latte import sample_corner
from recipes.scenes import render_clips, sample_scenes
from recipes.vae import psnr, reconstruct, squared_error, vae_quality
from recipes.vae_layers import fastest
from vidgen_lab.generation.generate import generate
from vidgen_lab.generation.request import GenerationRequest, ModelLimits
from vidgen_lab.latte import DDIMSampler, NoiseScheduler, VideoGenerator
from vidgen_lab.metrics.adherence import adherence_of
from vidgen_lab.metrics.judge import ToyJudge, load_judge
from vidgen_lab.progress import Progress
from vidgen_lab.toyworld import ATTRIBUTES, Scene, caption, is_held_out
from vidgen_lab.toyworld.language import REGISTERS
from vidgen_lab.video.clip import Clip, evenly_spaced
from vidgen_lab.video.sheets import film_strip, write_png
from vidgen_lab.video.tensors import to_pixels

CARDS = Path(__file__).resolve().parent / "cards"
LATTE_STEPS, LATTE_GUIDANCE = 25, 1.5
REPEATS = 4  # of the clip that is timed
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
    found = adherence_of(clips, prompts, judge)
    table = pd.DataFrame({"prompt": prompts, "all_right": [one.all_right for one in found]})
    table["unseen"] = [is_held_out(scene) for scene in scenes]
    for what, end in (("named", ""), ("seen", "_seen"), ("right", "_right")):
        answers = pd.DataFrame([getattr(one, what) for one in found], columns=list(ATTRIBUTES))
        table = table.join(answers.add_suffix(end))
    return table


def summarise_adherence(table: pd.DataFrame) -> dict[str, float]:
    """Shares of right attributes over all prompts, and of all-right over all and over unseen
    compositions."""
    shares = {n: float(table[f"{n}_right"].dropna().astype(float).mean()) for n in ATTRIBUTES}
    shares["all_right"] = float(table.all_right.astype(float).mean())
    shares["all_right_unseen"] = float(table[table.unseen].all_right.astype(float).mean())
    return shares | {"prompts": len(table)}


def numbers_of(
    pipe: DiffusionPipeline, table: pd.DataFrame, fresh: torch.Tensor, make: Callable[[], Any]
) -> dict[str, Any]:
    """What a card states of a pipeline: adherence in `table`, quality of its VAE on `fresh` clips,
    parameters, and the median seconds of `make`, sampling and decoding one clip, after a first."""
    first, *times = timeit.repeat(make, number=1, repeat=REPEATS)
    models = {name: part for name, part in pipe.components.items() if isinstance(part, nn.Module)}
    return {
        "adherence": summarise_adherence(table),
        "vae_psnr_db": vae_quality(pipe.vae, fresh),
        "parameters": {n: sum(p.numel() for p in m.parameters()) for n, m in models.items()},
        "seconds_per_clip": float(np.median(times)),
        "first_clip": first,
        "torch_threads": torch.get_num_threads(),
    }


def fresh_clips(count: int, frames: int = 16) -> torch.Tensor:
    """Renders that no training saw, reserved ones among them, uint8 [N, 3, T, H, W]."""
    return render_clips(sample_scenes(count, 4321, held_out=None, reserved=True), 96, 64, frames)


def measure_cogvideox(
    folder: Path, judge_folder: Path, count: int = 200
) -> tuple[dict, pd.DataFrame, list[Clip]]:
    """All numbers of the card of toy-cogvideox, the table of its prompts, and their clips."""
    pipe = CogVideoXPipeline.from_pretrained(folder)
    prompts, scenes = held_out_prompts(count, count // 4)
    clips = sample_clips(pipe, prompts, range(count))
    table = adherence_table(prompts, scenes, clips, load_judge(judge_folder))
    frames, height, width = ModelLimits.from_pipe(pipe).native
    request = GenerationRequest(LIKELY, num_frames=frames, height=height, width=width)
    fresh = fresh_clips(count)
    return numbers_of(pipe, table, fresh, lambda: generate(pipe, request)), table, clips


def measure_latte(
    folder: Path, judge_folder: Path, count: int = 96
) -> tuple[dict, pd.DataFrame, list[Clip]]:
    """All numbers of the card of toy-latte, the table of its prompts, never trained on, and their
    clips."""
    generator, levels = VideoGenerator.from_diffusers(folder), NoiseScheduler.from_diffusers(folder)
    sampler = DDIMSampler(levels, LATTE_STEPS, spacing="trailing")
    rng = np.random.default_rng(4343)
    scenes = sample_corner(count, 4344, held_out=True)
    texts, clips = [caption(scene, "minimal", rng) for scene in scenes], []

    def make(prompts: Sequence[str], seed: int = 0) -> list[Clip]:
        return generator(prompts, sampler, LATTE_GUIDANCE, seed, height=64, width=96).clips()

    for start in range(0, count, 8):
        clips += make(texts[start : start + 8], start)
    table = adherence_table(texts, scenes, clips, load_judge(judge_folder))
    pipe, fresh = LattePipeline.from_pretrained(folder), fresh_clips(40, 8)
    return numbers_of(pipe, table, fresh, lambda: make(texts[:1])), table, clips


# the cards ----------------------------------------------------------------------------------------


def write_cards(part: str, trained: Path, models: Path, prompts: int = 200) -> None:
    """Cards, reports, sheets and logs of what `part` ("ship" or "ship-latte") put into `models`."""
    judge = models / "toy-judge"
    if part == "ship-latte":
        pipeline = models / "toy-latte"
        keep_recipes(trained, pipeline, ("frame-vae", "latte-text", "latte"))
        numbers, table, clips = measure_latte(pipeline, judge)
        write_png(sheet_of(table.prompt, clips, 16), pipeline / "held_out_prompts.png")
        fill(pipeline, numbers)
        return
    pipeline = models / "toy-cogvideox"
    keep_recipes(trained, pipeline, ("vae", "text", "transformer"))
    keep_recipes(trained, judge, ("judge",))
    numbers, table, clips = measure_cogvideox(pipeline, judge, prompts)
    numbers["judge_accuracy"] = judge_accuracy(judge)
    table.to_csv(pipeline / "adherence.csv", index=False)
    write_png(sheet_of(table.prompt, clips, 24), pipeline / "held_out_prompts.png")
    write_png(worst_round_trips(pipeline / "vae"), pipeline / "vae_worst_round_trips.png")
    weakest = sorted(ATTRIBUTES, key=numbers["adherence"].get)[:2]
    fill(pipeline, numbers, weakest=" and ".join(weakest))
    seen = {n: table[f"{n}_seen"].fillna("none of these") for n in ATTRIBUTES}
    tables = {n: pd.crosstab(table[n], seen[n]).to_string() for n in ATTRIBUTES}
    unsure = json.loads((judge / "config.json").read_text("utf-8"))["unsure_below"]
    fill(
        judge,
        numbers,
        confusions="\n\n".join(f"### {n}\n\n```\n{counts}\n```" for n, counts in tables.items()),
        unsure=", ".join(f"{name} {value}" for name, value in unsure.items()),
    )


def fill(folder: Path, numbers: dict, **more: str) -> None:
    """Write report.json and, from the template of the folder's name, README.md.

    A template is a format string: {adherence[subject]:.1%} is a number; {notes} is what a person
    has to say, from NAME-notes.md.
    """
    (folder / "report.json").write_text(json.dumps(numbers, indent=2) + "\n", "utf-8")
    notes = CARDS / f"{folder.name}-notes.md"
    runs = (json.loads(f.read_text("utf-8")) for f in (folder / "recipe").glob("*_run.json"))
    commits = {code or "unknown" for run in runs for code in run["code"].split(", ")}
    for file in (folder / "recipe").glob("commits.txt"):  # of what was trained before run.json
        commits |= set(file.read_text("utf-8").strip().split(", "))
    millions = {name: count / 1e6 for name, count in numbers["parameters"].items()}
    card = (CARDS / f"{folder.name}.md").read_text("utf-8").format(
        **numbers,
        **more,
        commit=", ".join(sorted(commits)),
        millions=millions | {"all": sum(millions.values())},
        notes=notes.read_text("utf-8") if notes.exists() else "",
    )  # fmt: skip
    (folder / "README.md").write_text(card, "utf-8")


def sheet_of(titles: Sequence[str], clips: Sequence[Clip], count: int, num: int = 5) -> np.ndarray:
    """Film strips of `count` of the clips in two columns -> uint8 [H, W, 3]."""
    chosen = evenly_spaced(len(clips), min(count, len(clips)))
    return film_strip([clips[i] for i in chosen], [titles[i] for i in chosen], num, 1, columns=2)


def worst_round_trips(vae_folder: Path, count: int = 10) -> np.ndarray:
    """The renders that the VAE gives back worst, each above what it makes of it."""
    vae = AutoencoderKLCogVideoX.from_pretrained(vae_folder)
    clips = fresh_clips(200)
    errors = psnr(squared_error(vae, clips))
    worst = clips[errors.argsort()[:count]]
    pairs = torch.stack([worst, to_pixels(reconstruct(vae, worst))], 1).flatten(0, 1)
    shown = [Clip(pixels.permute(1, 2, 3, 0).contiguous().numpy(), fps=8) for pixels in pairs]
    titles = [t for e in errors.sort().values[:count] for t in ("render", f"{e:.1f} dB")]
    return sheet_of(titles, shown, len(shown))


def keep_recipes(trained: Path, folder: Path, parts: tuple[str, ...]) -> None:
    """Beside the weights: of each part's training the recipe, the log, and by which settings and
    commits it was."""
    target = folder / "recipe"
    target.mkdir(exist_ok=True)
    for part in parts:
        shutil.copy(CARDS.parent / f"{part}.yaml", target)
        for log in sorted((trained / part).rglob("log.jsonl")):
            stage = "" if log.parent.name == part else f"_{log.parent.name}"
            for file in (log, log.with_name("run.json")):
                shutil.copy(file, target / f"{part}{stage}_{file.name}")
