"""Batches of one shape, equal for any number of workers and after any number of stops."""

import json
from collections import Counter

import numpy as np
import pytest
import torch

from tests.training.samples import TALL, WIDE, record
from vidgen_lab.training.data.clips import ClipRecord
from vidgen_lab.training.data.dataset import (
    BucketBatchSampler,
    ClipDataset,
    ClipLoader,
    cover,
)
from vidgen_lab.video.reader import VideoError, read_clip


def pretended(counts):
    """Clips for the sampler, which never opens one: {bucket: number} -> (record, bucket)s."""
    made = [b for b, count in counts.items() for _ in range(count)]
    return [(record(f"{n}.mp4"), bucket) for n, bucket in enumerate(made)]


def test_an_item_is_a_window_of_the_clip_in_the_models_range(clips):
    data = ClipDataset(clips, seed=1)
    item = data[0]
    assert item["video"].shape == (3, 9, 32, 48) and item["video"].dtype == torch.float32
    assert item["video"].is_contiguous() and item["video"].abs().max() <= 1
    assert (item["caption"], item["id"]) == ("clip 0.mp4", "0.mp4")
    window = data.window(0)
    frames = read_clip(clips[0][0].path, window.start, 9).frames  # 64x96: exactly twice the bucket
    halved = frames.reshape(9, 32, 2, 48, 2, 3).mean((2, 4)).transpose(3, 0, 1, 2) / 127.5 - 1
    assert np.abs(item["video"].numpy() - halved).mean() < 0.05
    assert [tuple(data[n]["video"].shape[1:]) for n in (4, 5)] == [(5, 48, 32), (5, 32, 48)]


def test_the_window_hangs_on_seed_epoch_and_clip_alone(clips):
    data, again = ClipDataset(clips, seed=1), ClipDataset(clips[::-1], seed=1)
    assert all(data.window(n, 3) == again.window(len(clips) - 1 - n, 3) for n in range(len(clips)))
    starts = {data.window(0, epoch).start for epoch in range(60)}
    assert starts == set(range(16 - 9 + 1))  # every place in the clip, the last one too
    assert len({data.window(n, 0).start for n in range(4)}) > 1
    others = ClipDataset(clips, seed=2)
    assert any(data.window(0, e) != others.window(0, e) for e in range(5))
    assert torch.equal(data[0]["video"], data[0, 0]["video"])
    moved = next(e for e in range(9) if data.window(0, e) != data.window(0))
    assert not torch.equal(data[0]["video"], data[0, moved]["video"])


def test_covering_distorts_nothing_and_cuts_the_centre():
    frames = np.zeros((2, 40, 100, 3), np.uint8)
    frames[:, :, 30:70] = 255  # the middle square
    video = cover(frames, 20, 20)
    assert video.shape == (3, 2, 20, 20) and video.dtype == torch.uint8
    assert (video[..., 1:-1] > 250).all()
    same = np.random.default_rng(0).integers(0, 256, (2, 20, 30, 3), np.uint8)
    assert np.array_equal(cover(same, 20, 30).numpy(), same.transpose(3, 0, 1, 2))
    assert np.array_equal(cover(same, 20, 20).numpy(), same.transpose(3, 0, 1, 2)[..., 5:25])
    assert cover(same, 41, 30).shape == (3, 2, 41, 30)


def test_a_file_that_is_not_what_the_list_says_is_an_error(clips):
    listed, bucket = clips[0]
    wrong = ClipRecord("x", listed.path, "x", 20, listed.height, listed.width, 8.0)
    with pytest.raises(VideoError, match="holds 16x64x96 .* not 20x64x96 as listed"):
        ClipDataset([(wrong, bucket)])[0]


# batches ----------------------------------------------------------------------------------------


def test_every_batch_is_from_one_bucket_and_every_clip_is_seen_once():
    table = pretended({WIDE: 7, TALL: 5})
    sampler = BucketBatchSampler(table, 3)
    batches = sampler.batches(0)
    assert sorted(key for batch in batches for key in batch) == [(n, 0) for n in range(12)]
    assert all(len({table[index][1] for index, _ in batch}) == 1 for batch in batches)
    assert sorted(map(len, batches)) == [1, 2, 3, 3, 3] and len(sampler) == 5
    assert batches == BucketBatchSampler(table, 3).batches(0)
    assert [sorted(b) for b in batches] != [[(i, 0) for i, _ in sorted(b)] for b in batches[::-1]]
    first = [[index for index, _ in batch] for batch in batches]
    assert first != [[index for index, _ in batch] for batch in sampler.batches(1)]
    assert batches != BucketBatchSampler(table, 3, seed=1).batches(0)


def test_batch_sizes_may_differ_and_rests_may_be_dropped():
    table = pretended({WIDE: 7, TALL: 5})
    sizes = {
        (table[batch[0][0]][1], len(batch))
        for batch in BucketBatchSampler(table, {WIDE: 3, TALL: 2}, drop_last=True).batches(0)
    }
    assert sizes == {(WIDE, 3), (TALL, 2)}
    with pytest.raises(ValueError, match="5x48x32 has 5 clips, fewer than its batch of 6"):
        BucketBatchSampler(table, 6, drop_last=True)
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


class Stub(ClipDataset):
    """Items that say which frames they would hold, without opening a file."""

    def __getitem__(self, key):
        return {"video": torch.tensor(self.window(*key)), "id": self.clips[key[0]][0].id}


class Counting(BucketBatchSampler):
    """Counts the batches a loader has asked for."""

    drawn = 0

    def __iter__(self):
        for batch in super().__iter__():
            self.drawn += 1
            yield batch


def loader_of(clips, kind=Stub, **options):
    """Four batches an epoch."""
    return ClipLoader(kind(clips, seed=5), Counting(clips, 2, seed=5), **options)


def take(loader, number):
    """The next batches, over as many epochs as it takes, as a training asks for them."""
    out = []
    while len(out) < number:
        for batch in loader:
            out.append((batch["id"], batch["video"]))
            if len(out) == number:
                break
    return out


def same(one, other):
    return [i for i, _ in one] == [i for i, _ in other] and all(
        torch.equal(a, b) for (_, a), (_, b) in zip(one, other, strict=True)
    )


def test_a_run_stopped_anywhere_goes_on_with_the_batches_it_would_have_had(clips):
    whole = take(loader_of(clips), 10)
    for stop in range(1, 10):
        first = loader_of(clips)
        begun = take(first, stop)
        state = json.loads(json.dumps(first.state_dict()))  # as a checkpoint keeps it
        second = loader_of(clips)
        second.load_state_dict(state)
        assert (second.sampler.epoch, second.sampler.position) == divmod(stop, 4)
        assert len(second) == 4 - stop % 4
        assert same(begun + take(second, 10 - stop), whole)
    assert not same(whole[:4], whole[4:8])  # another order, other windows


def test_two_spawned_workers_give_what_none_gives_and_loading_ahead_does_not_count(clips):
    whole = take(loader_of(clips, ClipDataset), 6)
    assert whole[0][1].shape[1] == 3
    loader = loader_of(clips, ClipDataset, workers=2, prefetch=1)
    begun = take(loader, 1)
    assert 1 < loader.sampler.drawn <= 1 + 2 * 1  # of four: no more in memory than was said
    state = loader.state_dict()
    assert (state["epoch"], state["position"]) == (0, 1)
    assert same(begun + take(loader, 5), whole)
    loader.load_state_dict(state)
    assert same(take(loader, 2), whole[1:3])


def test_loading_leaves_the_trainings_noise_alone(clips):
    before = torch.get_rng_state()
    take(loader_of(clips), 5)
    assert torch.equal(before, torch.get_rng_state())


def test_a_place_in_another_data_set_is_refused(clips):
    state = BucketBatchSampler(clips, 2, seed=5).state_dict()
    for other, named in (
        (BucketBatchSampler(clips, 2, seed=6), "seed"),
        (BucketBatchSampler(clips, 1, seed=5), "batch_size"),
        (BucketBatchSampler(clips[1:], 2, seed=5), "clips"),
        (BucketBatchSampler(clips, 2, seed=5, balanced=True), "balanced"),
    ):
        with pytest.raises(ValueError, match=f"another data set: {named} changed"):
            other.load_state_dict(state)
    with pytest.raises(ValueError, match="from the same clips"):
        ClipLoader(ClipDataset(clips), BucketBatchSampler(clips[1:], 2))
