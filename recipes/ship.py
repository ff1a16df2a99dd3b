"""Measure what was shipped and write the cards: templates in recipes/cards, filled with numbers."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from diffusers import AutoencoderKLCogVideoX

from recipes.judge import judge_accuracy
from recipes.measure import fresh_clips, measure_cogvideox, measure_latte
from recipes.training import COMMITS
from recipes.vae import psnr, reconstruct, squared_error
from vidgen_lab.toyworld import ATTRIBUTES
from vidgen_lab.video.clip import Clip, evenly_spaced
from vidgen_lab.video.sheets import film_strip, write_png
from vidgen_lab.video.tensors import to_pixels

CARDS = Path(__file__).resolve().parent / "cards"


def write_cards(part: str, trained: Path, models: Path, prompts: int = 200) -> None:
    """Cards, reports, sheets and logs of what `part` ("ship" or "ship-latte") put into `models`."""
    judge = models / "toy-judge"
    if part == "ship-latte":
        pipeline = models / "toy-latte"
        _keep_recipes(trained, pipeline, ("frame-vae", "latte-text", "latte"))
        numbers, table, clips = measure_latte(pipeline, judge)
        write_png(sheet_of(table.prompt, clips, 16), pipeline / "held_out_prompts.png")
        fill(pipeline, numbers)
        return
    pipeline = models / "toy-cogvideox"
    _keep_recipes(trained, pipeline, ("vae", "text", "transformer"))
    _keep_recipes(trained, judge, ("judge",))
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
    millions = {name: count / 1e6 for name, count in numbers["parameters"].items()}
    card = (CARDS / f"{folder.name}.md").read_text("utf-8").format(
        **numbers,
        **more,
        commit=(folder / "recipe" / COMMITS).read_text("utf-8").strip(),
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


def _keep_recipes(trained: Path, folder: Path, parts: tuple[str, ...]) -> None:
    """Beside the weights: of each part's training the recipe, the log, and by which commit."""
    target, commits = folder / "recipe", []
    target.mkdir(exist_ok=True)
    for part in parts:
        shutil.copy(CARDS.parent / f"{part}.yaml", target / f"{part}.yaml")
        for log in sorted((trained / part).rglob("log.jsonl")):
            stage = "" if log.parent.name == part else f"_{log.parent.name}"
            shutil.copy(log, target / f"{part}{stage}_log.jsonl")
        noted = trained / part / COMMITS
        if not noted.exists():
            raise FileNotFoundError(
                f"{noted} is missing: write into it by which commit it was made"
            )
        commits += noted.read_text("utf-8").splitlines()
    (target / COMMITS).write_text(", ".join(dict.fromkeys(commits)) + "\n", "utf-8")
