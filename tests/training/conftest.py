"""What the tests of training share: a folder of clips."""

import numpy as np
import pytest

from tests.pipeline.samples import moving, save
from tests.training.samples import LONG, TALL, WIDE
from vidgen_lab.training.data.buckets import assign
from vidgen_lab.training.data.clips import read_clips
from vidgen_lab.video.clip import Clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six clips: four of 96x64 and 16 frames, one upright, one of 7 frames."""
    folder = tmp_path_factory.mktemp("clips")
    made = [moving(n) for n in range(4)]
    made += [
        Clip(np.ascontiguousarray(moving(4).frames.transpose(0, 2, 1, 3)), 8),
        moving(5, num_frames=7),
    ]
    names = [f"{n}.mp4" for n in range(len(made))]
    for name, clip in zip(names, made, strict=True):
        save(clip, folder / name)
    (folder / "videos.txt").write_text("\n".join(names))
    (folder / "prompts.txt").write_text("\n".join(f"clip {n}" for n in names))
    return folder


@pytest.fixture(scope="module")
def clips(folder):
    return assign(read_clips(folder), (WIDE, TALL, LONG)).clips
