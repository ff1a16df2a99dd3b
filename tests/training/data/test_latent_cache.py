import os

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderKLCogVideoX
from torch.utils.data import DataLoader

from vidgen_lab import journal
from vidgen_lab.training.data import latent_cache
from vidgen_lab.training.data.buckets import Bucket
from vidgen_lab.training.data.clip_encoding import ClipSpan, spans_of, vae_identity
from vidgen_lab.training.data.clips import ClipRecord
from vidgen_lab.training.data.dataset import VideoDataset
from vidgen_lab.training.data.latent_cache import CorruptEntry, LatentCache
from vidgen_lab.video.clip import Clip
from vidgen_lab.video.reader import read_clip
from vidgen_lab.video.tensors import to_model_range
from vidgen_lab.video.writer import write_clip


def video_vae(seed=0, **settings):
    torch.manual_seed(seed)
    return AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 3,
        up_block_types=("CogVideoXUpBlock3D",) * 3,
        block_out_channels=(4, 4, 4),
        latent_channels=2,
        layers_per_block=1,
        norm_num_groups=2,
        **settings,
    ).eval()


def frame_vae():
    torch.manual_seed(1)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(4, 8),
        layers_per_block=1,
        latent_channels=3,
        norm_num_groups=2,
        scaling_factor=0.5,
        shift_factor=0.25,
    ).eval()


def film(path, seed, num_frames=9, height=16, width=24):
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 255, (num_frames, height // 8, width // 8, 3), np.uint8)
    return write_clip(Clip(frames.repeat(8, 1).repeat(8, 2), 8), path)


@pytest.fixture
def clips(tmp_path):
    names = ("a", "b", "c")
    return [ClipSpan(film(tmp_path / f"{n}.mp4", i), range(9), 16, 24) for i, n in enumerate(names)]


def pixels(clip):
    """float [1, 3, T, H, W] by the shortest way."""
    frames = torch.from_numpy(read_clip(clip.path).frames[list(clip.frames)])
    return to_model_range(frames).permute(3, 0, 1, 2)[None]


def state(cache):
    """Name and time of change of every entry."""
    return {path.stem: path.stat().st_mtime_ns for path in cache.folder.glob("[!.]*.safetensors")}


# what comes back -------------------------------------------------------------------------------


@torch.no_grad()
def test_a_clip_comes_back_as_the_vae_encodes_it(clips, tmp_path):
    vae = video_vae(scaling_factor=0.7)
    cache = LatentCache(tmp_path / "cache", vae)
    keys = cache.encode(clips, batch=2)
    for clip, key in zip(clips, keys, strict=True):
        posterior = vae.encode(pixels(clip)).latent_dist
        mean, logvar = cache.moments(key)
        assert mean.shape == (2, 3, 4, 6)  # [C, t, h, w]: 4 frames to one after the first
        torch.testing.assert_close(mean, posterior.mean[0])
        torch.testing.assert_close(logvar, posterior.logvar[0])
        torch.testing.assert_close(cache.load(key), 0.7 * posterior.mode()[0])
        drawn = cache.load(key, torch.Generator().manual_seed(5))
        sample = posterior.sample(torch.Generator().manual_seed(5))[0]
        torch.testing.assert_close(drawn, 0.7 * sample)
        assert not torch.equal(drawn, cache.load(key, torch.Generator().manual_seed(6)))


@torch.no_grad()
def test_a_vae_of_pictures_goes_frame_by_frame_and_has_its_shift_taken_off(clips, tmp_path):
    vae = frame_vae()
    cache = LatentCache(tmp_path / "cache", vae)
    uneven = ClipSpan(clips[0].path, (1, 7, 4, 4, 8), 16, 24)
    for clip, key in zip([*clips, uneven], cache.encode([*clips, uneven]), strict=True):
        frames = pixels(clip)[0].transpose(0, 1)  # [T, 3, H, W]
        modes = torch.cat([vae.encode(frame[None]).latent_dist.mode() for frame in frames])
        assert cache.moments(key)[0].shape == (3, len(clip.frames), 8, 12)
        torch.testing.assert_close(cache.load(key), (modes.transpose(0, 1) - 0.25) * 0.5)


def test_stored_in_half_precision_means_rounded_once(clips, tmp_path):
    vae = video_vae()
    exact, half = LatentCache(tmp_path / "a", vae), LatentCache(tmp_path / "b", vae, torch.float16)
    mean = exact.moments(exact.encode(clips[:1])[0])[0]
    rounded = half.moments(half.encode(clips[:1])[0])[0]
    assert rounded.dtype == torch.float16
    assert torch.equal(rounded, mean.half())


@torch.no_grad()
def test_latents_of_a_data_set_are_those_of_its_items(tmp_path):
    records = []
    for n, (height, width) in enumerate([(32, 48), (48, 32)]):
        path = film(tmp_path / f"{n}.mp4", n, 20, height, width)
        records.append(ClipRecord(path.name, path, "a caption", 20, height, width, 8.0))
    dataset = VideoDataset([(record, Bucket(5, 16, 16)) for record in records], seed=3)
    vae = video_vae()
    cache = LatentCache(tmp_path / "cache", vae)
    for epoch in (0, 1):
        keys = cache.encode(spans_of(dataset, epoch))
        for index, key in enumerate(keys):
            video = to_model_range(dataset[index, epoch]["video"][None])
            torch.testing.assert_close(cache.moments(key)[0], vae.encode(video).latent_dist.mean[0])


def test_a_spawned_worker_loads_what_this_process_loads(clips, tmp_path):
    cache = LatentCache(tmp_path / "cache", video_vae())
    keys = cache.encode(clips)
    loader = DataLoader(
        keys, batch_size=None, collate_fn=cache.load, num_workers=1, multiprocessing_context="spawn"
    )
    loaded = list(loader)
    assert all(torch.equal(a, cache.load(key)) for a, key in zip(loaded, keys, strict=True))


# what makes an entry another one ---------------------------------------------------------------


def other_content(clips, vae):
    film(clips[1].path, 77)


def other_frames(clips, vae):
    clips[1] = ClipSpan(clips[1].path, range(1, 6), 16, 24)


def other_order_of_frames(clips, vae):
    clips[1] = ClipSpan(clips[1].path, range(8, -1, -1), 16, 24)


def other_size(clips, vae):
    clips[1] = ClipSpan(clips[1].path, range(9), 24, 16)


def other_weight(clips, vae):
    vae.encoder.conv_out.conv.bias.data[0] += 1e-3


def other_precision(clips, vae):
    vae.to(torch.bfloat16)


def other_setting(clips, vae):
    vae.register_to_config(norm_eps=1e-5)


def tiles(clips, vae):
    vae.enable_tiling()


def nothing(clips, vae):
    pass


def other_scaling_factor(clips, vae):
    vae.register_to_config(scaling_factor=3.0)


def other_decoder(clips, vae):
    vae.decoder.conv_in.conv.bias.data[0] += 1


def other_order_of_clips(clips, vae):
    clips.reverse()


def other_names(clips, vae):
    clips[1] = ClipSpan(clips[1].path.rename(clips[1].path.with_name("z.mp4")), range(9), 16, 24)


def other_time_of_change(clips, vae):
    os.utime(clips[1].path, (1, 1))


@pytest.mark.parametrize(
    ("change", "made_anew"),
    [
        (other_content, 1),
        (other_frames, 1),
        (other_order_of_frames, 1),
        (other_size, 1),
        (other_weight, 3),
        (other_precision, 3),
        (other_setting, 3),
        (tiles, 3),
        (nothing, 0),
        (other_scaling_factor, 0),
        (other_decoder, 0),
        (other_order_of_clips, 0),
        (other_names, 0),
        (other_time_of_change, 0),
    ],
)
def test_what_changed_is_encoded_again_and_nothing_else(clips, tmp_path, change, made_anew):
    vae = video_vae()
    LatentCache(tmp_path / "cache", vae).encode(clips)
    before = state(LatentCache(tmp_path / "cache", vae))
    change(clips, vae)
    cache = LatentCache(tmp_path / "cache", vae)
    keys = cache.encode(clips)
    after = state(cache)
    assert before.items() <= after.items()  # what was there is there, untouched
    assert len(after) - len(before) == made_anew == len(set(keys) - set(before))


def test_another_dtype_of_the_entries_is_another_key(clips, tmp_path):
    vae = video_vae()
    caches = [LatentCache(tmp_path, vae, dtype) for dtype in (None, torch.float32, torch.float16)]
    as_is, same, half = (cache.key(clips[0]) for cache in caches)
    assert as_is == same != half


def test_a_vae_keeps_its_identity_on_the_way_through_a_folder(tmp_path):
    vae = video_vae()
    vae.save_pretrained(tmp_path)
    assert vae_identity(AutoencoderKLCogVideoX.from_pretrained(tmp_path)) == vae_identity(vae)
    assert vae_identity(vae) != vae_identity(video_vae(seed=1))


def test_content_is_hashed_once(clips, tmp_path, monkeypatch):
    hashed = []
    real = journal.file_sha256
    monkeypatch.setattr(journal, "file_sha256", lambda p: hashed.append(p.stem) or real(p))
    for clip in clips:
        os.utime(clip.path, (1e9, 1e9))  # one that is new is hashed again: it may still change
    vae = video_vae()
    LatentCache(tmp_path / "cache", vae).encode(clips)
    LatentCache(tmp_path / "cache", vae).encode(clips)
    assert hashed == ["a", "b", "c"]
    cache = LatentCache(tmp_path / "cache", vae)
    old, path = cache.key(clips[1]), clips[1].path
    flip(path)  # as long as before
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1_000_000))
    assert cache.key(clips[1]) != old
    assert hashed == ["a", "b", "c", "b"]


# kills and damage ------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands in for kill -9."""


def test_a_killed_run_goes_on_with_the_rest(clips, tmp_path, monkeypatch):
    vae = video_vae()
    cache = LatentCache(tmp_path / "cache", vae)
    write = latent_cache.write_files

    def write_two(contents):
        if len(state(cache)) == 2:
            raise Killed
        write(contents)

    monkeypatch.setattr(latent_cache, "write_files", write_two)
    with pytest.raises(Killed):
        cache.encode(clips)
    monkeypatch.setattr(latent_cache, "write_files", write)
    before = state(cache)
    assert len(before) == 2
    keys = LatentCache(tmp_path / "cache", vae).encode(clips)
    after = state(cache)
    assert before.items() <= after.items() and set(after) == set(keys)
    whole = LatentCache(tmp_path / "whole", vae)
    whole.encode(clips)
    for key in keys:
        torch.testing.assert_close(cache.load(key), whole.load(key))


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


def flip(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 64
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [lambda p: cut(p, -1), lambda p: cut(p, 100), lambda p: cut(p, 0), flip],
    ids=["last byte gone", "cut in the header", "empty", "one bit"],
)
def test_a_damaged_entry_is_noticed_and_made_anew(clips, tmp_path, damage):
    cache = LatentCache(tmp_path / "cache", video_vae())
    keys = cache.encode(clips)
    good, before = cache.load(keys[1]), state(cache)
    damage(cache.folder / f"{keys[1]}.safetensors")
    with pytest.raises(CorruptEntry, match=f"{keys[1]}.*damaged"):
        cache.load(keys[1])
    with pytest.warns(UserWarning, match=keys[1]) as said:
        assert cache.encode(clips) == keys
    assert len(said) == 1 and "\n" not in str(said[0].message)
    torch.testing.assert_close(cache.load(keys[1]), good)
    assert state(cache).items() >= {k: v for k, v in before.items() if k != keys[1]}.items()


def test_an_entry_under_another_name_is_not_served(clips, tmp_path):
    cache = LatentCache(tmp_path / "cache", video_vae())
    first, second, _ = cache.encode(clips)
    (cache.folder / f"{first}.safetensors").replace(cache.folder / f"{second}.safetensors")
    with pytest.raises(CorruptEntry, match="damaged"):
        cache.load(second)
    with pytest.raises(FileNotFoundError, match="encode first"):
        cache.load(first)


def test_a_file_exchanged_while_it_is_read_leaves_no_entry(clips, tmp_path, monkeypatch):
    cache = LatentCache(tmp_path / "cache", video_vae())
    encode = latent_cache.encode_moments

    def exchange(vae, video):
        film(clips[0].path, 99)
        return encode(vae, video)

    monkeypatch.setattr(latent_cache, "encode_moments", exchange)
    with pytest.raises(RuntimeError, match="changed while"):
        cache.encode(clips[:1])
    assert state(cache) == {}


# what cannot be encoded ------------------------------------------------------------------------


def test_clips_that_cannot_be_read_are_named_and_the_others_encoded(clips, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    bad = [
        ClipSpan(tmp_path / "broken.mp4", range(9), 16, 24),
        ClipSpan(tmp_path / "missing.mp4", range(9), 16, 24),
        ClipSpan(clips[0].path, range(4, 13), 16, 24),
    ]
    cache = LatentCache(tmp_path / "cache", video_vae())
    with pytest.raises(RuntimeError, match="3 of 6 clips") as caught:
        cache.encode([*bad, *clips])
    named = [line.strip() for line in str(caught.value).splitlines()[1:]]
    by_path = {
        clip.path: [said for said in named if said.startswith(f"{clip.path}: ")] for clip in bad
    }
    assert len(named) == 3 and [len(said) for said in by_path.values()] == [1, 1, 1]
    assert "not a readable video" in by_path[bad[0].path][0]
    assert "has 9 frames" in by_path[bad[2].path][0]
    assert len(state(cache)) == 3


def test_a_batch_of_no_clips_is_refused_before_the_work(clips, tmp_path):
    for batch in (0, -1):
        with pytest.raises(ValueError, match="batch must be at least 1"):
            LatentCache(tmp_path / "cache", video_vae()).encode(clips, batch=batch)
    assert not (tmp_path / "cache").exists()


def test_a_vae_that_overflows_leaves_no_entry(clips, tmp_path):
    vae = video_vae()
    vae.encoder.conv_out.conv.bias.data[0] = 1e6
    cache = LatentCache(tmp_path / "cache", vae, torch.float16)
    with pytest.raises(RuntimeError, match="NaN or infinity in torch.float16"):
        cache.encode(clips[:1])
    assert state(cache) == {}


def test_shapes_that_a_vae_does_not_take_are_refused_at_once(clips, tmp_path):
    path = clips[0].path
    cache = LatentCache(tmp_path / "cache", video_vae())
    with pytest.raises(ValueError, match=r"4k \+ 1 frames or 8k, not 6"):
        cache.encode([*clips, ClipSpan(path, range(6), 16, 24)])
    with pytest.raises(ValueError, match="multiples of 4, not 16x22"):
        cache.encode([*clips, ClipSpan(path, range(9), 16, 22)])
    assert state(cache) == {}
    with pytest.raises(ValueError, match="at least one frame"):
        ClipSpan(path, (), 16, 24)
    LatentCache(tmp_path / "frames", frame_vae()).encode([ClipSpan(path, range(6), 16, 22)])


def test_a_vae_that_changed_or_is_another_kind_is_refused(clips, tmp_path):
    vae = video_vae()
    cache = LatentCache(tmp_path, vae)
    vae.encoder.conv_out.conv.bias.data[0] += 1
    with pytest.raises(RuntimeError, match="was changed"):
        cache.encode(clips)
    with pytest.raises(TypeError, match="not Linear"):
        LatentCache(tmp_path, torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="latents_mean"):
        LatentCache(tmp_path, video_vae(latents_mean=(0.0, 1.0)))
