"""Words that carry numbers: sentences, "Measured, not claimed" boxes and tables from code.

Prose in a notebook never states a measured number by hand; a cell computes it and says it with
these functions, so text and result cannot drift apart.
"""

import html
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from IPython.display import Markdown

from vidgen_lab.progress import duration
from vidgen_lab.settings.hardware import probe
from vidgen_lab.settings.runs import forecast
from vidgen_lab.settings.tiers import load_tiers


def say(text: str) -> Markdown:
    """Show a sentence or two of Markdown as the result of a cell; HTML in it is shown as text."""
    return Markdown(inert(" ".join(text.split())))


def inert(text: str) -> str:
    """Markdown in which no tag, picture or link is alive: a prompt or a file name may hold any."""
    return html.escape(text, quote=False).replace("](", "]&#40;").replace("][", "]&#91;")


def measured(claim: str, result: str, lesson: str, erratum: str = "") -> Markdown:
    """A "Measured, not claimed" box.

    Args:
        claim: what is often said (the book, in our words).
        result: what the cell above found.
        lesson: what to do instead.
        erratum: its number in the list of errata, e.g. "E60".
    """
    label = f" · {inert(erratum)}" if erratum else ""
    rows = (("Claim", claim), ("Measured", result), ("So", lesson))
    lines = [f"> **Measured, not claimed{label}**", ">"]
    lines += [f"> **{name}.** {inert(' '.join(text.split()))}  " for name, text in rows]
    return Markdown("\n".join(lines))


def table(data: pd.DataFrame | pd.Series, digits: int = 3) -> Markdown:
    """Show a table as Markdown, which every viewer renders alike: words left, numbers right.

    Args:
        data: its cells are words, never HTML: prompts, file names and licences that other people
            wrote. An index that only counts rows is left out.
        digits: after the decimal point; a whole number has none.
    """
    frame = data.to_frame() if isinstance(data, pd.Series) else data
    if not isinstance(frame.index, pd.RangeIndex):
        frame = frame.rename_axis(index=lambda name: name or " ").reset_index()
    numeric = [pd.api.types.is_numeric_dtype(kind) for kind in frame.dtypes]
    lines = [
        "| " + " | ".join(_cell(name, digits) for name in frame.columns) + " |",
        "|" + "|".join("---:" if number else ":---" for number in numeric) + "|",
    ]
    for row in frame.itertuples(index=False):
        lines.append("| " + " | ".join(_cell(value, digits) for value in row) + " |")
    return Markdown("\n".join(lines))


def _cell(value: Any, digits: int) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() else f"{value:,.{digits}f}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return inert(" ".join(str(value).splitlines()).replace("|", "\\|"))


@cache
def _facts() -> dict[str, Any]:
    return yaml.safe_load(Path(__file__).with_name("landscape.yaml").read_text(encoding="utf-8"))


def facts(topic: str) -> pd.DataFrame:
    """A table of dated facts from landscape.yaml.

    Args:
        topic: timeline, models, codecs, video_types, ...

    Raises:
        ValueError: there is no such topic; names those there are.
    """
    tables = {name: rows for name, rows in _facts().items() if isinstance(rows, list)}
    if topic not in tables:
        raise ValueError(f"no facts on {topic!r}; topics: {', '.join(tables)}")
    rows = [{k: "" if v is None else v for k, v in row.items()} for row in tables[topic]]
    return pd.DataFrame(rows)


def read_on() -> str:
    """The day on which the facts were last checked."""
    return str(_facts()["read_on"])


def tier_times(chapter: int = 1) -> pd.DataFrame:
    """What each tier runs, and how long a clip and a chapter take by the runs recorded on a machine
    like this one, or else on any; "not recorded yet" if there is none."""
    machine, rows = probe(), []
    for name, tier in load_tiers().items():
        clip, whole = (forecast(tier, task, machine) for task in ("clip", chapter))
        times = [duration(f.seconds) if f.seconds else "not recorded yet" for f in (clip, whole)]
        size = f"{tier.num_frames} × {tier.height} × {tier.width}"
        row = {"tier": name, "model": tier.model, "frames × pixels": size}
        rows.append(row | {"one clip": times[0], f"chapter {chapter}": times[1]})
    return pd.DataFrame(rows).set_index("tier")
