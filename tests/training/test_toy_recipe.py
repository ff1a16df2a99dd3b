"""The pre-training recipe at the smallest size: resumable, exact where it claims, loadable."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import CogVideoXPipeline
from vidgen_lab.training.toy_data import random_crops, render_clips, sample_scenes
from vidgen_lab.training.toy_latents import latent_cells, normalise_latents
from vidgen_lab.training.toy_report import held_out_prompts
from vidgen_lab.training.toy_text import (
    build_text_encoder,
    build_tokenizer,
    random_caption,
    tokenize,
)

from tests.training.conftest import Killed
from vidgen_lab.toyworld import ATTRIBUTES, parse_prompt
from vidgen_lab.training import toy_cogvideox as cogvideox
from vidgen_lab.training import toy_diffusion, toy_judge, toy_report, toy_text_encoder, toy_vae
from vidgen_lab.training.optimizers import warmup_cosine, warmup_stable_decay
from vidgen_lab.video.tensors import to_model_range

VAE = toy_vae.ToyVAEConfig(
    block_out_channels=(4, 8, 8),
    latent_channels=4,
    width=32,
    height=32,
    clips=3,
    stages=(toy_vae.Stage(2, 2, 1, 16, 16), toy_vae.Stage(2, 1, 9, 16, 16)),
    warmup=2,
)
TEXT = toy_text_encoder.ToyTextConfig(width=32, layers=1, steps=4, batch=2, warmup=2)
MODEL = cogvideox.ToyCogVideoXConfig(
    heads=1,
    head_dim=32,
    layers=1,
    time_embed_dim=16,
    text_width=32,
    width=32,
    height=32,
    clips=6,
    held_out_clips=2,
    steps=4,
    batch=2,
    dense_steps=1,
    dense_batch=1,
    warmup=2,
)


def train_model(folder, out, config=MODEL, **options):
    """The transformer's training on the VAE and the text encoder in `folder`."""
    vae, text = folder / "vae" / "vae", folder / "text" / "text_encoder"
    toy_diffusion.train_transformer(config, vae, text, out, log_every=2, **options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A VAE and a pipeline after four steps each, trained in one go."""
    folder = tmp_path_factory.mktemp("trained")
    toy_vae.train_vae(VAE, folder / "vae", log_every=2)
    toy_text_encoder.train_text_encoder(TEXT, folder / "text", log_every=2)
    train_model(folder, folder / "model")
    return folder


def weights(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)


def assert_same_state(one, other):
    for name in {"vae", "model", "ema"} & one.keys():
        assert one[name].keys() == other[name].keys()
        assert all(torch.equal(one[name][key], other[name][key]) for key in one[name])


def test_stopping_and_resuming_changes_no_bit_of_the_vae(trained, tmp_path, dying):
    with pytest.raises(Killed):
        toy_vae.train_vae(VAE, tmp_path, log_every=2)
    assert weights(tmp_path)["step"] == 2
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 1}\n{"step": 3}\n{"step": 4}\n')  # written beyond the checkpoint
    toy_vae.train_vae(VAE, tmp_path, log_every=2)
    assert_same_state(weights(trained / "vae"), weights(tmp_path))
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [1, 4]


def test_stopping_and_resuming_changes_no_bit_of_the_transformer(trained, tmp_path, dying):
    with pytest.raises(Killed):
        train_model(trained, tmp_path)
    assert weights(tmp_path)["step"] == 2
    train_model(trained, tmp_path)
    assert_same_state(weights(trained / "model"), weights(tmp_path))


def test_stopping_and_resuming_changes_no_bit_of_the_text_encoder(trained, tmp_path, dying):
    with pytest.raises(Killed):
        toy_text_encoder.train_text_encoder(TEXT, tmp_path, log_every=2)
    toy_text_encoder.train_text_encoder(TEXT, tmp_path, log_every=2)
    assert_same_state(weights(trained / "text"), weights(tmp_path))


def test_plain_diffusers_loads_and_runs_what_was_trained(trained):
    pipe = CogVideoXPipeline.from_pretrained(trained / "model" / "pipeline")
    made = pipe(
        "a red ball",
        num_inference_steps=2,
        max_sequence_length=MODEL.max_text_length,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
    ).frames
    assert made.shape == (1, 17, 32, 32, 3) and np.isfinite(made).all()
    config = pipe.scheduler.config
    assert config.prediction_type == "v_prediction" and config.rescale_betas_zero_snr
    assert config.timestep_spacing == "trailing" and config.snr_shift_scale == 3.0
    size = sum(f.stat().st_size for f in (trained / "model" / "pipeline").rglob("*.safetensors"))
    count = sum(
        p.numel()
        for part in (pipe.vae, pipe.transformer, pipe.text_encoder)
        for p in part.parameters()
    )
    assert size < 2.6 * count  # two bytes a weight, and headers


def test_a_training_can_start_from_shipped_weights(trained, tmp_path):
    folder = trained / "model" / "pipeline"
    still = replace(MODEL, steps=1, learning_rate=0.0, muon_learning_rate=0.0)
    train_model(trained, tmp_path, still, init=folder / "transformer")
    before, after = (CogVideoXPipeline.from_pretrained(f) for f in (folder, tmp_path / "pipeline"))
    old, new = before.transformer.state_dict(), after.transformer.state_dict()
    assert all(torch.equal(old[name], new[name]) for name in old)


def test_a_wider_vae_starts_out_equal_to_the_narrow_one():
    torch.manual_seed(0)
    narrow, wide = (toy_vae.build_vae(replace(VAE, latent_channels=c)) for c in (4, 6))
    toy_vae.widen_latents(narrow, wide)
    video = torch.rand(1, 3, 5, 16, 16) * 2 - 1
    with torch.no_grad():
        few, many = (vae.encode(video).latent_dist for vae in (narrow, wide))
        assert torch.allclose(many.mean[:, :4], few.mean) and torch.allclose(
            many.std[:, :4], few.std
        )
        assert many.mean[:, 4:].abs().max() > 1e-3  # something new to learn from
        same = wide.decode(many.mean).sample
        assert torch.allclose(same, narrow.decode(few.mean).sample, atol=1e-6)


def test_convolving_before_enlarging_changes_nothing():
    torch.manual_seed(0)
    vae = toy_vae.build_vae(VAE)
    video = torch.rand(1, 3, 17, 32, 32) * 2 - 1
    with torch.no_grad():
        latents = vae.encode(video).latent_dist.mode()
        plain = vae.decode(latents).sample
        with toy_vae.fast_spatial_norm():
            fast = vae.decode(latents).sample
    assert latents.shape == (1, 4, 5, 8, 8)
    assert torch.allclose(plain, fast, atol=1e-6)
    assert torch.equal(plain, vae.decode(latents).sample)  # the patch is gone again


def test_quality_is_told_apart_for_what_moves_and_what_stands_still():
    pixels = torch.zeros(2, 3, 4, 2, 2, dtype=torch.uint8)
    pixels[:, 1, 1, 0, 0] = 255  # one pixel flashes: it differs in frames 0, 1 and 2
    squared = torch.full(pixels.shape, 1e-3)
    squared[:, :, :3, 0, 0] = 1e-1
    quality = toy_report.vae_quality(squared, pixels)
    assert quality["moving"] == pytest.approx(10) and quality["still"] == pytest.approx(30)
    assert (
        quality["mean"]
        == quality["worst"]
        == pytest.approx(-10 * np.log10((3 * 1e-1 + 13 * 1e-3) / 16))
    )


def test_folding_the_scale_into_the_vae_keeps_what_it_decodes():
    torch.manual_seed(1)
    vae = toy_vae.build_vae(VAE)
    video = to_model_range(render_clips(sample_scenes(2, 0), 32, 32, 9))
    with torch.no_grad():
        before = vae.encode(video).latent_dist
        decoded, latents, spread = vae.decode(before.mode()).sample, before.mode(), before.std
        scaled = normalise_latents(vae, latents)
        after = vae.encode(video).latent_dist
    assert scaled.float().pow(2).mean((0, 2, 3, 4)) == pytest.approx(1, abs=1e-2)
    assert torch.allclose(after.mode(), scaled.float(), atol=5e-3)
    scale = (scaled.float() / latents).nanmedian(dim=4).values[0, :, 0, 0]  # per channel
    ratio = (after.std / spread)[0, :, 0, 0, 0]
    assert torch.allclose(ratio, scale, rtol=1e-2)  # the posterior's width scales along
    with torch.no_grad():
        assert torch.allclose(vae.decode(after.mode()).sample, decoded, atol=1e-4)


def test_the_loss_is_plain_v_prediction():
    """A network that returns the true velocity has no loss; one that returns the noise has."""
    scheduler = cogvideox.build_scheduler()
    clean, noise = torch.randn(2, 2, 3, 4, 4, 4).unbind(0)
    timesteps = torch.tensor([100, 900])
    velocity = scheduler.get_velocity(clean, noise, timesteps)

    def loss(answer, weights=None):
        model = cogvideox.build_transformer(replace(MODEL, width=16, height=16), 4)
        oracle = lambda *_: toy_diffusion.tokens_of(answer, 2)  # noqa: E731
        parts = model, scheduler, clean, None, noise, timesteps
        return toy_diffusion.diffusion_loss(*parts, weights=weights, predict=oracle)

    assert loss(velocity).max() < 1e-10
    assert loss(noise).min() > 0.05
    weights = torch.ones(2, 3, 1, 4, 4)
    assert torch.allclose(loss(noise, weights), loss(noise))
    weights[:, 1] = 3.0  # frame 1 of three counts three times: three fifths of the mean
    errors = (noise - velocity).pow(2).mean((2, 3, 4))  # [B, T]
    expected = (errors * torch.tensor([0.2, 0.6, 0.2])).sum(1)
    assert torch.allclose(loss(noise, weights), expected)


def test_every_batch_weighs_the_cells_of_its_own_subjects():
    scenes = sample_scenes(6, 0)
    number = torch.arange(6.0).view(6, 1, 1, 1, 1)
    latents = number.expand(6, 3, 4, 4, 4)  # a clip's values tell which one it is
    subject = torch.rand(6, 3, 1, 4, 4, generator=torch.Generator().manual_seed(0)) < 0.3
    config = replace(MODEL, batch=8, dense_batch=8, subject_weight=4.0)
    for step in (0, 3):  # on a part of the tokens, and on all
        parts = latents, subject, scenes, build_tokenizer(32), config, step, "cpu"
        _, clean, *_, weights = toy_diffusion._batch(*parts)
        cells = subject[clean[:, 0, 0, 0, 0].long()]
        assert torch.equal(weights, torch.where(cells, 4.0, 1.0))


def test_a_latent_cell_shows_the_subject_if_one_of_its_pixels_does():
    masks = torch.zeros(1, 9, 8, 12, dtype=torch.bool)
    masks[0, 0, 0, 0] = masks[0, 4, 7, 11] = True  # the first frame; the last of the next four
    cells = latent_cells(masks, (3, 2, 3))
    assert cells.nonzero().tolist() == [[0, 0, 0, 0], [0, 1, 1, 2]]


def test_predicting_tokens_is_the_forward_pass_of_diffusers():
    torch.manual_seed(0)
    model = cogvideox.build_transformer(MODEL, 4)
    noisy, text = torch.randn(2, 5, 4, 8, 8), torch.randn(2, 32, 32)
    timesteps = torch.tensor([10, 900])
    with torch.no_grad():
        whole = toy_diffusion.tokens_of(model(noisy, text, timesteps).sample, 2)
        assert torch.equal(toy_diffusion.predict_tokens(model, noisy, text, timesteps), whole)
        every = torch.arange(whole.shape[1]).expand(2, -1)
        with toy_diffusion.plain_attention("cpu"):
            again = toy_diffusion.predict_tokens(model, noisy, text, timesteps, every)
        assert torch.allclose(again, whole, atol=1e-5)
        some = every[:, 3::7]
        few = toy_diffusion.predict_tokens(model, noisy, text, timesteps, some)
    assert few.shape == (2, some.shape[1], 16)
    assert not torch.allclose(few, whole[:, 3::7], atol=1e-4)  # the others were not looked at


def test_tokens_are_cut_in_the_order_of_the_transformer():
    latents = torch.arange(2 * 3 * 4 * 4.0).view(1, 2, 3, 4, 4)
    tokens = toy_diffusion.tokens_of(latents, 2)
    assert tokens.shape == (1, 8, 12)
    assert torch.equal(tokens[0, 5], latents[0, 1, :, 0:2, 2:4].flatten())


def test_every_token_learns_what_the_caption_names():
    names = toy_text_encoder.labels_of("a red ball moving left in a desert")
    chosen = [
        values[i - 1] if i else None for i, values in zip(names, ATTRIBUTES.values(), strict=True)
    ]
    assert chosen == ["ball", "red", "left", "desert", None]
    assert toy_text_encoder.labels_of("") == [0] * 5
    torch.manual_seed(0)
    config = replace(TEXT, batch=16)
    tokenizer = build_tokenizer(32)
    model = toy_text_encoder.Reading(build_text_encoder(len(tokenizer), 32, 1), masked=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    ids, labels = toy_text_encoder._batch(tokenizer, config, 0, "cpu")
    for _ in range(120):
        loss = toy_text_encoder.reading_loss(model(ids), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert toy_text_encoder.accuracy(model, ids, labels) > 0.8
    assert toy_text_encoder.accuracy(model, ids, labels.flip(0)) < 0.5


def test_learning_rates_warm_up_and_end_at_zero():
    factors = [warmup_stable_decay(s, 1000, 100, 0.5) for s in (0, 99, 500, 750, 1000)]
    assert factors == pytest.approx([0.01, 1, 1, 0.5, 0])
    factors = [warmup_cosine(s, 1000, 100) for s in (0, 99, 550, 1000)]
    assert factors == pytest.approx([0.01, 1, 0.5, 0])


def test_every_caption_is_known_to_the_tokenizer():
    tokenizer, rng = build_tokenizer(32), np.random.default_rng(0)
    for scene in sample_scenes(200, 3, None):
        text = random_caption(scene, rng, empty=0.0, unknown=0.0)
        ids = tokenize(tokenizer, [text], 32)[0]
        assert tokenizer.unk_token_id not in ids and len(ids) == 32
        assert (ids == tokenizer.eos_token_id).sum() == 1  # nothing was cut off
    blank = tokenize(tokenizer, ["xyzzy ball"], 32)[0]
    assert blank[0] == tokenizer.unk_token_id


def test_crops_come_from_one_clip_and_one_place():
    clips = torch.arange(2 * 3 * 4 * 6 * 8).remainder(251).to(torch.uint8).view(2, 3, 4, 6, 8)
    crop = random_crops(clips, 1, 2, 3, 4, np.random.default_rng(0))[0]
    assert crop.shape == (3, 2, 3, 4)
    found = [
        torch.equal(to_model_range(clips[n, :, t : t + 2, y : y + 3, x : x + 4]), crop)
        for n in range(2)
        for t in range(3)
        for y in range(4)
        for x in range(5)
    ]
    assert any(found)


def test_held_out_prompts_name_everything_and_mark_unseen_compositions():
    prompts = held_out_prompts(40, 10)
    assert sum(p.unseen for p in prompts) == 10
    for p in prompts:
        assert {"style": "cartoon"} | parse_prompt(p.text) == p.scene.visible


def test_the_judge_learns_and_survives_saving(tmp_path):
    torch.manual_seed(0)
    scenes = sample_scenes(8, 5, held_out=None)
    clips = to_model_range(render_clips(scenes, 96, 64, 17)[:, :, ::2])
    target = toy_judge.labels(scenes)
    judge = toy_judge.ToyJudge(channels=(8, 8, 16, 16), joint=(16, 16))
    optimizer = torch.optim.AdamW(judge.parameters(), lr=1e-2)
    first = toy_judge.judge_loss(judge, clips, target).item()
    for _ in range(25):
        loss = toy_judge.judge_loss(judge, clips, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.4 * first
    toy_judge.save_judge(judge, tmp_path)
    again = toy_judge.load_judge(tmp_path)
    judge.eval()
    with torch.no_grad():
        for name in ATTRIBUTES:
            assert torch.allclose(judge(clips)[name], again(clips)[name], atol=0.05)
