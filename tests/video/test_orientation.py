"""The eight ways in which a stored picture can lie."""

from itertools import product

import numpy as np
import pytest

from vidgen_lab.video.orientation import turned


@pytest.mark.parametrize(("diagonal", "across", "down"), [*product((False, True), repeat=3)])
def test_turned_as_rgb_would_be(diagonal, across, down):
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    wanted = picture.swapaxes(0, 1) if diagonal else picture
    wanted = wanted[:, ::-1] if across else wanted
    wanted = wanted[::-1] if down else wanted
    found = turned(picture, diagonal, across, down)
    assert np.array_equal(found, wanted) and found.flags.c_contiguous
