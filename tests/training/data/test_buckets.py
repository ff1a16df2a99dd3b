"""Which bucket a clip gets, and what is said of those that get none."""

from collections import Counter

import pytest

from tests.training.samples import LONG, TALL, WIDE, record
from vidgen_lab.training.data.buckets import Bucket, BucketBatchSampler, assign


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
    assert [(clip.id, bucket) for clip, bucket in found.clips] == [("good", WIDE)]
    assert [(clip.id, reason, detail) for clip, reason, detail in found.unfit] == [
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


# batches ----------------------------------------------------------------------------------------


def pretended(counts):
    """Clips for the sampler, which never opens one: {bucket: number} -> (record, bucket)s."""
    made = [b for b, count in counts.items() for _ in range(count)]
    return [(record(f"{n}.mp4"), bucket) for n, bucket in enumerate(made)]


def test_every_batch_is_from_one_bucket_and_every_clip_is_seen_once():
    table = pretended({WIDE: 7, TALL: 5})
    sampler = BucketBatchSampler(table, 3)
    batches = sampler.batches(0)
    assert sorted(key for batch in batches for key in batch) == [(n, 0) for n in range(12)]
    assert all(len({table[index][1] for index, _ in batch}) == 1 for batch in batches)
    assert sorted(map(len, batches)) == [1, 2, 3, 3, 3] and len(sampler) == 5
    assert list(sampler) == sampler.batches(0)
    assert batches == BucketBatchSampler(table, 3).batches(0)
    assert [sorted(b) for b in batches] != [[(i, 0) for i, _ in sorted(b)] for b in batches[::-1]]
    first = [[index for index, _ in batch] for batch in batches]
    assert first != [[index for index, _ in batch] for batch in sampler.batches(1)]
    assert batches != BucketBatchSampler(table, 3, seed=1).batches(0)


def test_batch_sizes_may_differ():
    table = pretended({WIDE: 7, TALL: 5})
    batches = BucketBatchSampler(table, {WIDE: 3, TALL: 2}).batches(0)
    sizes = sorted((str(table[batch[0][0]][1]), len(batch)) for batch in batches)
    assert sizes == sorted(
        [*[(str(WIDE), n) for n in (3, 3, 1)], *[(str(TALL), n) for n in (2, 2, 1)]]
    )
    with pytest.raises(ValueError, match="5x48x32 needs a batch size of at least 1"):
        BucketBatchSampler(table, {WIDE: 3})


def test_balanced_epochs_draw_each_clip_by_its_weight():
    table = [(record(str(n), weight=w), WIDE) for n, w in enumerate((0.0, 0.25, 1.0, 2.5))]
    sampler = BucketBatchSampler(table, 2, balanced=True)
    drawn = Counter(i for e in range(400) for batch in sampler.batches(e) for i, _ in batch)
    assert drawn[0] == 0 and drawn[2] == 400
    assert drawn[1] == pytest.approx(100, abs=30) and drawn[3] == pytest.approx(1000, abs=40)
    with pytest.raises(ValueError, match="epoch 0 has no batch"):
        BucketBatchSampler(table[:1], 2, balanced=True)
