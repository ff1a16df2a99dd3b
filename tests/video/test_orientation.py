"""Pictures are turned before they become RGB: the result is that of turning them afterwards."""

from itertools import product

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace

from vidgen_lab.video.orientation import Upright

FORMATS = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p10le", "gray", "bgr0")


def shown(picture: np.ndarray, upright: Upright) -> np.ndarray:
    picture = picture.swapaxes(0, 1) if upright.diagonal else picture
    picture = picture[:, ::-1] if upright.across else picture
    return picture[::-1] if upright.down else picture


@pytest.mark.parametrize("upright", [Upright(*bits) for bits in product((False, True), repeat=3)])
@pytest.mark.parametrize("pixels", FORMATS)
def test_turned_as_rgb_would_be(upright, pixels):
    y, x = np.mgrid[:48, :64]
    waves = [np.sin(x / 9 + n) + np.cos(y / 7 - n) for n in range(3)]
    rgb = (127 + 50 * np.stack(waves, -1)).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format=pixels)
    frame.colorspace, frame.color_range = Colorspace.ITU709, ColorRange.JPEG
    turn = upright.turner()
    for number in range(2):  # twice: the first picture opens the filter
        frame.pts = number
        turned = turn(frame)
        assert turned.pts == number
        found = turned.to_ndarray(format="rgb24").astype(int)
        wanted = shown(frame.to_ndarray(format="rgb24"), upright)
        assert np.abs(found - wanted).mean() < 1.5 and found.shape == wanted.shape


def test_a_stream_that_changes_its_size_is_turned_on():
    turn = Upright(True, False, True).turner()
    for width, height in ((64, 48), (32, 16), (64, 48)):
        frame = av.VideoFrame.from_ndarray(np.zeros((height, width, 3), np.uint8), "rgb24")
        assert (turn(frame).width, turn(frame).height) == (height, width)
