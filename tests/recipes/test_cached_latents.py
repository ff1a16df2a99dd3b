"""Latents are encoded once, and never served for other clips or another VAE."""

import pytest
import torch
from diffusers import AutoencoderKLCogVideoX

from recipes import scenes
from recipes.scenes import cached_latents, sample_scenes
from vidgen_lab.toyworld import render

SIZE = (32, 32, 4)


@pytest.fixture(scope="module")
def vae(trained):
    return AutoencoderKLCogVideoX.from_pretrained(trained / "vae" / "vae")


@pytest.fixture
def no_encoding(monkeypatch):
    monkeypatch.delattr(scenes, "encode_scenes")


@pytest.fixture(scope="module")
def cached(vae, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    return folder, cached_latents(vae, folder, sample_scenes(3, 0), SIZE)


def test_what_was_encoded_is_kept(vae, cached, no_encoding):
    folder, (made, subject) = cached
    assert made.shape == (3, 4, 4, 4, 4) and made.dtype == torch.float16
    again = cached_latents(vae, folder, sample_scenes(3, 0), SIZE)
    assert torch.equal(again[0], made) and torch.equal(again[1], subject)


def test_a_cell_shows_the_subject_if_one_of_its_pixels_does(cached):
    subject = cached[1][1]
    for cells, scene in zip(subject, sample_scenes(3, 0), strict=True):
        masks = torch.from_numpy(render(scene, *SIZE).masks)
        for y, x in ((0, 0), (1, 2), (3, 3)):
            pixels = masks[:, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8]
            assert torch.equal(pixels.any(-1).any(-1), cells[:, 0, y, x])


def test_latents_of_others_are_not_taken(vae, cached, no_encoding):
    other = AutoencoderKLCogVideoX(**vae.config)
    for encoder, seed, frames in ((vae, 1, 4), (vae, 0, 8), (other, 0, 4)):
        with pytest.raises(NameError, match="encode_scenes"):
            cached_latents(encoder, cached[0], sample_scenes(3, seed), (32, 32, frames))
