"""The script of chapter 5's experiments: settings exist, equal ones run once, runs are resumed."""

import json
import re

import nbformat
import numpy as np
import pytest
import torch

from benchmarks import adapters
from tests.workbook.test_recorded_runs import told
from vidgen_lab.finetuning.config import load_config
from vidgen_lab.paths import notebooks_dir
from vidgen_lab.video.clip import Clip
from vidgen_lab.video.tensors import as_tensor

MEASURED = {"style": 1.0, "others": 0.9, "kept": 0.8, "minutes": 2.0, "mib": 1.0}


@pytest.fixture
def light(monkeypatch):
    """Nothing is trained, rendered or sampled; `ran` has the output folders of what would be."""
    ran = []

    def run(config, prompts):
        ran.append(config.output.name)
        picture = "image-to-video" in config.model
        return {"minutes": 2.0, "first_frame": 17.0} if picture else dict(MEASURED)

    monkeypatch.setattr(adapters, "run", run)
    monkeypatch.setattr(adapters, "folder_of", lambda chosen, folder, *_: folder)
    monkeypatch.setattr(adapters, "judged", lambda *_: {"style": 0.0, "kept": 0.9})
    monkeypatch.setattr(adapters, "picture_kept", lambda *_: 9.0)
    monkeypatch.setattr(adapters, "quiet", lambda model: None)
    monkeypatch.setattr(adapters, "make_image_to_video", lambda model, out: out)
    return ran


def test_every_study_asks_for_settings_that_exist():
    cells = nbformat.read(notebooks_dir() / "05_lora_sft.ipynb", as_version=4).cells
    source = "\n".join(cell.source for cell in cells)
    assert set(adapters.STUDIES) == set(re.findall(r'\bspread\("(\w+)"\)', source))
    for settings in adapters.STUDIES.values():
        for changes in settings.values():
            given = [c for c in changes if not c.startswith(adapters.OURS)]
            load_config("toy-lora", ["data.folder=x", *adapters.COMMON, *given])


def test_the_chapters_own_training_is_measured():
    cells = nbformat.read(notebooks_dir() / "05_lora_sft.ipynb", as_version=4).cells
    source = "\n".join(cell.source for cell in cells)
    changes = dict(c.split("=", 1) for c in adapters.STUDIES["chapter"]["as above"] if "=" in c)
    clips, steps = changes["clips"], changes["training.steps"]
    rate = changes["optimizer.learning_rate"]
    assert f"count = 5 if short else {clips}\n" in source
    assert f"learning_rate: float = {float(rate):.1e}".replace("e-0", "e-") in source
    assert f"steps = steps or (3 if short else {steps})\n" in source
    assert f"a run has {adapters.CLIPS} clips and\n150 steps" in source
    given = [c for c in adapters.STUDIES["chapter"]["as above"] if not c.startswith(adapters.OURS)]
    plain, config = (load_config("toy-lora", ["data.folder=x", *more]) for more in ([], given))
    assert plain == config  # the command's recipe is the chapter's
    targets = config.lora.targets
    assert f"rank=rank, targets={targets}".replace("'", '"') in source


def test_equal_settings_run_once_and_what_is_there_is_not_run_again(light, tmp_path, capsys):
    file, out = tmp_path / "runs" / "adapters.jsonl", tmp_path / "out"
    given = ["--seeds", "0", "--out", str(out), "--record", str(file)]
    assert adapters.main(["rank", "method", *given]) == 0
    assert len(light) == len(set(light)) == 8  # 5 ranks and 4 methods, of which one is rank 16
    studies = [row["study"] for row in map(json.loads, file.read_text().splitlines())]
    assert studies.count("rank") == 5 and studies.count("method") == 4
    assert adapters.main(["rank", "method", *given]) == 0 and len(light) == 8
    assert adapters.main(["image", *given, "--seeds", "1"]) == 0 and len(light) == 10
    here = told(tmp_path)
    shown = here.spread("image")["first frame (dB)"]
    assert list(shown) == ["9.00", "17", "17"]  # the base has one, too
    assert "first frame (dB)" not in here.spread("rank")
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


def test_a_copy_is_told_from_a_new_clip():
    from tests.tiny_models import tiny_pipeline

    rng = np.random.default_rng(0)
    one, other = rng.integers(40, 216, (2, 8, 8, 3)).repeat(4, 1).repeat(4, 2)  # patterns of blocks

    def clip(picture):
        frames = picture + rng.integers(-9, 10, (9, 32, 32, 3))  # alike, not equal
        return Clip(frames.astype(np.uint8), 8.0)

    pipe, known = tiny_pipeline(), [clip(one) for _ in range(3)]
    with torch.no_grad():
        theirs = pipe.vae.encode(as_tensor(known)).latent_dist.mean
    assert adapters.copied(pipe, [known[1], clip(other)], theirs, 9) == 0.5
