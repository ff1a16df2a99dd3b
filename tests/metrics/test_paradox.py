import numpy as np
import pytest

from vidgen_lab.metrics.basics import evaluate_video_basics
from vidgen_lab.metrics.paradox import paradox_clips


@pytest.fixture(scope="module")
def measured():
    return {name: evaluate_video_basics(clip) for name, clip in paradox_clips().items()}


def test_the_paradox_consistency_prefers_what_is_broken(measured):
    assert measured["frozen"].consistency == 1
    assert measured["flickering"].consistency > 0.95 > measured["moving"].consistency


def test_the_flow_tells_all_four_apart(measured):
    moving, frozen = measured["moving"], measured["frozen"]
    flickering, teleporting = measured["flickering"], measured["teleporting"]
    assert moving.flow_speed > 3 and moving.verdicts["steadiness"] == "steady"
    assert frozen.static and not any(measured[n].static for n in measured if n != "frozen")
    assert flickering.flow_speed < 0.05 and flickering.warping_error > 10 * moving.warping_error
    assert teleporting.unexplained > 10 * moving.unexplained
    assert teleporting.verdicts["steadiness"].startswith("jumps")


def test_teleporting_has_flawless_frames_and_clips_are_repeatable():
    clips = paradox_clips(seed=3)
    shuffled = np.sort([frame.sum() for frame in clips["teleporting"].frames.astype(np.int64)])
    in_order = np.sort([frame.sum() for frame in clips["moving"].frames.astype(np.int64)])
    assert np.array_equal(shuffled, in_order)
    again = paradox_clips(seed=3)
    assert all(np.array_equal(clips[name].frames, again[name].frames) for name in clips)
