import cv2
import numpy as np
import pytest

from tests.pipeline.samples import picture
from vidgen_lab.pipeline.read import pictures

ALL = (0, 1, 0, 1)  # the whole picture


def grey(seed: int, width: int = 160, height: int = 96) -> np.ndarray:
    return cv2.cvtColor(picture(seed, width, height), cv2.COLOR_RGB2GRAY)


def test_steepness_falls_with_blur_and_ignores_contrast():
    sharp = grey(1)
    values = [pictures.edge_steepness(cv2.GaussianBlur(sharp, (0, 0), s)) for s in (0.5, 1.5, 3)]
    assert values[0] > 0.3 > 0.22 > values[2]
    assert values == sorted(values, reverse=True)
    pale = (100 + sharp * 0.5).astype(np.uint8)
    assert pictures.edge_steepness(pale) == pytest.approx(pictures.edge_steepness(sharp), rel=0.25)


def test_grain_does_not_make_a_blurred_picture_sharp_but_raises_the_laplacian():
    sharp = grey(2)
    soft = cv2.GaussianBlur(sharp, (0, 0), 3)
    noise = np.random.default_rng(0).normal(0, 6, soft.shape)
    grainy = np.clip(soft + noise, 0, 255).astype(np.uint8)
    usual = [cv2.Laplacian(picture, cv2.CV_64F).var() for picture in (grainy, soft)]
    assert usual[0] > 10 * usual[1]
    assert (pictures.edge_steepness(grainy) or 0) < 0.75 * pictures.edge_steepness(sharp)


def test_a_picture_without_edges_has_no_steepness():
    assert pictures.edge_steepness(np.full((64, 96), 90, np.uint8)) is None


def test_bars_are_what_stays_black_all_the_time():
    brightest = np.full((64, 64), 120, np.uint8)
    assert pictures.bar_box([brightest]) == ALL
    brightest[:8] = brightest[-8:] = 3
    assert pictures.bar_box([brightest]) == (9 / 64, 55 / 64, 0, 1)
    assert pictures.bar_box([np.zeros((64, 64), np.uint8)]) == ALL  # nothing is no bar


def test_a_scene_that_is_dark_at_its_edge_has_no_bars():
    night = np.full((64, 64), 120, np.uint8)
    night[:12] = 2  # a sky above, nothing below
    assert pictures.bar_box([night]) == ALL
    night[-12:] = 2
    night[12:16] = night[-16:-12] = 14  # and light that fades: no edge
    assert pictures.bar_box([night]) == ALL


def test_colour_bars_are_stripes_and_a_picture_is_not():
    bars = np.repeat(np.linspace(20, 235, 8).astype(np.uint8), 8)[None].repeat(64, 0)
    assert pictures.stripes(bars) > 0.98 and pictures.stripes(grey(3)) < 0.8
    assert pictures.stripes(np.full((64, 64), 90, np.uint8)) == 0


def test_the_hash_survives_size_and_coding_and_tells_pictures_apart():
    one, other = grey(3), grey(4)
    smaller = cv2.resize(one, (96, 58), interpolation=cv2.INTER_AREA)
    coarse = cv2.imdecode(cv2.imencode(".jpg", one, [cv2.IMWRITE_JPEG_QUALITY, 20])[1], 0)
    bits = [int(pictures.perceptual_hash(grey), 16) for grey in (one, smaller, coarse, other)]
    apart = [(bits[0] ^ other).bit_count() for other in bits[1:]]
    assert max(apart[:2]) <= 6 and apart[2] > 16


def test_a_blank_picture_has_no_hash():
    noise = np.random.default_rng(0).normal(12, 2, (64, 96)).clip(0, 255).astype(np.uint8)
    assert pictures.perceptual_hash(noise) is None
