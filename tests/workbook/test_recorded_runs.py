"""Chapter 5: what the notebook builds is used, and recorded runs become honest tables."""

import json
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest

from tests.workbook import built_here
from vidgen_lab.generation.loading import fingerprint
from vidgen_lab.generation.lora import inspect_lora
from vidgen_lab.paths import data_dir, model_dir, notebooks_dir

ROWS = [
    {"study": "base", "setting": "base", "seed": 0, "style": 0.0, "others": 0.9, "kept": 0.9},
    {"study": "rank", "setting": "rank 4", "seed": 0, "style": 0.9, "kept": 0.8, "minutes": 2.0},
    {"study": "rank", "setting": "rank 4", "seed": 1, "style": 1.0, "kept": 0.6, "minutes": 4.0},
    {"study": "method", "setting": "LoRA", "seed": 0, "style": 1.0, "kept": 0.8, "minutes": 2.0},
]


def code_cells():
    notebook = nbformat.read(notebooks_dir() / "05_lora_sft.ipynb", as_version=4)
    return [c for c in notebook.cells if c.cell_type == "code"]


def told(folder):
    """What the notebook's cells make of the runs recorded in a folder for data."""
    space = {"pd": pd, "data_dir": lambda: folder, "say": str}
    sources = {c.id: c.source for c in code_cells()}
    for cell in ("c157a", "c157c", "c074", "c077a"):
        exec(sources[cell], space)
    return SimpleNamespace(**space | {"origin": " ".join(space["origin"].split())})


def test_what_is_built_in_view_is_used():
    """What a piece gives is asserted or shown, before the next one is built."""
    cells = code_cells()
    built = [n for n, c in enumerate(cells) if "build-it" in c.metadata.get("tags", [])]
    assert len(built) >= 12
    for n in built:
        later = "\n".join(c.source for c in cells[n:])
        assert all(later.count(name) > 1 for name in built_here.bare(cells[n].source))


def test_each_run_is_counted_and_spread_over_seeds_is_told(tmp_path):
    common = {"date": "2026-11-26", "device": "a processor"}
    (tmp_path / "runs").mkdir()
    lines = "".join(json.dumps(common | row) + "\n" for row in ROWS)
    (tmp_path / "runs" / "adapters.jsonl").write_text(lines, encoding="utf-8")
    here = told(tmp_path)
    table = here.spread("rank")
    assert list(table.index) == ["base", "rank 4"] and table.loc["rank 4", "runs"] == 2
    assert table.loc["rank 4", "in the style"] == "0.95 ± 0.07"
    assert (
        table.loc["base", "in the style"] == "0.00" and table.loc["base", "processor minutes"] == ""
    )
    assert "MiB of file" not in table  # nobody measured it
    assert "rank 4: style in 95% of clips, old prompts right in 70%" in here.sentence("rank")
    assert "(the base: 90%)" in here.sentence("rank")
    assert "4 runs on a processor, 2026-11-26, 2 seeds" in here.origin


def test_nothing_is_claimed_without_a_run(tmp_path):
    here = told(tmp_path)
    assert not len(here.runs) and "No run is recorded" in here.origin
    assert "not recorded yet" in here.spread("rank").to_string()
    assert "Not recorded" in here.sentence("rank")


@pytest.mark.parametrize("name", ["toy-robot", "toy-paper"])
def test_an_adapter_that_comes_along_is_taken_where_it_fits(name, tmp_path):
    model, mine = model_dir("toy-cogvideox"), tmp_path / "mine.safetensors"
    space = {"data_dir": data_dir, "inspect_lora": inspect_lora, "toy_folder": model}
    exec(next(c.source for c in code_cells() if c.id == "c059a"), space)
    found = space["that_comes_along"](name, otherwise=mine)
    assert found.parent.name == name and found.is_file()
    assert space["that_comes_along"]("no such", otherwise=mine) == mine
    report = json.loads((found.parent / "report.json").read_text("utf-8"))
    said = inspect_lora(found).facts["revision"]
    assert report["base"] == said == fingerprint(model)  # trained on these weights
    assert report["others"] >= 0.9 and report.get("style", report.get("subject")) >= 0.95
