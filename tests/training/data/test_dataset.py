"""Items of clips: equal for any number of workers and after any number of stops."""

import json
import os

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from tests.training.samples import WIDE
from vidgen_lab.pipeline.deliver.augment import AugmentSettings, VideoAugmentationPipeline
from vidgen_lab.training.data.buckets import Bucket, BucketBatchSampler, assign
from vidgen_lab.training.data.clips import ClipRecord, read_clips
from vidgen_lab.training.data.dataset import VideoCollate, VideoDataset, preview
from vidgen_lab.training.data.pixel_cache import PixelCache
from vidgen_lab.training.stream import BatchStream
from vidgen_lab.video.reader import VideoError, read_clip
from vidgen_lab.video.tensors import cover


def test_an_item_is_a_window_of_the_clip_at_the_buckets_size(clips):
    data = VideoDataset(clips, seed=1)
    item = data[0]
    assert item["video"].shape == (3, 9, 32, 48) and item["video"].dtype == torch.uint8
    assert (item["caption"], item["id"]) == ("clip 0.mp4", "0.mp4")
    window = data.window(0)
    frames = read_clip(clips[0][0].path, window.start, 9).frames  # 64x96: exactly twice the bucket
    halved = frames.reshape(9, 32, 2, 48, 2, 3).mean((2, 4)).transpose(3, 0, 1, 2)
    assert np.abs(item["video"].numpy() - halved).mean() < 6
    assert [tuple(data[n]["video"].shape[1:]) for n in (4, 5)] == [(5, 48, 32), (5, 32, 48)]


def test_the_window_hangs_on_seed_epoch_and_clip_alone(clips):
    data, again = VideoDataset(clips, seed=1), VideoDataset(clips[::-1], seed=1)
    assert all(data.window(n, 3) == again.window(len(clips) - 1 - n, 3) for n in range(len(clips)))
    starts = {data.window(0, epoch).start for epoch in range(60)}
    assert starts == set(range(16 - 9 + 1))  # every place in the clip, the last one too
    assert len({data.window(n, 0).start for n in range(4)}) > 1
    others = VideoDataset(clips, seed=2)
    assert any(data.window(0, e) != others.window(0, e) for e in range(5))
    assert torch.equal(data[0]["video"], data[0, 0]["video"])
    moved = next(e for e in range(9) if data.window(0, e) != data.window(0))
    assert not torch.equal(data[0]["video"], data[0, moved]["video"])


def test_a_batch_takes_the_memory_of_one_that_is_gone(clips):
    data, collate = VideoDataset(clips, seed=1), VideoCollate()
    first, second = ([data[n] for n in keys] for keys in ((0, 1), (2, 3)))
    one, two = collate(first), collate(second)
    for items, batch in ((first, one), (second, two)):  # both alive: two places
        assert torch.equal(batch["video"], torch.stack([item["video"] for item in items]))
        assert batch["id"] == [item["id"] for item in items]
    place, kept = one["video"].data_ptr(), one["video"][1, 0]
    del one
    assert collate(second)["video"].data_ptr() != place  # a part of it is still in use
    del kept
    again = collate([data[4]])  # smaller, of another shape
    assert again["video"].data_ptr() == place
    assert torch.equal(again["video"][0], data[4]["video"])
    assert torch.equal(two["video"], torch.stack([item["video"] for item in second]))


def test_a_file_that_is_not_what_the_list_says_is_an_error(clips):
    listed, bucket = clips[0]
    wrong = ClipRecord("x", listed.path, "x", 20, listed.height, listed.width, 8.0)
    with pytest.raises(VideoError, match="holds 16x64x96 .* not 20x64x96 as listed"):
        VideoDataset([(wrong, bucket)])[0]


def loader_of(clips, workers=0, **options):
    return DataLoader(
        VideoDataset(clips, 5, **options), batch_sampler=BucketBatchSampler(clips, 2, seed=5),
        num_workers=workers, multiprocessing_context="spawn" if workers else None,
    )  # fmt: skip


def take(stream, count):
    return [next(stream) for _ in range(count)]


def same(one, other):
    return [b["id"] for b in one] == [b["id"] for b in other] and all(
        torch.equal(a["video"], b["video"]) for a, b in zip(one, other, strict=True)
    )


def test_any_number_of_workers_gives_the_same(clips):
    augment = VideoAugmentationPipeline(AugmentSettings(probability=1.0))
    whole = take(BatchStream(loader_of(clips, augment=augment)), 6)
    assert not same(whole[:2], take(BatchStream(loader_of(clips)), 2))
    stream = BatchStream(loader_of(clips, 2, augment=augment))
    assert same(take(stream, 3), whole[:3])
    assert stream.position == 3  # what was loaded ahead does not count
    again = BatchStream(loader_of(clips, augment=augment))
    again.load_state_dict(json.loads(json.dumps(stream.state_dict())))
    assert same(take(again, 3), whole[3:])


def test_two_processes_share_the_batches_and_the_place_is_common(clips):
    whole, data = take(BatchStream(loader_of(clips)), 10), loader_of(clips)
    for cut in range(5):
        streams = [BatchStream(data, 0, rank, 2) for rank in (0, 1)]
        begun = [next(s) for _ in range(cut) for s in streams]
        resumed = [BatchStream(data, 0, rank, 2) for rank in (0, 1)]
        for stream in resumed:
            stream.load_state_dict(streams[0].state_dict())
        assert same(begun + [next(s) for _ in range(5 - cut) for s in resumed], whole)


def test_loading_leaves_the_trainings_noise_alone(clips):
    before = torch.get_rng_state()
    take(BatchStream(loader_of(clips)), 5)
    assert torch.equal(before, torch.get_rng_state())


def test_a_place_in_other_data_is_refused(clips):
    def stream(sampler):
        return BatchStream(DataLoader(VideoDataset(clips), batch_sampler=sampler))

    state = stream(BucketBatchSampler(clips, 2, seed=5)).state_dict()
    for other, named in (
        (BucketBatchSampler(clips, 2, seed=6), "seed"),
        (BucketBatchSampler(clips, 1, seed=5), "batch_size"),
        (BucketBatchSampler(clips[1:], 2, seed=5), "clips"),
        (BucketBatchSampler(clips, 2, seed=5, balanced=True), "balanced"),
    ):
        with pytest.raises(ValueError, match=f"another data set: {named} changed"):
            stream(other).load_state_dict(state)


# frames -----------------------------------------------------------------------------------------


def test_a_stride_keeps_the_first_frame_and_asks_for_long_enough_clips(folder):
    bucket = Bucket(4, 32, 48, stride=5)
    assert bucket.span == 16 and str(bucket) == "4/5x32x48"
    found = assign(read_clips(folder), [bucket])
    assert [reason for _, reason, _ in found.unfit] == ["too_short"]
    data = VideoDataset(found.clips, sampling="start")
    assert list(data.window(0)) == [0, 5, 10, 15]
    frames = read_clip(found.clips[0][0].path).frames[::5]
    assert torch.equal(data[0]["video"], cover(frames, 32, 48))
    uniform = VideoDataset(found.clips, sampling="uniform")
    assert uniform.window(0) == [0, 5, 10, 15]
    assert uniform[0]["video"].shape == (3, 4, 32, 48)


def test_motion_is_looked_for_where_it_is(tmp_path, folder):
    record, cache = read_clips(folder)[0], PixelCache(tmp_path)
    with pytest.raises(ValueError, match="give it a cache"):
        VideoDataset([(record, WIDE)], sampling="motion")
    data = VideoDataset([(record, WIDE)], sampling="motion", cache=cache)

    def still_then_wild():
        frames = np.zeros((3, 16, 32, 48), np.uint8)
        frames[:, 11:] = np.random.default_rng(0).integers(0, 256, (3, 5, 32, 48))
        return torch.from_numpy(frames)

    cache.motion(record, WIDE, still_then_wild)
    starts = [data.window(0, epoch).start for epoch in range(200)]
    assert sum(start >= 7 for start in starts) > 120 and min(starts) < 6
    single = VideoDataset([(record, Bucket(1, 32, 48))], sampling="motion", cache=cache)
    assert {single.window(0, epoch).start for epoch in range(200)} == set(range(16))


# caches -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["npy", "hdf5"])
def test_a_cache_gives_what_decoding_gives_and_nothing_stale(tmp_path, clips, layout):
    cache = PixelCache(tmp_path / "cache", layout)
    plain, cached = VideoDataset(clips, seed=1), VideoDataset(clips, seed=1, cache=cache)
    for epoch in (0, 1, 2):
        for n in range(len(clips)):
            assert torch.equal(plain[n, epoch]["video"], cached[n, epoch]["video"])
    files = sorted(cache.folder.iterdir())
    assert len(files) == len(clips)  # whole clips: later epochs found their windows in them
    record, bucket = clips[0]
    moved = tmp_path / "elsewhere.mp4"
    moved.write_bytes(record.path.read_bytes())
    facts = record.num_frames, record.height, record.width, record.fps
    one = [(ClipRecord("other", moved, "x", *facts), bucket)]
    VideoDataset(one, cache=cache)[0]
    assert sorted(cache.folder.iterdir()) == files  # by content, not by name
    moved.write_bytes(clips[1][0].path.read_bytes())
    os.utime(moved, (1, 1))
    changed = VideoDataset(one, cache=cache)[0]["video"]
    assert torch.equal(changed, VideoDataset(one)[0]["video"])


def test_a_cache_stays_within_its_size(tmp_path, clips):
    cache = PixelCache(tmp_path, max_gib=2.5 * 16 * 32 * 48 * 3 / 2**30)
    data, plain = VideoDataset(clips, cache=cache), VideoDataset(clips)
    assert all(torch.equal(data[n]["video"], plain[n]["video"]) for n in range(4))
    assert len(list(tmp_path.iterdir())) == 2


# what cannot be read ----------------------------------------------------------------------------


def with_a_bad_one(clips, file):
    file.write_bytes(b"no film")
    bad = ClipRecord(file.name, file, "x", 16, 64, 96, 8.0)
    return (*clips[:4], (bad, clips[0][1]))


def test_a_broken_clip_is_tried_once_and_replaced_by_any_of_its_bucket(tmp_path, clips):
    table = with_a_bad_one(clips, tmp_path / "broken.mp4")
    with pytest.raises(VideoError):
        VideoDataset(table)[4]
    data = VideoDataset(table, quarantine=tmp_path / "a")
    shown = {data[4, epoch]["id"] for epoch in range(25)}
    assert shown == {f"{n}.mp4" for n in range(4)}  # evenly, not always its neighbour
    assert [row["id"] for row in data.report()] == ["broken.mp4"]
    assert "broken.mp4" in data.report()[0]["reason"]
    fresh = VideoDataset(table, quarantine=tmp_path / "b")
    decode, tried = fresh._decode, []
    fresh._decode = lambda record, *rest: (tried.append(record.id), decode(record, *rest))[1]
    assert all(fresh[4, e]["id"] == data[4, e]["id"] for e in range(8))  # known or not
    assert tried.count("broken.mp4") == 1
    alone = VideoDataset(table[4:], quarantine=tmp_path / "c")
    with pytest.raises(VideoError, match="in a row cannot be read"):
        alone[0]


def test_a_mended_clip_gets_another_chance(tmp_path, clips):
    file = tmp_path / "mended.mp4"
    data = VideoDataset(with_a_bad_one(clips, file), quarantine=tmp_path / "a")
    assert data[4]["id"] != "mended.mp4"
    file.write_bytes(clips[0][0].path.read_bytes())
    assert data[4]["id"] == "mended.mp4"


# what will be trained on ------------------------------------------------------------------------


def test_the_preview_shows_the_very_items_under_their_captions(clips):
    data = VideoDataset(clips, seed=2)
    film = preview(data, [(n, 1) for n in range(3)]).frames
    second = data[1, 1]["video"].permute(1, 2, 3, 0).numpy().repeat(5, axis=1).repeat(5, axis=2)
    above, tall = film.shape[1] - second.shape[1], second.shape[2]
    assert len(film) == 9 and (film[:, above:, tall + 4 : 2 * tall + 4] == second).all()
    assert film[:, :above].min() < 128  # words


def test_the_table_says_where_every_clip_went(folder):
    rows = assign(read_clips(folder), [Bucket(9, 32, 48)]).rows()
    assert [r["bucket"] for r in rows if r["bucket"]] == ["9x32x48"] * 5
    assert [(r["id"], r["reason"]) for r in rows if not r["bucket"]] == [("5.mp4", "too_short")]
