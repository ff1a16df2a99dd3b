"""The script of chapter 5's experiments: settings exist, equal ones run once, runs are resumed."""

import json

import numpy as np
import pytest

from benchmarks import adapters
from vidgen_lab.finetuning.config import load_config
from vidgen_lab.video.clip import Clip
from vidgen_lab.workbook.ch05 import lab

MEASURED = {"style": 1.0, "others": 0.9, "kept": 0.8, "minutes": 2.0, "mib": 1.0}


@pytest.fixture
def light(monkeypatch):
    """Nothing is trained, rendered or sampled; `ran` has the output folders of what would be."""
    ran = []

    def run(config, prompts):
        ran.append(config.output.name)
        return dict(MEASURED)

    monkeypatch.setattr(adapters, "run", run)
    monkeypatch.setattr(adapters, "folder_of", lambda chosen, folder, size: folder)
    monkeypatch.setattr(adapters, "judged", lambda *_: {"style": 0.0, "kept": 0.9})
    return ran


def test_every_study_asks_for_settings_that_exist():
    assert set(adapters.STUDIES) == set(lab.STUDIES)
    for settings in adapters.STUDIES.values():
        for changes in settings.values():
            given = [c for c in changes if "." in c or c.startswith("method=")]
            load_config("toy-lora", ["data.folder=x", *adapters.COMMON, *given])


def test_equal_settings_run_once_and_what_is_there_is_not_run_again(light, tmp_path, capsys):
    file, out = tmp_path / "runs.jsonl", tmp_path / "out"
    given = ["--seeds", "1", "--out", str(out), "--record", str(file)]
    assert adapters.main(["rank", "method", *given]) == 0
    assert len(light) == len(set(light)) == 8  # 5 ranks and 4 methods, of which one is rank 16
    rows = lab.recorded(file)
    assert list(rows.study).count("rank") == 5 and list(rows.study).count("method") == 4
    assert adapters.main(["rank", "method", *given]) == 0 and len(light) == 8
    assert adapters.main(["rank", *given, "--steps", "7"]) == 0  # other settings: all anew
    assert {json.loads(line)["steps"] for line in file.read_text().splitlines()} == {7}
    assert adapters.main(["ranks", *given]) == 1
    assert "no study ranks" in capsys.readouterr().err


def test_new_prompts_name_the_style_and_old_ones_do_not():
    new, old = (adapters.scenes(6, 1, style=style) for style in ("papercut", "cartoon"))
    assert all(adapters.said(s, 0).endswith(adapters.WORDS) for s in new)
    assert not any("paper" in adapters.said(s, 0) for s in old)
    robots = adapters.scenes(6, 1, subject="robot")
    assert {s.subject for s in robots} == {"robot"} and len({s.motion for s in robots}) > 1


def test_a_copy_is_told_from_a_new_clip(tmp_path):
    from tests.tiny_models import tiny_pipeline
    from vidgen_lab.video.reader import read_clip
    from vidgen_lab.video.writer import write_clip

    rng = np.random.default_rng(0)
    one, other = rng.integers(40, 216, (2, 8, 8, 3)).repeat(4, 1).repeat(4, 2)  # patterns of blocks

    def clip(picture):
        frames = picture + rng.integers(-9, 10, (9, 32, 32, 3))  # alike, not equal
        return Clip(frames.astype(np.uint8), 8.0)

    paths = [write_clip(clip(one), tmp_path / f"{n}.mp4") for n in range(3)]
    copy, new = read_clip(paths[1]), clip(other)
    assert adapters.copied(tiny_pipeline(), [copy, new], paths) == 0.5
