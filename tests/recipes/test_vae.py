"""The VAEs: their loss, their shortcuts, and that their latents are standardised for free."""

import signal
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderKLCogVideoX
from torch import nn

from recipes.scenes import render_clips, sample_scenes
from recipes.vae import build_vae, crops_of, moving_pixels, train_vae, vae_loss
from recipes.vae_layers import (
    as_input,
    encode_clips,
    fast_layers,
    see_one_frame,
    standardise_latents,
)
from tests.recipes.samples import FRAME_VAE, VAE, survives
from vidgen_lab.training.stream import Draw
from vidgen_lab.training.trainer import VideoModelTrainer
from vidgen_lab.video.tensors import to_model_range


@pytest.mark.parametrize(("part", "steps"), [("vae", 6), ("frame-vae", 3)])
def test_a_killed_training_ends_as_if_it_had_not_been(trained, tmp_path, part, steps):
    assert survives(part, trained, tmp_path, steps)


def test_after_ctrl_c_no_later_stage_begins(tmp_path, monkeypatch):
    step = VideoModelTrainer.train_step
    monkeypatch.setattr(
        VideoModelTrainer, "train_step", lambda self: (step(self), signal.raise_signal(2))
    )
    with pytest.raises(SystemExit, match="the same command goes on"):
        train_vae(VAE, tmp_path)
    assert (tmp_path / "0").is_dir() and not (tmp_path / "1").exists()
    assert not (tmp_path / "vae").exists()


def shaken_vae(config=VAE):
    """An untrained VAE with something on every tap."""
    torch.manual_seed(0)
    vae = build_vae(config)
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return vae


@torch.no_grad()
def test_the_fast_layers_compute_what_the_plain_ones_do():
    vae, video = shaken_vae(), torch.rand(1, 3, 5, 24, 32) * 2 - 1

    def round_trip():
        latents = vae.encode(video).latent_dist.mode()
        return latents, vae.decode(latents).sample

    for part in (nn.Identity(), vae):  # one that looks back, and a model of single frames
        see_one_frame(part)
        plain = round_trip()
        with fast_layers():
            fast = round_trip()
        for one, other in zip(plain, fast, strict=True):
            assert torch.allclose(one, other, atol=1e-4)
        again = round_trip()
        assert all(map(torch.equal, plain, again))  # the patches are gone again
    assert plain[0].shape == (1, 4, 5, 3, 4)


@torch.no_grad()
def test_a_model_of_single_frames_sees_each_frame_alone():
    vae = shaken_vae()
    see_one_frame(vae)
    video = torch.rand(1, 3, 4, 16, 16) * 2 - 1
    with fast_layers():
        before = vae.encode(video).latent_dist.mode()
        after = vae.encode(video.flip(2)).latent_dist.mode().flip(2)
    # the group norms look at all frames at once, the convolutions do not
    assert not torch.allclose(before, shaken_vae().encode(video).latent_dist.mode(), atol=1e-3)
    assert torch.allclose(before, after, atol=1e-5)


@torch.no_grad()
def test_standardising_keeps_what_is_decoded():
    vae, clips = shaken_vae(FRAME_VAE), render_clips(sample_scenes(4, 1), 32, 32, 2)
    frames = as_input(vae, to_model_range(clips))
    before = vae.encode(frames).latent_dist
    decoded = vae.decode(before.mode()).sample
    standardise_latents(vae, clips)
    after = vae.encode(frames).latent_dist
    assert torch.allclose(vae.decode(after.mode()).sample, decoded, atol=1e-4)
    assert after.mode().mean((0, 2, 3)) == pytest.approx(0, abs=1e-3)
    assert after.mode().std((0, 2, 3)) == pytest.approx(1, abs=1e-3)
    # the posterior's width goes along with its mean
    spread = before.mode().std((0, 2, 3)).view(1, -1, 1, 1)
    assert torch.allclose(after.std * spread, before.std, rtol=1e-3)


@torch.no_grad()
def test_the_latents_of_the_video_vae_are_standardised_too():
    vae, clips = shaken_vae(), render_clips(sample_scenes(4, 1), 32, 32, 3)
    see_one_frame(vae.encoder)
    standardise_latents(vae, clips)
    latents = encode_clips(vae, clips).float()
    assert latents.shape == (4, 4, 3, 4, 4)
    assert latents.mean((0, 2, 3, 4)) == pytest.approx(0, abs=2e-2)
    assert latents.std((0, 2, 3, 4)) == pytest.approx(1, abs=2e-2)


class Perfect:
    """A VAE that keeps its input, but for an error of its own."""

    def __init__(self, error=0.0):
        self.error = error

    def encode(self, video):
        posterior = SimpleNamespace(mean=video, logvar=torch.zeros_like(video))
        posterior.sample = lambda generator: video
        return SimpleNamespace(latent_dist=posterior)

    def decode(self, latents):
        return SimpleNamespace(sample=latents + self.error)


def loss_of(vae, video, weights=None, noise=0.0):
    weights = torch.ones_like(video[:, :1]) if weights is None else weights
    config = replace(VAE, kl_weight=0.0, centring=0.0)
    draw = Draw(0, 0, torch.Generator().manual_seed(0))
    return vae_loss(vae, {"video": video, "weights": weights}, draw, noise, config)


def test_the_loss_is_the_error_where_it_counts():
    video = torch.randn(2, 3, 2, 8, 8)
    assert loss_of(Perfect(), video)[0] == 0
    loss, numbers = loss_of(Perfect(0.1), video)
    assert loss.item() == pytest.approx(0.1 + 0.1**2)  # no difference between neighbours is wrong
    assert numbers["psnr"].item() == pytest.approx(-10 * np.log10(0.1**2 / 4), abs=1e-4)
    half, weights = torch.zeros_like(video), torch.ones_like(video[:, :1])
    half[..., :4] = 0.1
    weights[..., :4] = 3.0
    plain, weighted = (loss_of(Perfect(half), video, w)[0] for w in (None, weights))
    assert (weighted - plain).item() == pytest.approx(0.11 * (3 / 4 - 1 / 2), abs=1e-6)
    assert loss_of(Perfect(), video, noise=0.5)[0] > 0.1  # the decoder gets noisy latents


def test_latents_are_pulled_to_mean_0_and_deviation_1():
    torch.manual_seed(0)
    video = torch.randn(4, 3, 2, 16, 16)
    shown = {"right": video, "wide": 2 * video, "shifted": video + 1}
    unit = {name: loss_of(Perfect(), v)[1]["unit"].item() for name, v in shown.items()}
    assert unit["right"] < 0.01
    assert unit["wide"] == pytest.approx(np.log(2) ** 2, abs=0.05)
    assert unit["shifted"] == pytest.approx(1, abs=0.1)


def test_crops_come_from_one_clip_and_weigh_what_moves():
    clips = torch.arange(2 * 3 * 4 * 6 * 8).remainder(251).to(torch.uint8).view(2, 3, 4, 6, 8)
    config = replace(VAE, batch=5, crop=3)
    batch = crops_of(clips, config, 1, 7)
    assert batch["video"].shape == (5, 3, 1, 3, 3) and batch["weights"].shape == (5, 1, 1, 3, 3)
    places = [
        (n, slice(t, t + 1), slice(y, y + 3), slice(x, x + 3))
        for n in range(2) for t in range(4) for y in range(4) for x in range(6)
    ]  # fmt: skip
    moving = moving_pixels(clips)
    for crop, weights in zip(batch["video"], batch["weights"], strict=True):
        n, *window = next(
            p for p in places if torch.equal(to_model_range(clips[p[0], :, *p[1:]]), crop)
        )
        assert torch.equal(weights[0], 1 + 4.0 * moving[n, *window])
    again, other = (crops_of(clips, config, 1, n)["video"] for n in (7, 8))
    assert torch.equal(again, batch["video"]) and not torch.equal(other, batch["video"])


def test_what_moves_differs_from_the_frame_before():
    pixels = torch.zeros(1, 3, 4, 2, 2, dtype=torch.uint8)
    pixels[:, 1, 1, 0, 0] = 255  # one pixel flashes
    pixels[:, 1, 1, 1, 1] = 30  # another hardly changes
    assert moving_pixels(pixels).nonzero().tolist() == [[0, 1, 0, 0], [0, 2, 0, 0]]


def test_plain_diffusers_loads_what_was_trained(trained):
    video = AutoencoderKLCogVideoX.from_pretrained(trained / "vae" / "vae")
    frame = AutoencoderKL.from_pretrained(trained / "frame-vae" / "vae")
    for vae in (video, frame):
        assert vae.config.scaling_factor == 1.0 and vae.dtype == torch.float32
    assert video.config.temporal_compression_ratio == 1
