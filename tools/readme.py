"""The measured parts of the README, made from recorded runs and from the model's own report.

``python -m tools.book_map`` checks that they are up to date; ``--write`` writes them.
"""

import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from vidgen_lab.paths import model_dir
from vidgen_lab.progress import duration
from vidgen_lab.settings.runs import Run, forecast, load_runs
from vidgen_lab.settings.tiers import load_tiers
from vidgen_lab.workbook.runner import chapters

PART = re.compile(r"(<!-- measured: (\w+) -->\n).*?(<!-- end -->)", re.S)


def tiers_part(runs: Sequence[Run]) -> str:
    """The table of tiers, with the times of the device that was recorded last."""
    lines = ["| tier | for | clip | one clip takes | the chapters take |", "|---|---|---|---|---|"]
    whole = {f"{n}: ": f"chapter {n}" for n in chapters()}
    for tier in load_tiers().values():
        size = f"{tier.width}×{tier.height}, {tier.num_frames} frames"
        steps = f"{tier.num_inference_steps} steps"
        times = [_times(tier.name, tasks, runs) for tasks in ({"": "clip"}, whole)]
        cells = (f"`{tier.name}`", tier.summary, f"{size}, {steps}", *times)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _times(tier: str, tasks: Mapping[str, str], runs: Sequence[Run]) -> str:
    """How long some tasks took, each after its label, and where that was measured."""
    times, places = [], []
    for label, task in tasks.items():
        found = forecast(tier, task, runs=runs).runs
        if not found:
            continue
        device, cores, note = found[-1].device, found[-1].cores, found[-1].note
        alike = [r for r in found if (r.device, r.cores) == (device, cores)]
        times.append(label + duration(forecast(tier, task, runs=alike).seconds))
        places.append(f"{device}, {cores} cores{', ' * bool(note)}{note}")
    where = "; ".join(dict.fromkeys(places))
    return f"{', '.join(times)} ({where})" if times else "not recorded yet"


def model_part(report: Mapping[str, Any]) -> str:
    """What the shipped model and its judge were measured to do; `report` is its report.json."""
    share = dict(report["adherence"])
    count, everything = share.pop("prompts"), share.pop("all_right")
    share.pop("all_right_unseen")
    named = ", ".join(
        f"the {name} in {value:.0%}" for name, value in sorted(share.items(), key=lambda x: -x[1])
    )
    judge = min(report["judge_accuracy"].values())
    sentences = (
        f"Of {count} held-out prompts the shipped model gets {named} right, and everything at once "
        f"in {everything:.0%}. Its VAE reaches {report['vae_psnr_db']['mean']:.1f} dB. The judge "
        f"reads fresh renders with {judge:.1%} or more per attribute."
    )
    return textwrap.fill(sentences, 100) + "\n"


def fill(text: str) -> str:
    """The README with its measured parts up to date. ValueError for a part nobody measures."""
    report = json.loads((model_dir("toy-cogvideox") / "report.json").read_text(encoding="utf-8"))
    parts = {"tiers": tiers_part(load_runs()), "model": model_part(report)}
    marked = [name for _, name, _ in PART.findall(text)]
    if sorted(marked) != sorted(parts):
        raise ValueError(f"the README should mark the parts {sorted(parts)}, it marks {marked}")
    return PART.sub(lambda found: found[1] + parts[found[2]] + found[3], text)
