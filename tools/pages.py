"""What is made from data in README.md and docs/: the text between two marks of a page."""

import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from statistics import median
from typing import Any

from tools.book_map import ROOT, BookMap, Entry
from vidgen_lab.files import write_files
from vidgen_lab.generation.generate import generate
from vidgen_lab.generation.loading import load_pipeline
from vidgen_lab.generation.request import GenerationRequest
from vidgen_lab.paths import model_dir
from vidgen_lab.progress import Progress, duration
from vidgen_lab.settings.runs import Run, forecast, load_runs
from vidgen_lab.settings.tiers import load_tiers
from vidgen_lab.video.sheets import clip_sheet
from vidgen_lab.video.show import animated_png
from vidgen_lab.workbook.runner import chapters

PART = re.compile(r"(<!-- made: (\w+)[^>\n]*-->\n).*?(<!-- end -->)", re.S)
TOPICS = "| | topic | code | section | test |\n|---|---|---|---|---|\n"
ERRATA = "| | topic | what was found | code | section | test |\n|---|---|---|---|---|---|\n"
TIERS = "| tier | for | clip | one clip takes | the chapters take |\n|---|---|---|---|---|\n"
PROMPTS = (
    "a red ball bouncing over the ocean",
    "a golden retriever running through a sunlit meadow",
    "a yellow star growing in a night sky",
    "a blue car driving through a city",
    "a purple rocket taking off in the desert",
    "a red rose blooming in a forest",
    "a red lighthouse sweeping its beam over the ocean",
    "an orange fish swimming in the ocean",
    "a pink heart bouncing in the snow",
    "a green ring orbiting in a forest, glowing neon style",
    "a ball rolling to the left in a city, vintage film",
    "a white cloud rolling over the mountains",
)


def outdated(book: BookMap, write: bool = False) -> Iterator[str]:
    """Name the pages that are not up to date, or write them."""
    report = json.loads((model_dir("toy-cogvideox") / "report.json").read_text(encoding="utf-8"))
    for name, made in {
        "README.md": {"tiers": tiers_part(load_runs()), "model": model_part(report)},
        "docs/book_map.md": {"topics": topics_part(book.rows)},
        "docs/errata.md": {"errata": errata_part(book.errata)},
    }.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        filled = fill(text, made)
        if write:
            (ROOT / name).write_text(filled, encoding="utf-8")
        elif filled != text:
            yield f"{name} is not up to date: python -m tools --write"


def fill(text: str, made: Mapping[str, str]) -> str:
    """A page with the text between its marks up to date. ValueError for a mark too many or few."""
    marked = [name for _, name, _ in PART.findall(text)]
    if sorted(marked) != sorted(made):
        raise ValueError(f"the page should mark the parts {sorted(made)}, it marks {marked}")
    return PART.sub(lambda found: found[1] + made[found[2]] + found[3], text)


def topics_part(rows: Mapping[str, Entry]) -> str:
    """A table for each chapter: topics with code, section and test."""
    text = ""
    for chapter, names in groupby(rows, lambda name: name.partition(".")[0]):
        text += f"\n## Chapter {chapter}\n\n{TOPICS}"
        text += "".join(_row(name, rows[name]) for name in names)
    return text


def errata_part(errata: Mapping[str, Entry]) -> str:
    """What checking the book by running it corrected."""
    numbered = sorted(errata, key=lambda name: int(name[1:]))  # chapters append theirs
    return ERRATA + "".join(_row(name, errata[name]) for name in numbered)


def _row(name: str, entry: Entry) -> str:
    """A row of a table; in brackets the book's listing and its names, by which readers search."""
    topic = f"{entry.topic} ({entry.listing})" if entry.listing else entry.topic
    code = [f"`{path.removeprefix('vidgen_lab.')}`" for path in entry.code]
    code = [re.sub(r"`(\w+)@.+`", r"[built in view](../notebooks/\1.ipynb)", path) for path in code]
    section = [re.sub(r"(\w+)#(.+)", r"[\2](../notebooks/\1.ipynb)", p) for p in entry.section]
    test = [re.sub(r"(.+)::(.+)", r"[\2](../\1)", test) for test in entry.test]
    places = ["<br>".join(column) for column in (code or [entry.left], section, test)]
    return f"| {' | '.join([name, topic, *filter(None, [entry.found]), *places])} |\n"


def tiers_part(runs: Sequence[Run]) -> str:
    """The table of tiers, with the times of the device that was recorded last."""
    text, whole = TIERS, {f"{n}: ": f"chapter {n}" for n in chapters()}
    for t in load_tiers().values():
        clip = f"{t.width}×{t.height}, {t.num_frames} frames, {t.num_inference_steps} steps"
        one, all_of_it = (_times(t.name, tasks, runs) for tasks in ({"": "clip"}, whole))
        text += f"| `{t.name}` | {t.summary} | {clip} | {one} | {all_of_it} |\n"
    return text


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
    told = ", ".join(f"the {name} in {share[name]:.1%}" for name in named)
    sentences = (
        f"Of {share['prompts']} held-out prompts the shipped model gets {told} right, and "
        f"everything at once in {share['all_right']:.1%}. Its VAE reaches "
        f"{report['vae_psnr_db']['mean']:.1f} dB. The judge reads fresh renders with "
        f"{min(report['judge_accuracy'].values()):.1%} or more per attribute."
    )
    return textwrap.fill(sentences, 100) + "\n"


def picture() -> None:
    """Write the README's animated picture: some prompts that the model shows well (its card has
    others), each above its clip, of the same seed and the defaults; none chosen among several."""
    pipe, prompts = load_pipeline(), Progress(PROMPTS, "sampling", "clip")
    clips = [generate(pipe, GenerationRequest(prompt)).clip for prompt in prompts]
    page = ROOT / "docs" / "images" / "prompts.png"
    write_files({page: animated_png(clip_sheet(clips, PROMPTS, 192, columns=4))})
