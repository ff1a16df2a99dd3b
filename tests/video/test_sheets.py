import numpy as np
import pytest

from tests.video.conftest import numbered_clip
from vidgen_lab.video.clip import Clip
from vidgen_lab.video.sheets import clip_sheet, film_strip
from vidgen_lab.video.show import show_video, show_videos


def test_a_sheet_of_clips_runs_on_at_one_rate_and_waits_at_the_end():
    fast, slow = Clip(numbered_clip(4).frames, 16), Clip(numbered_clip(3).frames, 8)
    sheet = clip_sheet([slow, fast], width=96)
    assert (sheet.num_frames, sheet.fps) == (6, 16)
    assert np.array_equal(sheet.frames[3, :, :96], slow.frames[1])
    assert np.array_equal(sheet.frames[5, :, 100:], fast.frames[3])
    assert clip_sheet([slow] * 5, width=192).width == 4 * 192 + 3 * 4  # what fits on a page
    assert clip_sheet([slow] * 4, width=96, columns=2).frames.shape[1:3] == (132, 196)
    with pytest.raises(ValueError, match="no clips"):
        clip_sheet([])


def test_a_strip_runs_from_the_first_to_the_last_frame():
    clip = numbered_clip(17)
    doubled = clip.frames.repeat(2, axis=1).repeat(2, axis=2)
    strip = film_strip([clip], num=4)
    assert strip.shape == (128, 4 * 192 + 3 * 4, 3) and strip.dtype == np.uint8
    assert np.array_equal(strip[:, :192], doubled[0])
    assert np.array_equal(strip[:, -192:], doubled[-1])
    assert film_strip([clip], num=2).shape == (128, 2 * 192 + 4, 3)
    assert film_strip([clip], num=6).shape[1] == 6 * 96 + 5 * 4  # a page is no wider
    assert film_strip([numbered_clip(3)], num=8).shape == (64, 3 * 96 + 2 * 4, 3)


def test_film_strip_has_a_titled_row_per_clip():
    clips = [numbered_clip(17), numbered_clip(9)]
    strip = film_strip(clips, ["first é", "second " * 50], num=3, scale=1)
    assert strip.shape == (2 * (64 + 22) + 3 * 4, 3 * 96 + 2 * 4, 3)
    assert (strip[:22] < 128).any() and np.array_equal(strip[26:90, :96], clips[0].frames[0])
    assert np.array_equal(strip[-64:, -96:], clips[1].frames[-1])
    assert film_strip(clips, num=3, scale=1).shape[0] == 2 * 64 + 4
    beside = film_strip([*clips, clips[0]], num=3, scale=1, columns=2)
    assert beside.shape == (2 * 64 + 4, 2 * strip.shape[1] + 4, 3)
    assert (beside[70:, strip.shape[1] :] == 255).all()  # the second column has one row
    with pytest.raises(ValueError, match="no clips"):
        film_strip([])


@pytest.mark.parametrize("number", [0, -1])
def test_sizes_that_show_nothing_are_named(number):
    clip = numbered_clip(3)
    for show, name in (
        (lambda: show_video(clip, width=number), "width"),
        (lambda: show_video(numbered_clip(60), width=number), "width"),
        (lambda: show_videos([clip], width=number), "width"),
        (lambda: clip_sheet([clip], columns=number), "columns"),
        (lambda: film_strip([clip], columns=number), "columns"),
        (lambda: film_strip([clip], num=number), f"cannot take {number} of 3 frames"),
        (lambda: film_strip([clip], scale=number), "scale"),
    ):
        with pytest.raises(ValueError, match=name):
            show()


def test_a_title_of_two_lines_or_without_end_is_shown_in_one():
    for title in ("two\nlines", "x" * 10**6, "x " * 10**6, "\n"):
        assert film_strip([numbered_clip(3)], [title], num=3, scale=1).shape[0] <= 22 + 4 + 64
