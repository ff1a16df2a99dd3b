"""The closing project of chapter 1: a clip of your own, its scores, and an honest look back."""

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from vidgen_lab.files import write_files
from vidgen_lab.generation.generate import Generation
from vidgen_lab.metrics.adherence import prompt_adherence
from vidgen_lab.metrics.basics import evaluate_video_basics
from vidgen_lab.video.reader import read_clip

QUESTIONS = ("what I wanted", "what I see", "what I would change")
LEAST_WORDS = 5


def review(generation: Generation, path: Path, answers: Mapping[str, str]) -> pd.DataFrame:
    """Check a finished project: the file, what it shows, and the answers to QUESTIONS.

    path: the MP4 that was written. Returns one row per check: check, passed, note. What cannot be
    measured (a prompt outside the toy world) is left out.
    """
    clip = read_clip(path)
    asked = generation.recipe["num_frames"]
    basics = evaluate_video_basics(clip)
    rows = [
        ("the file plays", clip.num_frames == asked, f"{clip.num_frames} frames of {asked}"),
        ("something happens", not basics.static, basics.verdicts["flow"]),
        ("it is steady", basics.verdicts["steadiness"] == "steady", basics.verdicts["steadiness"]),
    ]
    if generation.recipe["model"] == "toy-cogvideox":
        adherence = prompt_adherence(clip, generation.recipe["prompt"])
        if adherence.measurable:
            rows.append(("it shows the prompt", bool(adherence.all_right), str(adherence)))
    for question in QUESTIONS:
        words = len(answers.get(question, "").split())
        note = f"{words} words" if words else "not answered yet"
        rows.append((question, words >= LEAST_WORDS, note))
    return pd.DataFrame(rows, columns=["check", "passed", "note"])


def save_review(path: Path, table: pd.DataFrame, answers: Mapping[str, str]) -> Path:
    """Write the checks and the answers as JSON, whole or not at all."""
    content = {"checks": table.to_dict("records"), "answers": dict(answers)}
    write_files({path: json.dumps(content, indent=2, ensure_ascii=False) + "\n"})
    return path
