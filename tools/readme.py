"""The measured parts of the README, made from recorded runs and from the model's own report.

``python -m tools.book_map`` checks that they are up to date; ``--write`` writes them.
"""

import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from statistics import median
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
        times = [_times(tier.name, tasks, runs) for tasks in ({"": "clip"}, whole)]
        cells = (
            f"`{tier.name}`",
            tier.summary,
            f"{size}, {tier.num_inference_steps} steps",
            *times,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _times(tier: str, tasks: Mapping[str, str], runs: Sequence[Run]) -> str:
    """How long some tasks took, each after its label, and where that was measured."""
    times, places = [], []
    for label, task in tasks.items():
        if not (found := forecast(tier, task, runs=runs).runs):
            continue
        last = found[-1]
        alike = [r for r in found if (r.device, r.cores) == (last.device, last.cores)]
        times.append(label + duration(median(r.seconds for r in alike)))
        places.append(f"{last.device}, {last.cores} cores{', ' * bool(last.note)}{last.note}")
    where = "; ".join(dict.fromkeys(places))
    return f"{', '.join(times)} ({where})" if times else "not recorded yet"


def model_part(report: Mapping[str, Any]) -> str:
    """What the shipped model and its judge were measured to do; `report` is its report.json."""
    share = report["adherence"]
    named = [n for n in share if n not in ("prompts", "all_right", "all_right_unseen")]
    named.sort(key=share.get, reverse=True)
    told = ", ".join(f"the {name} in {share[name]:.0%}" for name in named)
    judge = min(report["judge_accuracy"].values())
    sentences = (
        f"Of {share['prompts']} held-out prompts the shipped model gets {told} right, and "
        f"everything at once in {share['all_right']:.0%}. Its VAE reaches "
        f"{report['vae_psnr_db']['mean']:.1f} dB. The judge reads fresh renders with {judge:.1%} "
        "or more per attribute."
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
