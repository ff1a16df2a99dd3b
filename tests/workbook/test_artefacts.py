import json

import numpy as np
import pytest
from PIL import Image

from vidgen_lab.video.clip import Clip
from vidgen_lab.video.writer import write_clip
from vidgen_lab.workbook.artefacts import artefact_fault, check_artefacts, declared_artefacts


def moving(num_frames: int = 9) -> Clip:
    frames = np.zeros((num_frames, 32, 48, 3), np.uint8)
    for t in range(num_frames):
        frames[t, 8:24, 2 * t : 2 * t + 12] = (200, 80, 20)
    return Clip(frames, 8)


def test_sound_files_are_returned(tmp_path):
    write_clip(moving(), tmp_path / "a.mp4")
    (tmp_path / "t.csv").write_text("name,score\na,1.5\n")
    (tmp_path / "x.txt").write_text("a word")
    found, faults = check_artefacts(tmp_path, ["*.mp4", "*.csv", "x.txt"])
    assert [p.name for p in found] == ["a.mp4", "t.csv", "x.txt"] and faults == []


def test_every_missing_and_broken_artefact_is_named(tmp_path):
    (tmp_path / "t.csv").write_text("name,score\na,\nb,2\n")
    _, faults = check_artefacts(tmp_path, ["none.mp4", "t.csv"])
    assert faults == ["none.mp4: no such file", "t.csv: NaN or infinity in column score"]


def test_flat_video_is_degenerate(tmp_path):
    path = tmp_path / "flat.mp4"
    write_clip(Clip(np.full((5, 32, 48, 3), 128, np.uint8), 8), path)
    assert "constant pixels" in artefact_fault(path)


@pytest.mark.parametrize(("name", "wrong"), [("num_frames", 17), ("width", 96), ("fps", 24)])
def test_video_must_match_the_recipe_beside_it(tmp_path, name, wrong):
    path = tmp_path / "a.mp4"
    write_clip(moving(), path)
    recipe = {"num_frames": 9, "width": 48, "height": 32, "fps": 8, "prompt": "a ball"}
    path.with_suffix(".json").write_text(json.dumps(recipe))
    assert artefact_fault(path) is None
    path.with_suffix(".json").write_text(json.dumps(recipe | {name: wrong}))
    assert name in artefact_fault(path)


def test_truncated_video_is_unreadable(tmp_path):
    path = tmp_path / "a.mp4"
    write_clip(moving(), path)
    path.write_bytes(path.read_bytes()[:200])
    assert "unreadable" in artefact_fault(path)


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("a.json", b'{"x": NaN}', "NaN"),
        ("a.json", b"{", "unreadable"),
        ("a.csv", b"a,b\n", "no rows"),
        ("a.csv", b"a\ninf\n", "infinity"),
        ("a.txt", b"", "empty"),
    ],
)
def test_other_degenerate_files(tmp_path, name, content, fault):
    (tmp_path / name).write_bytes(content)
    assert fault in artefact_fault(tmp_path / name)


def test_degenerate_pictures(tmp_path):
    Image.new("RGB", (8, 8), "white").save(tmp_path / "w.png")
    assert "constant" in artefact_fault(tmp_path / "w.png")


@pytest.mark.parametrize("glob", ["", "/etc/passwd"])
def test_globs_that_lead_out_of_the_folder_are_refused_before_a_run(glob):
    with pytest.raises(ValueError, match="relative to the output folder"):
        declared_artefacts({"metadata": {"vidgen_lab": {"artefacts": ["a.png", glob]}}})
