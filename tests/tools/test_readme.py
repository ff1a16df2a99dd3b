"""The numbers of the README are the measured ones."""

from dataclasses import replace

import pytest

from tools import readme
from vidgen_lab.paths import notebooks_dir
from vidgen_lab.settings.runs import Run

README = (notebooks_dir().parent / "README.md").read_text(encoding="utf-8")
RUN = Run("clip", "tiny", 4.0, 1.0, "cpu", "laptop", 8, "2026-01-01")


def test_the_readme_is_up_to_date():
    assert readme.fill(README) == README, "python -m tools.book_map --write"


def test_a_tier_shows_the_times_of_the_device_recorded_last():
    whole = replace(RUN, task="chapter 1", seconds=240.0, note="busy")
    clips = [replace(RUN, device="old"), replace(RUN, seconds=100.0), replace(RUN, seconds=200.0)]
    third = replace(whole, task="chapter 3", seconds=61.0)
    lines = readme.tiers_part([*clips, whole, third]).splitlines()
    tiny = next(line for line in lines if line.startswith("| `tiny`"))
    times = "2 min 30 s (laptop, 8 cores) | 1: 4 min 00 s, 3: 1 min 01 s (laptop, 8 cores, busy) |"
    assert times in tiny
    assert lines[-1].endswith("| not recorded yet | not recorded yet |")


def test_the_model_is_described_by_its_report_best_first():
    share = {"subject": 0.5, "style": 0.97, "all_right": 0.25, "all_right_unseen": 0, "prompts": 80}
    report = {
        "adherence": share,
        "vae_psnr_db": {"mean": 31.26},
        "judge_accuracy": {"subject": 0.991, "style": 1.0},
    }
    text = " ".join(readme.model_part(report).split())
    assert "Of 80 held-out prompts" in text
    assert "the style in 97%, the subject in 50% right, and everything at once in 25%" in text
    assert "31.3 dB" in text and "99.1% or more" in text


def test_every_part_must_be_marked_and_no_other():
    for text in (README.replace("measured: model", "measured: weather"), "nothing"):
        with pytest.raises(ValueError, match="mark the parts"):
            readme.fill(text)
