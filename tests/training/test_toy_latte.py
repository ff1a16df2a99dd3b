"""The recipes of chapter 3 at the smallest size: resumable, exact, loadable by diffusers."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, LattePipeline
from vidgen_lab.training.toy_data import render_clips, sample_scenes

from tests.training.conftest import Killed
from vidgen_lab.latte import DDIMSampler, FrameVAE, NoiseScheduler, VideoGenerator
from vidgen_lab.latte.text import stock_pair
from vidgen_lab.toyworld import is_held_out, parse_prompt
from vidgen_lab.training import (
    toy_frame_vae,
    toy_latte,
    toy_latte_cards,
    toy_text_encoder,
)
from vidgen_lab.video.tensors import to_model_range

VAE = toy_frame_vae.ToyFrameVAEConfig(
    block_out_channels=(4, 8, 8),
    latent_channels=4,
    sizes=((32, 32), (24, 16)),
    clips=3,
    frames_per_clip=2,
    crop=16,
    batch=2,
    steps=4,
    warmup=2,
)
LATTE = toy_latte.ToyLatteConfig(
    hidden_size=16,
    depth=2,
    heads=2,
    text_width=32,
    width=24,
    height=16,
    num_frames=3,
    clips=5,
    held_out_clips=2,
    steps=4,
    batch=2,
    warmup=2,
)


TEXT = toy_text_encoder.ToyTextConfig(
    width=32, layers=1, max_length=24, masked=True, steps=4, batch=2, warmup=2
)


def train_model(folder, out, config=LATTE):
    """The Latte's training on the VAE and the text encoder in `folder`."""
    vae, text = folder / "vae" / "vae", folder / "text" / "text_encoder"
    toy_latte.train_latte(config, vae, text, out, log_every=2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """VAE, text encoder and Latte after four steps each, trained in one go."""
    folder = tmp_path_factory.mktemp("trained")
    toy_frame_vae.train_frame_vae(VAE, folder / "vae", log_every=2)
    toy_text_encoder.train_text_encoder(TEXT, folder / "text", log_every=2)
    train_model(folder, folder / "latte")
    return folder


def same_weights(one, other):
    old, new = (torch.load(f / "checkpoint.pt", weights_only=True) for f in (one, other))
    for part in {"vae", "model", "ema"} & old.keys():
        assert all(torch.equal(old[part][key], new[part][key]) for key in old[part])


@pytest.mark.parametrize("part", ["vae", "latte"])
def test_stopping_and_resuming_changes_no_bit(trained, tmp_path, dying, part):
    def train():
        if part == "vae":
            toy_frame_vae.train_frame_vae(VAE, tmp_path, log_every=2)
        else:
            train_model(trained, tmp_path)

    with pytest.raises(Killed):
        train()
    train()
    same_weights(trained / part, tmp_path)


def test_the_vae_is_a_plain_autoencoder_with_unit_latents(trained):
    vae = AutoencoderKL.from_pretrained(trained / "vae" / "vae")
    assert vae.config.scaling_factor == 1.0 and vae.dtype == torch.float32
    clips = render_clips(sample_scenes(8, 5), 32, 32, 4)
    latents = FrameVAE.from_diffusers(vae).encode(to_model_range(clips)).detach()
    assert latents.shape == (8, 4, 4, 8, 8)
    assert latents.mean((0, 2, 3, 4)).abs().max() < 0.5
    assert latents.std((0, 2, 3, 4)) == pytest.approx(1, abs=0.5)


def test_standardising_keeps_what_is_decoded():
    torch.manual_seed(0)
    vae = toy_frame_vae.build_frame_vae(VAE)
    clips = render_clips(sample_scenes(4, 1), 32, 32, 2)
    frames = to_model_range(clips)[:, :, 0]
    with torch.no_grad():
        before = vae.encode(frames).latent_dist
        latents = toy_frame_vae.encode_frames(vae, clips)
        decoded, mean, spread = vae.decode(before.mode()).sample, before.mode(), before.std
        scaled = toy_frame_vae.standardise_latents(vae, latents)
        after = vae.encode(frames).latent_dist
        assert torch.allclose(vae.decode(after.mode()).sample, decoded, atol=1e-4)
    assert scaled.float().mean((0, 2, 3, 4)) == pytest.approx(0, abs=1e-2)
    assert scaled.float().std((0, 2, 3, 4)) == pytest.approx(1, abs=1e-2)
    # the posterior's width shrinks as the mean does
    ratio = (after.mode() - after.mode()[:1]).std((0, 2, 3)) / (mean - mean[:1]).std((0, 2, 3))
    assert torch.allclose((after.std / spread)[0, :, 0, 0], ratio, rtol=1e-2)


def test_plain_diffusers_samples_what_was_trained_and_so_do_we(trained):
    """The shipped folder: stock LattePipeline and the chapter's own code make the same clip."""
    folder = trained / "latte" / "pipeline"
    pipe = LattePipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    prompt = "a red ball moving left in the desert"
    stock = pipe(
        prompt, num_inference_steps=3, guidance_scale=4.0, video_length=3, height=16, width=24,
        clean_caption=False, output_type="pt", generator=torch.Generator().manual_seed(4),
    ).frames.transpose(1, 2)  # fmt: skip
    ours, scheduler = VideoGenerator.from_diffusers(folder), NoiseScheduler.from_diffusers(folder)
    assert torch.equal(scheduler.alphas_cumprod, toy_latte.build_schedulers()[0].alphas_cumprod)
    assert ours.text_encoder.max_length == LATTE.max_text_length
    text, null = stock_pair(ours.text_encoder, prompt)
    sampler = DDIMSampler(scheduler, 3, spacing="trailing")
    made = ours(None, sampler, 4.0, 4, text=text, null=null, height=16, width=24).frames
    assert made.shape == (1, 3, 3, 16, 24) and made.std() > 0.01
    assert (made - stock).abs().max() <= 1e-5


def test_the_corner_of_the_world():
    scenes, unseen = (toy_latte.sample_corner(40, 1, held_out=h) for h in (False, True))
    assert not any(map(is_held_out, scenes)) and all(map(is_held_out, unseen))
    rng = np.random.default_rng(0)
    for scene in scenes:
        named = parse_prompt(toy_latte.training_caption(scene, rng, empty=0.0))
        assert named["subject"] == scene.subject and named["colour"] == scene.colour
    captions = [toy_latte.training_caption(scenes[0], rng) for _ in range(400)]
    assert 20 < captions.count("") < 70


def test_another_number_of_clips_is_not_mixed_with_the_cache(trained, tmp_path):
    from dataclasses import replace
    from shutil import copy

    copy(trained / "latte" / "latents.safetensors", tmp_path)
    with pytest.raises(ValueError, match="holds 7 clips, not 8: delete it"):
        train_model(trained, tmp_path, replace(LATTE, clips=6))


def test_shipping_measures_what_it_copies_and_writes_the_cards(trained, tmp_path):
    import json
    import shutil

    shutil.copytree(trained / "vae", tmp_path / "trained" / "frame-vae")
    shutil.copytree(trained / "latte", tmp_path / "trained" / "latte")
    models = tmp_path / "models"
    numbers = toy_latte_cards.ship_latte(tmp_path / "trained", models, prompts=2, clips=2)
    assert AutoencoderKL.from_pretrained(models / "toy-frame-vae").config.latent_channels == 4
    assert VideoGenerator.from_diffusers(models / "toy-latte").model.config.hidden_size == 16
    assert json.loads((models / "toy-latte" / "report.json").read_text()) == numbers
    card = (models / "toy-latte" / "README.md").read_text()
    assert f"{numbers['adherence']['colour']:.1%}" in card and "2 prompts" in card
    assert (
        f"{numbers['psnr_db']['96x64']:.1f} dB" in (models / "toy-frame-vae/README.md").read_text()
    )
    for name in ("toy-frame-vae", "toy-latte"):
        assert {p.name for p in (models / name / "recipe").iterdir()} == {
            "log.jsonl",
            "config.json",
        }
    assert not list(models.rglob("checkpoint.pt"))
