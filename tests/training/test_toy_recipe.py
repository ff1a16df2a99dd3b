"""The pre-training recipe at the smallest size: resumable, exact where it claims, loadable."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import CogVideoXPipeline

from vidgen_lab.toyworld import ATTRIBUTES, parse_prompt
from vidgen_lab.training import checkpoints, toy_judge, toy_vae
from vidgen_lab.training import toy_cogvideox as cogvideox
from vidgen_lab.training.toy_data import random_crops, render_clips, sample_scenes, to_model_range
from vidgen_lab.training.toy_report import held_out_prompts
from vidgen_lab.training.toy_text import build_tokenizer, random_caption, tokenize

VAE = toy_vae.ToyVAEConfig(
    block_out_channels=(4, 8, 8),
    latent_channels=4,
    width=32,
    height=32,
    clips=3,
    stages=(toy_vae.Stage(2, 2, 1, 16, 16), toy_vae.Stage(2, 1, 9, 16, 16)),
    warmup=2,
)
MODEL = cogvideox.ToyCogVideoXConfig(
    heads=1,
    head_dim=32,
    layers=1,
    time_embed_dim=16,
    text_width=32,
    text_layers=1,
    width=32,
    height=32,
    clips=6,
    held_out_clips=2,
    steps=4,
    batch=2,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A VAE and a pipeline after four steps each, trained in one go."""
    folder = tmp_path_factory.mktemp("trained")
    toy_vae.train_vae(VAE, folder / "vae", log_every=2)
    cogvideox.train_transformer(MODEL, folder / "vae" / "vae", folder / "model", log_every=2)
    return folder


def weights(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)


def assert_same_state(one, other):
    for name in {"vae", "model", "ema"} & one.keys():
        assert one[name].keys() == other[name].keys()
        assert all(torch.equal(one[name][key], other[name][key]) for key in one[name])


class Killed(Exception):
    """Stands in for kill -9 right after a checkpoint."""


@pytest.fixture
def dying(monkeypatch):
    """Make the next training die at its first checkpoint, which comes after two steps."""
    save = checkpoints.Run.save

    def save_then_die(run, step):
        save(run, step)
        if step < run.total:
            raise Killed

    monkeypatch.setattr(checkpoints, "CHECKPOINT_EVERY", 1)
    monkeypatch.setattr(checkpoints.Run, "save", save_then_die)


def test_stopping_and_resuming_changes_no_bit_of_the_vae(trained, tmp_path, dying):
    with pytest.raises(Killed):
        toy_vae.train_vae(VAE, tmp_path, log_every=2)
    assert weights(tmp_path)["step"] == 2
    toy_vae.train_vae(VAE, tmp_path, log_every=2)
    assert_same_state(weights(trained / "vae"), weights(tmp_path))


def test_stopping_and_resuming_changes_no_bit_of_the_transformer(trained, tmp_path, dying):
    vae = trained / "vae" / "vae"
    with pytest.raises(Killed):
        cogvideox.train_transformer(MODEL, vae, tmp_path, log_every=2)
    assert weights(tmp_path)["step"] == 2
    cogvideox.train_transformer(MODEL, vae, tmp_path, log_every=2)
    assert_same_state(weights(trained / "model"), weights(tmp_path))


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
    cogvideox.train_transformer(still, trained / "vae" / "vae", tmp_path, init=folder)
    before, after = (CogVideoXPipeline.from_pretrained(f) for f in (folder, tmp_path / "pipeline"))
    for part in ("transformer", "text_encoder"):
        old, new = getattr(before, part).state_dict(), getattr(after, part).state_dict()
        assert all(torch.equal(old[name], new[name]) for name in old)


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


def test_folding_the_scale_into_the_vae_keeps_what_it_decodes():
    torch.manual_seed(1)
    vae = toy_vae.build_vae(VAE)
    video = to_model_range(render_clips(sample_scenes(2, 0), 32, 32, 9))
    with torch.no_grad():
        before = vae.encode(video).latent_dist
        decoded, latents, spread = vae.decode(before.mode()).sample, before.mode(), before.std
        scaled = cogvideox.normalise_latents(vae, latents)
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

    class Oracle(torch.nn.Module):
        def __init__(self, answer):
            super().__init__()
            self.answer = answer

        def forward(self, *_):
            return type("Output", (), {"sample": self.answer})

    class Text(torch.nn.Module):
        def forward(self, ids):
            return (ids,)

    def loss(answer):
        model = {"transformer": Oracle(answer), "text_encoder": Text()}
        return cogvideox.diffusion_loss(model, scheduler, clean, None, noise, timesteps)

    assert loss(velocity).max() < 1e-10
    assert loss(noise).min() > 0.05


def test_learning_rates_warm_up_and_end_at_zero():
    config = replace(MODEL, steps=1000, warmup=100, decay_share=0.5)
    factors = [cogvideox.learning_rate_factor(s, config) for s in (0, 99, 500, 750, 1000)]
    assert factors == pytest.approx([0.01, 1, 1, 0.5, 0])
    vae = replace(VAE, stages=(toy_vae.Stage(1000, 1, 1, 16, 16),), warmup=100)
    rates = [toy_vae.learning_rate(s, vae) / vae.learning_rate for s in (0, 99, 550, 1000)]
    assert rates == pytest.approx([0.01, 1, 0.5, 0], abs=1e-3)


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
