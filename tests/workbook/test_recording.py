"""A run becomes lines of the table of recorded runs: only if it can be compared with others."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from vidgen_lab import cli
from vidgen_lab.generation.request import GenerationRequest
from vidgen_lab.settings import runs
from vidgen_lab.settings.tiers import load_tiers
from vidgen_lab.workbook import recording
from vidgen_lab.workbook.runner import ChapterRun

TIER = load_tiers()["ci"]


@pytest.fixture
def table(tmp_path, monkeypatch) -> Path:
    path = tmp_path / "recorded_runs.jsonl"
    monkeypatch.setattr(runs, "runs_file", lambda: path)
    return path


@pytest.fixture
def run(tmp_path) -> ChapterRun:
    """A chapter that saved three clips: one without a recipe, two with."""
    usual = GenerationRequest.for_tier(TIER, "a ball", seed=3)
    for name, request in (("b", usual.with_(num_inference_steps=99)), ("c", usual)):
        recipe = request.to_dict() | {
            "model": TIER.model, "dtype": "float32", "offload": None, "versions": {},
            "seconds": 2.5, "peak_memory_gib": 0.7,
        }  # fmt: skip
        (tmp_path / f"{name}.json").write_text(json.dumps(recipe))
    videos = [tmp_path / f"{name}.mp4" for name in "abc"]
    return ChapterRun(tmp_path, tmp_path / "03_x.ipynb", tmp_path / "x.html", videos, 100.0, 1.2)


def test_chapter_and_clip_are_recorded_with_device_versions_and_day(run, table):
    made = recording.record_chapter(run, TIER, "quiet machine")
    assert runs.load_runs(table) == made
    assert [(r.task, r.seconds, r.peak_memory_gib) for r in made] == [
        ("clip", 2.5, 0.7),
        ("chapter 3", 100.0, 1.2),
    ]
    for one in made:
        assert (one.tier, one.model, one.note) == ("ci", TIER.model, "quiet machine")
        assert one.cores >= 1 and one.device and one.versions["torch"] and one.date > "2025"
    assert runs.forecast("ci", 3, runs=made).seconds == 100


def test_a_chapter_without_such_a_clip_is_one_line(run, table):
    made = recording.record_chapter(replace(run, artefacts=run.artefacts[:2]), TIER)
    assert [r.task for r in made] == ["chapter 3"]


def test_a_run_with_parameters_of_its_own_is_refused_before_it_starts(table, capsys):
    assert recording.check_recordable({"tier": "ci", "out_dir": "x"}) == TIER
    assert cli.main(["chapter", "1", "--tier", "ci", "-p", "seed", "3", "--record"]) == 2
    assert "leave out seed" in capsys.readouterr().err
    assert not table.exists()
