"""Which bucket a clip gets, and what is said of those that get none."""

import pytest

from tests.training.samples import LONG, TALL, WIDE, record
from vidgen_lab.training.data.buckets import Bucket, assign


def test_a_clip_goes_where_most_of_it_is_kept(clips):
    assert [str(bucket) for _, bucket in clips] == ["9x32x48"] * 4 + ["5x48x32", "5x32x48"]
    few = Bucket(5, 64, 96)
    for num_frames, height, width, buckets, best in (
        (16, 64, 96, (few, LONG), LONG),  # frames count, pixels hardly
        (8, 64, 96, (few, LONG), few),
        (16, 64, 96, (WIDE, TALL), WIDE),
        (16, 96, 64, (WIDE, TALL), TALL),
        (16, 64, 96, (WIDE, Bucket(5, 48, 64), few), few),  # the aspect ratio, then pixels
        (16, 64, 96, (WIDE, Bucket(9, 48, 32)), WIDE),  # 9 x 0.44 of the picture is less than 5
        (16, 64, 96, (WIDE, Bucket(13, 48, 32)), Bucket(13, 48, 32)),
        (16, 80, 80, (WIDE, TALL), TALL),  # a tie is broken the same way in any order
        (16, 480, 720, (Bucket(5, 240, 360), Bucket(5, 480, 718)), Bucket(5, 480, 718)),
    ):
        for order in (buckets, buckets[::-1]):
            assert assign([record("a", num_frames, height, width)], order).clips[0][1] == best


def test_clips_without_a_bucket_are_reported_by_reason():
    table = [
        record("good"),
        record("short", num_frames=4),
        record("small", height=20),
        record("brief", num_frames=1),
    ]
    found = assign(table, (WIDE, TALL))
    assert [clip.id for clip, _ in found.clips] == ["good"] and found.counts == {WIDE: 1}
    assert found.reasons == {"too_short": 2, "too_small": 1}
    assert [(u.clip.id, u.reason, u.detail) for u in found.unfit] == [
        ("short", "too_short", "4 frames, every bucket has 5 or more"),
        ("small", "too_small", "20x96 enlarged 1.60 times, over 1"),
        ("brief", "too_short", "1 frames, every bucket has 5 or more"),
    ]
    assert str(found).splitlines() == [
        "     1  5x32x48",
        "     2  too_short, such as short: 4 frames, every bucket has 5 or more",
        "     1  too_small, such as small: 20x96 enlarged 1.60 times, over 1",
    ]
    assert len(assign(table, (WIDE,), max_upscale=1.6).clips) == 2


def test_a_set_that_fits_nowhere_says_why():
    with pytest.raises(ValueError, match=r"not one of 2 clips fits(.|\n)*2  too_short"):
        assign([record(num_frames=2), record(num_frames=3)], (WIDE,))
    with pytest.raises(ValueError, match="at least one bucket"):
        assign([record()], ())
    with pytest.raises(ValueError, match="at least one frame of one pixel"):
        Bucket(0, 8, 8)
