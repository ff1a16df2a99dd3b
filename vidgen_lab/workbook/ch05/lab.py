"""Chapter 5: the recorded runs of `benchmarks/adapters.py` as tables and sentences."""

import json
from pathlib import Path

import pandas as pd

from vidgen_lab.generation.lora import inspect_lora
from vidgen_lab.paths import data_dir

COMMAND = "python benchmarks/adapters.py"
STUDIES = (
    "chapter", "tempo", "rank", "method", "clips", "learning_rate", "alpha", "captions", "image",
)  # fmt: skip
# measured column -> heading: shares of clips or attributes, loss, dB, minutes, MiB
SHOWN = {
    "style": "in the style",
    "others": "all else right",
    "kept": "old prompts right",
    "held_out": "held-out loss",
    "copied": "copied",
    "first_frame": "first frame (dB)",
    "minutes": "processor minutes",
    "mib": "MiB of file",
}
COLUMNS = ["study", "setting", "seed", *SHOWN]


def recorded(path: Path | None = None) -> pd.DataFrame:
    """One row a run: study, setting, seed, and what was measured; no row if none was recorded.

    path: of the JSON lines; default: the ones that come along.
    """
    path = path or data_dir() / "runs" / "adapters.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    table = pd.DataFrame([json.loads(line) for line in lines])
    return table if len(table) else pd.DataFrame(columns=COLUMNS)


def adapter(name: str, model: Path, otherwise: Path) -> Path:
    """The file of an adapter that comes along in data/adapters, if it fits this model's folder."""
    file = data_dir() / "adapters" / name / "pytorch_lora_weights.safetensors"
    return file if file.is_file() and inspect_lora(file, model).loads else otherwise


def origin(rows: pd.DataFrame) -> str:
    """Where the runs come from, in a sentence."""
    if not len(rows):
        return f"No run is recorded for this model yet: `{COMMAND}` makes them, in an hour or two."
    first, last = rows.date.min(), rows.date.max()
    when = first if first == last else f"{first} to {last}"
    return (
        f"{len(rows)} runs on {', '.join(sorted(set(rows.device)))}, {when}, "
        f"{rows.groupby(['study', 'setting']).seed.nunique().max()} seeds a setting at most; "
        f"`{COMMAND}` makes them anew."
    )


def spread(rows: pd.DataFrame, study: str) -> pd.DataFrame:
    """Mean and spread over seeds of what was measured, a row for each setting of a study.

    Shares as "mean ± standard deviation"; the row "base" is the model before. ValueError for an
    unknown study.
    """
    if study not in STUDIES:
        raise ValueError(f"no study {study!r}; studies: {', '.join(STUDIES)}")
    own = rows[rows.study.isin((study, "base"))]
    runs = own[own.study == study]
    if not len(runs):
        return pd.DataFrame({"runs": ["not recorded yet"], "command": [f"{COMMAND} {study}"]})
    shown = [name for name in SHOWN if name in runs and runs[name].notna().any()]
    told = {}
    for setting, group in own.groupby("setting", sort=False):
        told[setting] = {"runs": len(group)} | {SHOWN[n]: _spread(group[n]) for n in shown}
    return pd.DataFrame(told).T.rename_axis(study.replace("_", " "))


def verdict(rows: pd.DataFrame, study: str, beside: str = "kept") -> str:
    """What the runs of a study say, in a sentence or two. beside: what is told with the style,
    "kept" (old prompts) or "others" (all else that the new ones ask for)."""
    own = rows[rows.study == study]
    if not len(own):
        return f"Not recorded for this model yet; `{COMMAND} {study}` does it."
    means = own.groupby("setting", sort=False)[["style", beside, "minutes"]].mean()
    told = SHOWN[beside]
    parts = (
        f"{setting}: style in {m.style:.0%} of clips, {told} in {m[beside]:.0%}, "
        f"{m.minutes:.1f} min"
        for setting, m in means.iterrows()
    )
    base = rows[rows.study == "base"]
    before = f" (the base: {base[beside].mean():.0%})" if len(base) else ""
    return "; ".join(parts) + before + "."


def _spread(values: pd.Series) -> str:
    values = values.dropna()
    if not len(values):
        return ""
    digits = 2 if abs(values.mean()) < 10 else 0
    several = f" ± {values.std():.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{several}"
