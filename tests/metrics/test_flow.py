import numpy as np
import pytest

from tests.metrics.samples import FPS, WIDTH, clip, flickering, pan, still, with_noise
from vidgen_lab.metrics.flow import analyse_flow, flow_magnitude


def percent_per_second(pixels: float, width: int = WIDTH, fps: float = FPS) -> float:
    return 100 * pixels / width * fps


@pytest.mark.parametrize("pixels", [1, 3, 6])
def test_a_pan_has_the_speed_it_was_given(pixels):
    report = analyse_flow(clip(pan(pixels, 9)))
    assert report.speed.shape == report.error.shape == (8,)
    assert report.camera.mean() == pytest.approx(percent_per_second(pixels), rel=0.05)
    assert report.speed.mean() == pytest.approx(percent_per_second(pixels), rel=0.1)
    assert report.error.max() < 1 and report.unexplained.max() < 0.06


def test_speed_depends_neither_on_the_sampling_nor_on_the_size():
    frames = pan(2, 33)
    full = flow_magnitude(clip(frames)).mean()
    assert flow_magnitude(clip(frames[::2], FPS / 2)).mean() == pytest.approx(full, rel=0.06)
    large = flow_magnitude(clip(pan(8, 5, width=4 * WIDTH, blur=12))).mean()
    assert large == pytest.approx(full, rel=0.06)


@pytest.mark.parametrize("sigma", [2, 5, 20])
def test_noise_is_not_motion(sigma):
    flat = np.full_like(still(9), 128)
    assert flow_magnitude(clip(with_noise(still(9), sigma))).mean() < 0.05
    assert flow_magnitude(clip(with_noise(flat, sigma))).mean() < 2  # unguarded: 100 and more
    moving = flow_magnitude(clip(with_noise(pan(3, 9), 10))).mean()
    assert moving == pytest.approx(percent_per_second(3), rel=0.1)  # nor does it hide motion


def test_flicker_is_error_and_not_motion():
    report = analyse_flow(clip(flickering(still(9), 40)))
    assert report.speed.mean() < 0.05
    assert report.error == pytest.approx(100 * 40 / 255, rel=0.05)
    assert report.unexplained.min() > 0.95


def test_flicker_does_not_hide_motion():
    report = analyse_flow(clip(flickering(pan(3, 9), 30)))
    assert report.camera.mean() == pytest.approx(percent_per_second(3), rel=0.1)
    assert report.error.mean() > 8


def test_a_cut_is_found_where_it_is():
    frames = pan(1, 20)
    frames[13:] = pan(1, 7, seed=9)
    report = analyse_flow(clip(frames))
    assert report.error.argmax() + 1 == 13 == report.unexplained.argmax() + 1
    assert report.error[12] > 6  # though nearly all of the picture is newly uncovered
    assert report.error[12] > 10 * np.delete(report.error, 12).max()
    assert report.speed[12] < report.speed[:12].mean()  # nothing is believed across a cut


@pytest.mark.parametrize("pixels, error", [(6, 0.25), (18, 0.5)])
def test_uncovered_background_is_no_flicker(pixels, error):
    frames = pan(0, 6, seed=5)
    for t in range(6):  # a square that moves over a still background
        frames[t, 30:90, 5 + pixels * t : 65 + pixels * t] = pan(0, 1, seed=7)[0, :60, :60]
    report = analyse_flow(clip(frames))
    assert report.error.mean() < error  # counted everywhere it is 0.73 at 18 pixels
    assert report.unexplained.mean() < 0.15 and report.camera.max() == 0
    if pixels == 6:
        share = 60 * 60 / (120 * 180)
        assert report.speed.mean() == pytest.approx(share * percent_per_second(6), rel=0.1)


def test_wrappers_and_refusals():
    moving = clip(pan(2, 4))
    report = analyse_flow(moving)
    assert np.array_equal(flow_magnitude(moving), report.speed)
    with pytest.raises(ValueError, match="two frames"):
        analyse_flow(clip(still(1)))
    with pytest.raises(ValueError, match="too small"):
        analyse_flow(clip(still(2)[:, :15]))
