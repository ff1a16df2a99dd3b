"""Latents are encoded once, and never served for other clips or another VAE."""

from shutil import copytree

import pytest
import torch
from diffusers import AutoencoderKLCogVideoX

from recipes import latents
from recipes.scenes import sample_scenes
from vidgen_lab.toyworld import render

SIZE = (32, 32, 4)


@pytest.fixture(scope="module")
def vae(trained):
    return AutoencoderKLCogVideoX.from_pretrained(trained / "vae" / "vae")


@pytest.fixture
def no_encoding(monkeypatch):
    monkeypatch.delattr(latents, "encode_scenes")


@pytest.fixture(scope="module")
def cached(vae, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latents, "SHARD", 2)
        return folder, latents.cached_latents(vae, folder, sample_scenes(3, 0), SIZE)


def test_what_was_encoded_is_kept(vae, cached, monkeypatch, no_encoding):
    monkeypatch.setattr(latents, "SHARD", 2)
    folder, (made, subject) = cached
    assert made.shape == (3, 4, 4, 4, 4) and made.dtype == torch.float16
    again = latents.cached_latents(vae, folder, sample_scenes(3, 0), SIZE)
    assert torch.equal(again[0], made) and torch.equal(again[1], subject)


def test_a_cell_shows_the_subject_if_one_of_its_pixels_does(cached):
    subject = cached[1][1]
    for cells, scene in zip(subject, sample_scenes(3, 0), strict=True):
        masks = torch.from_numpy(render(scene, *SIZE).masks)
        for y, x in ((0, 0), (1, 2), (3, 3)):
            pixels = masks[:, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8]
            assert torch.equal(pixels.any(-1).any(-1), cells[:, 0, y, x])


def test_latents_of_others_are_refused(vae, cached, tmp_path, monkeypatch, no_encoding):
    monkeypatch.setattr(latents, "SHARD", 2)
    folder = copytree(cached[0], tmp_path / "copy")
    for scenes, size in ((sample_scenes(3, 1), SIZE), (sample_scenes(3, 0), (32, 32, 8))):
        with pytest.raises(ValueError, match="is of other clips or of another VAE: delete it"):
            latents.cached_latents(vae, folder, scenes, size)
    other = AutoencoderKLCogVideoX(**vae.config)
    with pytest.raises(ValueError, match="of another VAE"):
        latents.cached_latents(other, folder, sample_scenes(3, 0), SIZE)
