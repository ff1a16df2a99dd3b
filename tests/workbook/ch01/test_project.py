"""The closing project: a finished one passes, an unfinished one is told what is missing."""

import json

import numpy as np
import pytest

from tests.tiny_models import build_tiny
from vidgen_lab.generation.generate import generate
from vidgen_lab.generation.loading import load_pipeline
from vidgen_lab.generation.recipe import save_generation
from vidgen_lab.generation.request import GenerationRequest
from vidgen_lab.video.clip import Clip
from vidgen_lab.video.writer import write_clip
from vidgen_lab.workbook.ch01.project import QUESTIONS, review, save_review

ANSWERS = {question: "five words are quite enough" for question in QUESTIONS}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    request = GenerationRequest("a ball", "", 1, 1.0, 9, 32, 32)
    folder = tmp_path_factory.mktemp("project")
    generation = generate(load_pipeline(build_tiny(folder / "model"), device="cpu"), request)
    return generation, save_generation(generation, folder / "my.mp4")


def test_answers_and_file_are_checked(made):
    table = review(*made, ANSWERS).set_index("check")
    assert table.loc["the file plays", "passed"]
    assert table.loc[list(QUESTIONS), "passed"].all()
    assert (
        "it shows the prompt" not in table.index
    )  # the judge knows the embedded model's world only


def test_missing_answers_are_named(made):
    table = review(*made, {QUESTIONS[0]: "too short"}).set_index("check")
    assert not table.loc[QUESTIONS[0], "passed"] and table.loc[QUESTIONS[0], "note"] == "2 words"
    assert table.loc[QUESTIONS[1], "note"] == "not answered yet"


def test_a_frozen_or_cut_file_does_not_pass(made, tmp_path):
    generation, _ = made
    frozen = Clip(np.repeat(generation.clip.frames[:1], 8, axis=0), 8)
    table = review(generation, write_clip(frozen, tmp_path / "f.mp4"), ANSWERS).set_index("check")
    assert not table.loc["the file plays", "passed"]
    assert not table.loc["something happens", "passed"]


def test_review_is_written_as_json(made, tmp_path):
    table = review(*made, ANSWERS)
    path = save_review(tmp_path / "review.json", table, ANSWERS)
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert stored["answers"] == ANSWERS and len(stored["checks"]) == len(table)
    assert list(tmp_path.iterdir()) == [path]
