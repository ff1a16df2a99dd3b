"""The transformer: its loss against an oracle, its batches, what plain diffusers makes of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXPipeline, CogVideoXTransformer3DModel

from recipes.scenes import sample_scenes
from recipes.transformer import Batches, build_optimizers, diffusion_loss, plain_attention
from tests.recipes.samples import TRANSFORMER, survives
from vidgen_lab.toyworld import parse_prompt
from vidgen_lab.training.stream import Draw


def test_a_killed_training_ends_as_if_it_had_not_been(trained, tmp_path):
    assert survives("transformer", trained, tmp_path, 3)


# the loss -----------------------------------------------------------------------------------------


def loss_of(answer, prediction="v_prediction", weights=None):
    """The loss per clip of a model that knows clip and noise and gives `answer` of (clip, noise,
    noisy, amount of signal)."""
    changes = {"prediction_type": prediction}
    scheduler = CogVideoXDDIMScheduler(**TRANSFORMER.scheduler | changes)
    latents = torch.randn(4, 3, 4, 2, 2, generator=torch.Generator().manual_seed(0))

    def oracle(noisy, text, timesteps, image_rotary_emb, return_dict):
        signal = scheduler.alphas_cumprod.float()[timesteps].view(-1, 1, 1, 1, 1)
        noise = (noisy - signal.sqrt() * latents) / (1 - signal).sqrt()
        return (answer(latents, noise, noisy, signal),)

    weights = torch.ones(4, 3, 1, 2, 2) if weights is None else weights
    batch = {"latents": latents, "text": None, "weights": weights}
    draw = Draw(0, 0, torch.Generator().manual_seed(1))
    return diffusion_loss(oracle, scheduler, None, batch, draw).float()


def velocity(clean, noise, noisy, signal):
    return signal.sqrt() * noise - (1 - signal).sqrt() * clean


def test_who_knows_the_velocity_has_no_loss():
    assert loss_of(velocity).max() < 1e-8
    assert loss_of(lambda clean, noise, *_: noise).min() > 0.05
    off = loss_of(lambda *seen: velocity(*seen) + 0.3)
    assert torch.allclose(off, torch.tensor(0.09), atol=1e-4)


def test_who_predicts_the_clip_is_measured_on_the_velocity():
    assert loss_of(lambda clean, *_: clean, "sample").max() < 1e-8

    def wrong(clean, noise, noisy, signal):
        return clean + 0.2

    def same_as_velocity(clean, noise, noisy, signal):
        return (signal.sqrt() * noisy - wrong(clean, noise, noisy, signal)) / (1 - signal).sqrt()

    assert torch.allclose(loss_of(wrong, "sample"), loss_of(same_as_velocity), rtol=1e-3)


def test_an_error_counts_by_its_weight():
    weights = torch.ones(4, 3, 1, 2, 2)
    weights[:, 1] = 3.0  # frame 1 of three counts three times: three fifths of the mean

    def wrong_in_frame_1(*seen):
        error = torch.zeros(1, 3, 1, 1, 1)
        error[:, 1] = 1.0
        return velocity(*seen) + error

    assert torch.allclose(loss_of(wrong_in_frame_1), torch.tensor(1 / 3), atol=1e-4)
    assert torch.allclose(loss_of(wrong_in_frame_1, weights=weights), torch.tensor(0.6), atol=1e-4)


# the batches --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def batches():
    scenes = sample_scenes(6, 0)
    number = torch.arange(6.0).view(6, 1, 1, 1, 1)
    latents = number.repeat(1, 16, 2, 2, 2)  # a clip's values tell which one it is
    latents[:, :, 1] = torch.arange(16.0).view(1, 16, 1, 1)  # and which frame
    subject = torch.rand(6, 16, 1, 2, 2, generator=torch.Generator().manual_seed(0)) < 0.3
    config = replace(TRANSFORMER, clips=6, batch=8, short_batch=9, short_steps=4, subject_weight=4)
    return Batches(config, latents, subject, scenes, lambda texts, long: (texts, long))


def test_every_batch_weighs_the_cells_of_its_own_subjects(batches):
    for number in (0, 5):  # of a slice of time, and of whole clips
        batch = batches(number)
        clips = batch["latents"][:, 0, 0, 0, 0].long()
        frames = batch["latents"][0, :, 1, 0, 0].long()
        cells = batches.subject[clips][:, frames]
        assert torch.equal(batch["weights"], torch.where(cells, 4.0, 1.0))


def test_the_first_batches_see_a_slice_of_time_and_say_which(batches):
    seen = set()
    for number in range(4):
        batch = batches(number)
        first = batch["first"]
        frames = batch["latents"][0, :, 1, 0, 0].tolist()
        assert batch["latents"].shape[:2] == (9, 4)
        assert frames == [4 * first, 4 * first + 1, 4 * first + 2, 4 * first + 3]
        seen.add(first)
    assert len(seen) > 1
    whole = batches(4)
    assert whole["latents"].shape[:2] == (8, 16) and whole["first"] == 0


def test_captions_are_those_of_the_clips(batches):
    lengths = set()
    for number in range(4, 12):
        batch = batches(number)
        texts, long = batch["text"]
        lengths.add(long)
        clips = batch["latents"][:, 0, 0, 0, 0].long().tolist()
        for clip, text in zip(clips, texts, strict=True):
            named = parse_prompt(text.replace("<unk>", " "))
            assert named.items() <= batches.scenes[clip].visible.items(), text
    assert lengths == {True, False}
    again = batches(5)
    assert again["text"] == batches(5)["text"] != batches(6)["text"]


# the model ----------------------------------------------------------------------------------------


def test_muon_moves_the_matrices_inside_the_blocks():
    model = CogVideoXTransformer3DModel(**TRANSFORMER.model)
    optimizers = build_optimizers(model, TRANSFORMER.optimizer)
    groups = {
        name: {id(p) for group in o.param_groups for p in group["params"]}
        for name, o in optimizers.items()
    }
    names = {name: id(p) for name, p in model.named_parameters()}
    assert not groups["muon"] & groups["adamw"]
    assert groups["muon"] | groups["adamw"] == set(names.values())
    assert names["transformer_blocks.0.attn1.to_q.weight"] in groups["muon"]
    for other in ("transformer_blocks.0.norm1.linear.weight", "proj_out.weight"):
        assert names[other] in groups["adamw"]


@torch.no_grad()
def test_plain_attention_is_attention():
    torch.manual_seed(0)
    attend = torch.nn.functional.scaled_dot_product_attention
    parts = torch.randn(3, 2, 1, 7, 8).unbind(0)
    with plain_attention():
        plain = torch.nn.functional.scaled_dot_product_attention(*parts)
        masked = torch.nn.functional.scaled_dot_product_attention(*parts, is_causal=True)
    assert torch.allclose(plain, attend(*parts), atol=1e-6)
    assert torch.equal(masked, attend(*parts, is_causal=True))
    assert torch.nn.functional.scaled_dot_product_attention is attend


@pytest.fixture(scope="module")
def pipe(trained):
    pipe = CogVideoXPipeline.from_pretrained(trained / "transformer" / "pipeline")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_plain_diffusers_runs_what_was_trained(pipe, trained):
    made = pipe(
        "a red ball",
        num_inference_steps=2,
        max_sequence_length=TRANSFORMER.model["max_text_seq_length"],
        generator=torch.Generator().manual_seed(0),
        output_type="np",
    ).frames
    assert made.shape == (1, 16, 64, 96, 3) and np.isfinite(made).all()
    config = pipe.scheduler.config
    assert config.prediction_type == "v_prediction" and config.rescale_betas_zero_snr
    assert config.timestep_spacing == "trailing" and config.snr_shift_scale == 1.0
    folder = trained / "transformer" / "pipeline"
    size = sum(f.stat().st_size for f in folder.rglob("*.safetensors"))
    parts = (pipe.vae, pipe.transformer, pipe.text_encoder)
    assert {p.dtype for part in parts for p in part.parameters()} == {torch.float32}
    assert size < 2.6 * sum(p.numel() for part in parts for p in part.parameters())


def test_a_prompt_is_all_that_is_needed(pipe):
    """The stock call reads 226 tokens, and everything else from the folder."""
    frames = pipe("a red ball bouncing over the ocean").frames[0]
    assert len(frames) == 16 and frames[0].size == (96, 64)
