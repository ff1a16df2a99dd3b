import numpy as np
import pytest
import torch

from vidgen_lab.video.clip import Clip
from vidgen_lab.video.tensors import as_clip, as_tensor, cover


def test_every_value_survives_the_way_to_a_tensor_and_back():
    frames = np.arange(256, dtype=np.uint8).repeat(3).reshape(4, 8, 8, 3)
    assert np.array_equal(as_clip(as_tensor([Clip(frames, 8)])[0]).frames, frames)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_broken_model_does_not_look_like_a_black_video(value):
    video = torch.zeros(3, 2, 4, 4)
    video[0, 1, 2, 3] = value
    with pytest.raises(ValueError, match="NaN or infinity"):
        as_clip(video)


def test_covering_distorts_nothing_and_cuts_the_centre():
    frames = np.zeros((2, 40, 100, 3), np.uint8)
    frames[:, :, 30:70] = 255  # the middle square
    video = cover(frames, 20, 20)
    assert video.shape == (3, 2, 20, 20) and video.dtype == torch.uint8
    assert (video[..., 1:-1] > 250).all()
    same = np.random.default_rng(0).integers(0, 256, (2, 20, 30, 3), np.uint8)
    assert np.array_equal(cover(same, 20, 30).numpy(), same.transpose(3, 0, 1, 2))
    assert np.array_equal(cover(same, 20, 20).numpy(), same.transpose(3, 0, 1, 2)[..., 5:25])
    assert cover(same, 41, 30).shape == (3, 2, 41, 30)
