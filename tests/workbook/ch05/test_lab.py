"""Chapter 5: what the notebook builds is right, and recorded runs become honest tables."""

import json

import nbformat
import pytest

from tools import built_here
from vidgen_lab.generation.loading import fingerprint
from vidgen_lab.paths import model_dir, notebooks_dir
from vidgen_lab.workbook.ch05 import lab

ROWS = [
    {"study": "base", "setting": "base", "seed": 0, "style": 0.0, "others": 0.9, "kept": 0.9},
    {"study": "rank", "setting": "rank 4", "seed": 0, "style": 0.9, "kept": 0.8, "minutes": 2.0},
    {"study": "rank", "setting": "rank 4", "seed": 1, "style": 1.0, "kept": 0.6, "minutes": 4.0},
    {"study": "method", "setting": "LoRA", "seed": 0, "style": 1.0, "kept": 0.8, "minutes": 2.0},
]


@pytest.fixture
def rows(tmp_path):
    common = {"date": "2026-11-26", "device": "a processor"}
    file = tmp_path / "runs.jsonl"
    file.write_text("".join(json.dumps(common | row) + "\n" for row in ROWS), encoding="utf-8")
    return lab.recorded(file)


def code_cells():
    notebook = nbformat.read(notebooks_dir() / "05_lora_sft.ipynb", as_version=4)
    return [c for c in notebook.cells if c.cell_type == "code"]


def test_what_is_built_in_view_is_used():
    """What a piece gives is asserted or shown, before the next one is built."""
    cells = code_cells()
    built = [n for n, c in enumerate(cells) if "build-it" in c.metadata.get("tags", [])]
    assert len(built) >= 12
    for n in built:
        later = "\n".join(c.source for c in cells[n:])
        assert all(later.count(name) > 1 for name in built_here.bare(cells[n].source))


def test_each_run_is_counted_and_spread_over_seeds_is_told(rows):
    table = lab.spread(rows, "rank")
    assert list(table.index) == ["base", "rank 4"] and table.loc["rank 4", "runs"] == 2
    assert table.loc["rank 4", "in the style"] == "0.95 ± 0.07"
    assert (
        table.loc["base", "in the style"] == "0.00" and table.loc["base", "processor minutes"] == ""
    )
    assert "rank 4: style in 95% of clips, old prompts right in 70%" in lab.verdict(rows, "rank")
    assert "(the base: 90%)" in lab.verdict(rows, "rank")
    assert "4 runs on a processor, 2026-11-26, 2 seeds" in lab.origin(rows)


def test_nothing_is_claimed_without_a_run(tmp_path):
    rows = lab.recorded(tmp_path / "none.jsonl")
    assert not len(rows) and "No run is recorded" in lab.origin(rows)
    assert "not recorded yet" in lab.spread(rows, "rank").to_string()
    assert "Not recorded" in lab.verdict(rows, "rank")
    with pytest.raises(ValueError, match="no study 'ranks'"):
        lab.spread(rows, "ranks")


@pytest.mark.parametrize("name", ["toy-robot", "toy-paper"])
def test_an_adapter_that_comes_along_is_taken_where_it_fits(name, tmp_path):
    mine = tmp_path / "mine.safetensors"
    found = lab.adapter(name, model_dir("toy-cogvideox"), mine)
    assert found.parent.name == name and found.is_file()
    assert lab.adapter("no such", model_dir("toy-cogvideox"), mine) == mine
    report = json.loads((found.parent / "report.json").read_text("utf-8"))
    assert report["base"] == fingerprint(model_dir("toy-cogvideox"))  # trained on these weights
    assert report["others"] >= 0.9 and report.get("style", report.get("subject")) >= 0.95
