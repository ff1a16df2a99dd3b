"""Folders written for trainers read back as what was rendered."""

import json

import cv2
import numpy as np
import pytest

from vidgen_lab.toyworld import Scene, parse_prompt, render
from vidgen_lab.toyworld.dataset import write_dataset, write_world_sheet
from vidgen_lab.toyworld.world import SUBJECTS
from vidgen_lab.video.reader import read_clip


def test_every_layout_lists_the_same_clips(tmp_path):
    folder = write_dataset(tmp_path / "toy clips", 4, seed=1)
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    assert (folder / "videos.txt").read_text().splitlines() == [r["file_name"] for r in rows]
    assert (folder / "prompts.txt").read_text().splitlines() == [r["text"] for r in rows]
    for row in rows:
        names = ("subject", "colour", "motion", "background", "style", "seed")
        scene = Scene(**{name: row[name] for name in names})
        assert parse_prompt(row["text"])["subject"] == scene.subject
        clip, made = read_clip(folder / row["file_name"]), render(scene)
        assert clip.fps == 8 and clip.frames.shape == made.clip.frames.shape
        assert np.abs(clip.frames.astype(int) - made.clip.frames).mean() < 6
        truth = np.load(
            folder / row["file_name"].replace("videos/", "truth/").replace("mp4", "npz")
        )
        assert np.array_equal(truth["masks"], made.masks)
        assert np.array_equal(truth["boxes"], made.boxes)
        assert np.array_equal(truth["centers"], made.centers)
    assert not list(folder.rglob("*.tmp*"))


def test_nothing_of_the_users_is_overwritten(tmp_path):
    (tmp_path / "prompts.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not empty"):
        write_dataset(tmp_path, 1)
    assert [p.name for p in tmp_path.iterdir()] == ["prompts.txt"]


def test_the_world_sheet_shows_every_subject(tmp_path):
    sheet = cv2.imread(str(write_world_sheet(tmp_path / "new" / "world.png")))
    assert len(sheet) > 96 * len(SUBJECTS) / 2 and sheet.std() > 20
    assert sheet.shape[1] < 900  # a page's width, or its captions cannot be read
