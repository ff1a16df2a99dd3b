"""toy-latte: trained through the chapter's own code, sampled alike by it and by diffusers."""

from unittest.mock import patch

import numpy as np
import torch
from diffusers import LattePipeline

from recipes import latte
from recipes.latte import sample_corner, training_caption
from tests.latte.references import stock_pair
from tests.recipes.samples import LATTE, survives
from vidgen_lab.latte import DDIMSampler, NoiseScheduler, VideoGenerator
from vidgen_lab.toyworld import is_held_out, parse_prompt


def test_a_killed_training_ends_as_if_it_had_not_been(trained, tmp_path):
    assert survives("latte", trained, tmp_path, 3)


def test_plain_diffusers_samples_what_was_trained_and_so_do_we(trained):
    folder = trained / "latte" / "pipeline"
    pipe = LattePipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    prompt, size = (
        "a red ball moving left in the desert",
        {"height": 32, "width": 32},
    )
    stock = pipe(
        prompt, num_inference_steps=3, guidance_scale=4.0, video_length=4, clean_caption=False,
        output_type="pt", generator=torch.Generator().manual_seed(4), **size,
    ).frames.transpose(1, 2)  # fmt: skip
    ours, scheduler = VideoGenerator.from_diffusers(folder), NoiseScheduler.from_diffusers(folder)
    assert ours.text_encoder.max_length == LATTE.dataset.max_text_length
    text, null = stock_pair(ours.text_encoder, prompt)
    sampler = DDIMSampler(scheduler, 3, spacing="trailing")
    made = ours(None, sampler, 4.0, 4, text=text, null=null, **size).frames
    assert made.shape == (1, 3, 4, 32, 32) and made.std() > 0.01
    assert (made - stock).abs().max() <= 1e-5


def test_it_is_sampled_from_the_noise_levels_it_was_trained_on(trained):
    shipped = NoiseScheduler.from_diffusers(trained / "latte" / "pipeline")
    assert torch.equal(shipped.alphas_cumprod, LATTE.diffusion.scheduler().alphas_cumprod)
    assert shipped.prediction == LATTE.diffusion.prediction == "v"


def test_it_begins_with_single_frames_and_an_error_on_the_subject_counts_more(trained):
    given, parts = [], (trained / "frame-vae/vae", trained / "latte-text/text_encoder")
    with patch.object(latte, "fit", lambda model, loss, batch, *_, **__: given.append(batch)):
        latte.train_latte(LATTE, *parts, trained / "latte")
    frames, clips = given[0](LATTE.short_steps - 1), given[0](LATTE.short_steps)
    assert frames["latents"].shape == (LATTE.short_batch, 4, 1, 4, 4)
    assert clips["latents"].shape == (LATTE.dataset.batch_size, 4, 4, 4, 4)
    for batch in (frames, clips):
        assert batch["weights"].shape == batch["latents"][:, :1].shape
        assert batch["weights"].unique().tolist() == [1, LATTE.subject_weight]
        subject = (batch["weights"] > 1).flatten(1).float().mean(1)
        assert subject.min() > 0 and subject.max() < 0.7


def test_the_corner_of_the_world():
    scenes, unseen = (sample_corner(40, 1, held_out=h) for h in (False, True))
    assert not any(map(is_held_out, scenes)) and all(map(is_held_out, unseen))
    rng = np.random.default_rng(0)
    for scene in scenes:
        named = parse_prompt(training_caption(scene, rng, empty=0.0))
        assert named["subject"] == scene.subject and named["colour"] == scene.colour
    captions = [training_caption(scenes[0], rng) for _ in range(400)]
    assert 20 < captions.count("") < 70
