"""The measurements at full size, tried on small models; their record, beside the planner."""

import json
from dataclasses import replace

import pytest
import torch

from benchmarks import full_size
from vidgen_lab.paths import data_dir


@pytest.mark.parametrize("name", full_size.TRAININGS)
def test_every_training_takes_its_steps(name):
    row = full_size.training(name, replace(full_size.SMALL, latents=(16, 3, 8, 10)), steps=2)
    assert row["seconds"] > 0


def test_a_clip_is_sampled_and_decoded():
    row = full_size.clip(replace(full_size.SMALL, latents=(16, 2, 8, 10)), steps=2)
    assert row["seconds"] > 0 and row["decoding"] > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there it would measure")
def test_without_a_gpu_nothing_is_recorded(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["full_size.py", "--record", str(tmp_path / "rows.jsonl")])
    assert full_size.main() == 1 and "needs a GPU" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_planner_never_promises_less_than_was_measured():
    """And not much more: it also holds for tools that keep more than our trainer."""
    file = data_dir() / "runs" / "full_size.jsonl"
    rows = {row["name"]: row for row in map(json.loads, file.read_text("utf-8").splitlines())}
    assert set(rows) == {*full_size.TRAININGS, "clip"}
    for name, row in rows.items():
        assert row["peak_gib"] < full_size.planned_gib(name) < 1.5 * row["peak_gib"]
