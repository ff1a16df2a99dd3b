import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio as psnr

from vidgen_lab.workbook.ch02 import dct


@pytest.fixture(scope="module")
def grey():
    x, y = np.meshgrid(np.arange(50), np.arange(37))
    return (128 + 90 * np.sin(x / 7) * np.cos(y / 5)).astype(np.uint8)


def test_rounding_is_the_only_loss(grey):
    fine = dct.decode_picture(dct.encode_picture(grey, 0.01))
    assert fine.shape == grey.shape and np.abs(fine.astype(int) - grey).max() <= 1


def test_larger_steps_cost_likeness_and_save_bits(grey):
    coded = [dct.encode_picture(grey, step) for step in (2, 16, 100)]
    bits = [c.bits_per_pixel for c in coded]
    quality = [psnr(grey, dct.decode_picture(c)) for c in coded]
    assert bits == sorted(bits, reverse=True) and quality == sorted(quality, reverse=True)
    assert coded[0].zeros < coded[2].zeros <= 1


def test_one_wave_is_one_number():
    wave = np.cos(np.pi * (2 * np.arange(8) + 1) * 2 / 16)
    block = (128 + 60 * np.tile(wave, (8, 1))).round().astype(np.uint8)
    (levels,) = dct.encode_picture(block, 4).levels[0]
    assert abs(levels[0, 2]) == np.abs(levels).max() > 20
    assert (np.abs(levels) > 1).sum() == 1
