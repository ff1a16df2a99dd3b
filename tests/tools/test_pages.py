"""The pages say what the map says, the numbers of the README are the measured ones."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.video.conftest import numbered_clip
from tools import pages
from tools.book_map import Entry, load_map
from vidgen_lab.paths import notebooks_dir
from vidgen_lab.settings.runs import Run
from vidgen_lab.toyworld import parse_prompt

README = (notebooks_dir().parent / "README.md").read_text(encoding="utf-8")
RUN = Run("clip", "tiny", 4.0, 1.0, "cpu", "laptop", 8, "2026-01-01")


ENTRY = Entry(
    topic="x",
    code="vidgen_lab.generation.generate.generate",
    section="01_first_video#Load, generate, save",
    test="tests/video/test_clip.py::test_properties",
)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A checkout with the pages alone."""
    (tmp_path / "docs").mkdir()
    for name in ("README.md", "docs/book_map.md", "docs/errata.md"):
        (tmp_path / name).write_bytes((pages.ROOT / name).read_bytes())
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    return tmp_path


def test_the_committed_pages_are_up_to_date():
    assert list(pages.outdated(load_map())) == [], "python -m tools --write"


@pytest.mark.parametrize("name", ["README.md", "docs/book_map.md", "docs/errata.md"])
def test_a_page_that_says_something_else_is_named_and_written(root, name):
    good = (root / name).read_text(encoding="utf-8")
    row = next(
        line for line in good.splitlines() if line.startswith(("| `tiny`", "| 1.01", "| E01"))
    )
    (root / name).write_text(good.replace(row, "| y |"), encoding="utf-8")
    assert list(pages.outdated(load_map())) == [
        f"{name} is not up to date: python -m tools --write"
    ]
    assert list(pages.outdated(load_map(), write=True)) == []
    assert (root / name).read_text(encoding="utf-8") == good


def test_the_pages_link_sections_and_tests():
    left = Entry(topic="y", left="too dated")
    built = ENTRY.model_copy(update={"code": ("01_first_video@paradox",)})
    text = pages.topics_part({"1.01": ENTRY, "1.02": left, "2.01": built})
    place = "[Load, generate, save](../notebooks/01_first_video.ipynb)"
    assert f"| 1.01 | x | `generation.generate.generate` | {place} |" in text
    assert "| [test_properties](../tests/video/test_clip.py) |" in text
    assert "| 1.02 | y | too dated |  |  |" in text
    assert f"## Chapter 2\n\n{pages.TOPICS}| 2.01 | x | [built in view](../notebooks/" in text


def test_errata_say_what_was_found_in_the_order_of_their_numbers():
    erratum = ENTRY.model_copy(update={"found": "wrong", "listing": "1.L10"})
    text = pages.errata_part({"E14": erratum, "E101": erratum, "E02": erratum})
    assert "| E14 | x (1.L10) | wrong | `generation" in text
    assert text.index("| E02") < text.index("| E14") < text.index("| E101")


def test_a_tier_shows_the_times_of_the_device_recorded_last():
    whole = replace(RUN, task="chapter 1", seconds=240.0, note="busy")
    clips = [replace(RUN, device="old"), replace(RUN, seconds=100.0), replace(RUN, seconds=200.0)]
    third = replace(whole, task="chapter 3", seconds=61.0)
    lines = pages.tiers_part([*clips, whole, third]).splitlines()
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
    text = " ".join(pages.model_part(report).split())
    assert "Of 80 held-out prompts" in text
    assert "the style in 97.0%, the subject in 50.0% right, and everything at once in 25.0%" in text
    assert "31.3 dB" in text and "99.1% or more" in text


def test_every_part_must_be_marked_and_no_other():
    made = {"tiers": "", "model": ""}
    for text in (README.replace("made: model", "made: weather"), "nothing"):
        with pytest.raises(ValueError, match="mark the parts"):
            pages.fill(text, made)


def test_the_picture_holds_every_clip_below_its_prompt_and_loops(root, monkeypatch):
    asked = []
    clip = numbered_clip(3)
    monkeypatch.setattr(pages, "load_pipeline", lambda: None)
    monkeypatch.setattr(
        pages, "generate", lambda pipe, r: asked.append(r) or SimpleNamespace(clip=clip)
    )
    (root / "docs" / "images").mkdir()
    pages.picture()
    assert [r.prompt for r in asked] == list(pages.PROMPTS) and {r.seed for r in asked} == {0}
    with Image.open(root / "docs" / "images" / "prompts.png") as image:
        assert image.width == 4 * 192 + 3 * 4 and image.height > 3 * 128
        assert (image.n_frames, image.info["loop"]) == (3, 0)
        assert (np.asarray(image.convert("RGB")) == 255).any()


def test_a_dozen_different_prompts_that_the_model_knows():
    assert len(set(pages.PROMPTS)) == 12
    assert all(parse_prompt(p)["subject"] for p in pages.PROMPTS)
