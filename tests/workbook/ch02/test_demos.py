import cv2
import numpy as np
import pytest

from tests.pipeline.samples import moving, save
from vidgen_lab.metrics.flow import flow_magnitude
from vidgen_lab.pipeline.read.probing import probe_file
from vidgen_lab.toyworld.raw import SHARES
from vidgen_lab.video.clip import Clip
from vidgen_lab.workbook.ch02 import demos


def test_flow_between_neighbours_is_the_speed_of_a_pan():
    ours = [
        flow_magnitude(Clip(pan.frames[n : n + 2], 8))[0]
        for pan in (demos.pan(2, 49), demos.pan(2, 97))
        for n in (3, 30)
    ]
    assert max(ours) < 1.1 * min(ours)
    assert ours[0] == pytest.approx(100 * 2 * 8 / 256, rel=0.15)


def test_the_collection_is_made_once_and_carries_rights(tmp_path):
    videos, truth = demos.collect(None, tmp_path / "raw", len(SHARES), seed=0)
    stamp = (videos / truth[0].file).stat().st_mtime_ns
    again, same = demos.collect(None, tmp_path / "raw", len(SHARES), seed=0)
    assert (again, same) == (videos, truth)
    assert (videos / truth[0].file).stat().st_mtime_ns == stamp
    assert "CC0" in (videos / "rights.csv").read_text(encoding="utf-8")
    assert demos.collect(str(tmp_path), tmp_path / "x", 1, 0) == (tmp_path, [])


def test_a_collection_that_was_stopped_is_made_anew_and_nothing_else_is_lost(tmp_path):
    (tmp_path / "raw" / "videos").mkdir(parents=True)
    (tmp_path / "raw" / "notes.txt").write_text("mine")
    videos, truth = demos.collect(None, tmp_path / "raw", len(SHARES), seed=0)
    assert len(truth) == len(SHARES) and videos.is_dir()
    assert (tmp_path / "raw" / "notes.txt").read_text() == "mine"


def test_a_sample_of_your_own_folder_is_small(tmp_path):
    frames = [cv2.resize(frame, (500, 400)) for frame in moving(1, 200).frames]
    big = Clip(np.stack(frames), 8)
    facts = {"a.mp4": probe_file(save(big, tmp_path / "a.mp4"))}
    sample = demos.pick_sample(tmp_path, (), facts, tmp_path / "work")
    excerpt = probe_file(sample)
    assert (excerpt.width, excerpt.height, excerpt.num_frames) == (300, 240, 120)
    shown = demos.glimpse(tmp_path / "a.mp4")
    assert shown.num_frames <= 48 and shown.width == 240
    with pytest.raises(ValueError, match="could be opened"):
        demos.pick_sample(tmp_path, (), {}, tmp_path)
