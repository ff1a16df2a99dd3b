"""From a chapter that ran to the lines of the table that every forecast comes from."""

from collections.abc import Mapping
from datetime import date
from typing import Any

from vidgen_lab.generation.generate import versions
from vidgen_lab.generation.recipe import read_recipe
from vidgen_lab.generation.request import GenerationRequest, request_of
from vidgen_lab.settings.hardware import probe
from vidgen_lab.settings.runs import Run, record_run
from vidgen_lab.settings.tiers import Tier, resolve_tier
from vidgen_lab.workbook.runner import OUT_DIR, ChapterRun

DEFAULTS = {"tier", OUT_DIR}  # what may be set without making a run incomparable


def check_recordable(parameters: Mapping[str, Any]) -> Tier:
    """The tier of a run that may be recorded; ValueError if a parameter makes it incomparable."""
    if changed := sorted(set(parameters) - DEFAULTS):
        raise ValueError(
            "a recorded run is for comparison and keeps the chapter's own parameters; "
            f"leave out {', '.join(changed)}"
        )
    return resolve_tier(parameters.get("tier", "auto")).tier


def record_chapter(run: ChapterRun, tier: Tier, note: str = "") -> list[Run]:
    """Append a finished run to the table and return its lines.

    One for the whole chapter; before it one for a clip, if it saved one of the tier's settings.

    Args:
        run: of a chapter with its own parameters, see `check_recordable`.
        tier: at which it ran.
        note: what a reader of the number should know.
    """
    machine, chapter = probe(), int(run.notebook.name[:2])
    about = {
        "tier": tier.name,
        "device_kind": machine.device,
        "device": machine.name,
        "cores": machine.cores,
        "date": date.today().isoformat(),
        "versions": versions(),
        "model": tier.model,
        "note": note,
    }
    costs = {f"chapter {chapter}": (run.seconds, run.peak_memory_gib)}
    if clip := _clip_of_tier(run, tier):
        costs = {"clip": (clip["seconds"], clip["peak_memory_gib"])} | costs
    runs = [
        Run(task=task, seconds=round(seconds, 3), peak_memory_gib=round(peak, 3), **about)
        for task, (seconds, peak) in costs.items()
    ]
    for one in runs:
        record_run(one)
    return runs


def _clip_of_tier(run: ChapterRun, tier: Tier) -> dict[str, Any] | None:
    """The recipe of the first clip made with nothing but the tier's settings."""
    for video in run.videos:
        try:
            recipe = read_recipe(video)
        except (OSError, ValueError):  # a video that no model made
            continue
        made = request_of(recipe)
        usual = GenerationRequest.for_tier(
            tier, made.prompt, negative_prompt=made.negative_prompt, seed=made.seed
        )
        if made.with_(model=None) == usual.with_(model=None) and recipe["model"] == tier.model:
            return recipe
    return None
