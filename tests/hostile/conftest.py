import json
import shutil

import numpy as np
import pytest

from tests.tiny_models import build_tiny
from vidgen_lab.video.clip import Clip
from vidgen_lab.video.writer import write_clip


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A tiny model; copy it before spoiling it."""
    return build_tiny(tmp_path_factory.mktemp("hostile") / "model")


@pytest.fixture(scope="session")
def sample(tmp_path_factory):
    """A sound video of nine frames."""
    frames = np.zeros((9, 32, 48, 3), np.uint8)
    for t, frame in enumerate(frames):
        frame[8:24, 4 * t : 4 * t + 8] = (220, 60, 20)
    return write_clip(Clip(frames, 8), tmp_path_factory.mktemp("hostile") / "sample.mp4")


@pytest.fixture
def here(tmp_path, monkeypatch, sample):
    """A working folder with a video, somebody's data, a full and an empty folder."""
    folder = tmp_path / "hére"
    folder.mkdir()
    monkeypatch.chdir(folder)
    shutil.copy(sample, "clip.mp4")
    (folder / "data.json").write_text('{"years": "of work"}')
    (folder / "text.mp4").write_text("no video")
    (folder / "empty.mp4").touch()
    (folder / "full").mkdir()
    (folder / "full" / "mine.txt").write_text("mine")
    (folder / "nothing").mkdir()
    return folder


@pytest.fixture
def recipe(here, tiny):
    """A sound recipe in the working folder, to be spoilt; returns it and its file."""
    made = {
        "prompt": "a red ball", "negative_prompt": "", "num_inference_steps": 2,
        "guidance_scale": 6.0, "num_frames": 9, "height": 32, "width": 32, "fps": 8.0, "seed": 0,
        "model": str(tiny), "dtype": "float32", "offload": "none", "vae_tiling": False,
        "scheduler": "CogVideoXDDIMScheduler", "versions": {"torch": "2.9"},
    }  # fmt: skip
    file = here / "recipe.json"
    file.write_text(json.dumps(made))
    return made, file
