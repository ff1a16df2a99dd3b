import numpy as np
import pytest
import torch

from vidgen_lab.video.clip import Clip
from vidgen_lab.video.tensors import as_clip, as_tensor


def test_every_value_survives_the_way_to_a_tensor_and_back():
    frames = np.arange(256, dtype=np.uint8).repeat(3).reshape(4, 8, 8, 3)
    assert np.array_equal(as_clip(as_tensor([Clip(frames, 8)])[0]).frames, frames)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_broken_model_does_not_look_like_a_black_video(value):
    video = torch.zeros(3, 2, 4, 4)
    video[0, 1, 2, 3] = value
    with pytest.raises(ValueError, match="NaN or infinity"):
        as_clip(video)
