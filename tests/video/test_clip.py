import numpy as np
import pytest

from vidgen_lab.video.clip import Clip


def test_properties():
    clip = Clip(np.zeros((17, 64, 96, 3), np.uint8), 8)
    assert (clip.num_frames, clip.height, clip.width, len(clip)) == (17, 64, 96, 17)
    assert clip.fps == 8.0 and clip.duration == 17 / 8
    assert repr(clip) == "Clip(17 frames, 96x64, 8 fps)"


@pytest.mark.parametrize(
    "frames, fps, error, message",
    [
        (np.zeros((2, 4, 4, 3), np.float32), 8, TypeError, "uint8.*from_float"),
        (np.zeros((2, 3, 4, 4), np.uint8), 8, ValueError, r"\[T, H, W, 3\]"),
        (np.zeros((4, 4, 3), np.uint8), 8, ValueError, r"\[T, H, W, 3\]"),
        (np.zeros((0, 4, 4, 3), np.uint8), 8, ValueError, "at least one frame"),
        ([np.zeros((4, 4, 3), np.uint8)], 8, TypeError, "np.stack"),
        (np.zeros((2, 4, 4, 3), np.uint8), 0, ValueError, "fps"),
        (np.zeros((2, 4, 4, 3), np.uint8), float("nan"), ValueError, "fps"),
    ],
)
def test_bad_input_is_refused_with_the_remedy(frames, fps, error, message):
    with pytest.raises(error, match=message):
        Clip(frames, fps)


def test_floats_need_their_range_said():
    levels = np.array([0.0, 0.5, 1.0], np.float32).reshape(3, 1, 1, 1).repeat(3, -1)
    assert Clip.from_float(levels, 8).frames[:, 0, 0, 0].tolist() == [0, 128, 255]
    assert Clip.from_float(levels, 8, low=-1.0).frames[:, 0, 0, 0].tolist() == [128, 191, 255]
    with pytest.raises(ValueError, match="NaN"):
        Clip.from_float(levels * np.nan, 8)
