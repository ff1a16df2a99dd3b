"""Train the embedded text-to-video transformer on cached latents of the toy world."""

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXTransformer3DModel
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, T5EncoderModel

from vidgen_lab.toyworld import Scene
from vidgen_lab.training.checkpoints import Run
from vidgen_lab.training.loop import Numbers, moving_average, plain_attention, train
from vidgen_lab.training.optimizers import muon_and_adamw, warmup_stable_decay
from vidgen_lab.training.toy_cogvideox import (
    ToyCogVideoXConfig,
    build_scheduler,
    build_transformer,
    rotary_positions,
    save_pipeline,
)
from vidgen_lab.training.toy_data import sample_scenes
from vidgen_lab.training.toy_latents import cached_latents
from vidgen_lab.training.toy_text import build_tokenizer, random_caption, tokenize


def build_optimizers(
    model: nn.Module, config: ToyCogVideoXConfig
) -> dict[str, torch.optim.Optimizer]:
    """Muon for the matrices inside the transformer's blocks, AdamW for everything else."""

    def is_muon(name: str, parameter: nn.Parameter) -> bool:
        inside = name.startswith("transformer_blocks.") and ".norm" not in name
        return inside and parameter.ndim == 2

    return muon_and_adamw(model, is_muon, config.muon_learning_rate, config.learning_rate)


def diffusion_loss(
    transformer: CogVideoXTransformer3DModel,
    scheduler: CogVideoXDDIMScheduler,
    rope: tuple[Tensor, Tensor],
    latents: Tensor,
    text: Tensor,
    noise: Tensor,
    timesteps: Tensor,
    weights: Tensor | None = None,
) -> Tensor:
    """Weighted mean of the squared error on v (Salimans and Ho 2022) per sample [B].

    latents, noise: [B, T, C, H, W]; weights: [B, T, 1, H, W], None for all alike. A model that
    predicts the clean latents ("sample") is also measured on v, which is their error divided by
    the noise level (Li and He 2025, "Back to basics").
    """
    noisy = scheduler.add_noise(latents, noise, timesteps)
    predicted = transformer(noisy, text, timesteps, image_rotary_emb=rope, return_dict=False)[0]
    if scheduler.config.prediction_type == "sample":
        alpha = scheduler.alphas_cumprod.to(latents.device)[timesteps].view(-1, 1, 1, 1, 1)
        error = (predicted.float() - latents) / (1 - alpha).sqrt().clamp_min(0.05)
    else:
        error = predicted.float() - scheduler.get_velocity(latents, noise, timesteps)
    squared = error**2
    if weights is not None:
        squared = squared * weights / weights.mean((1, 2, 3, 4), keepdim=True)
    return squared.flatten(1).mean(1)


def train_transformer(
    config: ToyCogVideoXConfig,
    vae_folder: Path,
    text_folder: Path,
    out: Path,
    device: str = "cpu",
    log_every: int = 50,
    compiled: bool = False,
    latents_folder: Path | None = None,
) -> None:
    """Train (or resume) the transformer; `out` gets checkpoint.pt, log.jsonl and pipeline/, a
    folder for CogVideoXPipeline that is written at every checkpoint.

    compiled: torch.compile the transformer; the numbers differ in the last digits.
    """
    torch.manual_seed(config.seed)
    scenes = sample_scenes(config.clips, config.seed + 10)
    unseen = sample_scenes(config.held_out_clips, config.seed + 11, held_out=True)
    vae = AutoencoderKLCogVideoX.from_pretrained(vae_folder).to(device)
    folder = latents_folder or out.parent / "latents"
    latents, subject = cached_latents(vae, folder, scenes, config.size)
    held_out, _ = cached_latents(vae, folder / "held_out", unseen, config.size)
    tokenizer, scheduler = build_tokenizer(config.max_text_length), build_scheduler(config)
    encoder = T5EncoderModel.from_pretrained(text_folder).float().to(device).eval()
    model = build_transformer(config, vae.config.latent_channels).to(device)
    rope = rotary_positions(config, device)
    ema = moving_average(model, config.ema_decay)
    optimizers = build_optimizers(model, config)
    run = Run(out, {"model": model, "ema": ema, **optimizers}, config.steps, log_every)
    fixed = _fixed_evaluation(unseen, tokenizer, encoder, held_out, config, device)
    predict = torch.compile(model) if compiled else model
    factor = partial(
        warmup_stable_decay,
        steps=config.steps, warmup=config.warmup, decay_share=config.decay_share,
    )  # fmt: skip

    def loss_at(step: int) -> tuple[Tensor, Numbers]:
        ids, clean, *rest, first = _batch(latents, subject, scenes, tokenizer, config, step, device)
        tokens = rope[0].shape[0] * clean.shape[1] // config.num_frames
        here = tuple(part[first * tokens : (first + 1) * tokens] for part in rope)
        text = _encoded(encoder, ids)
        return diffusion_loss(predict, scheduler, here, clean, text, *rest).mean(), {}

    def at_checkpoint() -> Numbers:
        save_pipeline(out / "pipeline", vae, ema.module, encoder, tokenizer, scheduler)
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            losses = diffusion_loss(ema.module, scheduler, rope, *fixed)
        return {"held_out_loss": losses.mean()}

    with plain_attention(device):
        train(
            run, model, optimizers, factor, loss_at,
            ema=ema, at_checkpoint=at_checkpoint, device=device,
        )  # fmt: skip
    (out / "config.json").write_text(json.dumps(asdict(config), indent=2))


@torch.no_grad()
def _encoded(encoder: T5EncoderModel, token_ids: Tensor) -> Tensor:
    with torch.autocast(token_ids.device.type, enabled=False):  # as the pipeline will
        return encoder(token_ids)[0]  # [B, L, D]


def _batch(
    latents: Tensor,
    subject: Tensor,
    scenes: list[Scene],
    tokenizer: PreTrainedTokenizerFast,
    config: ToyCogVideoXConfig,
    step: int,
    device: str,
) -> tuple:
    """Token ids, clean latents, noise, timesteps and weights of one step, and which slice of time
    they are: a function of the step alone."""
    rng = np.random.default_rng((config.seed, step))
    short = step < config.short_steps
    size = config.short_batch if short else config.batch
    length = (config.patch_size_t or 1) if short else config.num_frames
    first = int(rng.integers(config.num_frames // length))
    time = slice(first * length, (first + 1) * length)
    indices = rng.integers(config.clips, size=size)
    texts = [random_caption(scenes[i], rng) for i in indices]
    clean = latents[torch.from_numpy(indices), time].float()
    shown = subject[torch.from_numpy(indices), time].float()
    weights = 1 + (config.subject_weight - 1) * shown
    noise = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32))
    # One timestep from each of `size` equal parts: every batch sees all noise levels.
    timesteps = torch.from_numpy((rng.permutation(size) + rng.random(size)) / size * 1000).long()
    long = rng.random() < config.long_text_share
    ids = tokenize(tokenizer, texts, config.long_text_length if long else config.max_text_length)
    return *(part.to(device) for part in (ids, clean, noise, timesteps, weights)), first


def _fixed_evaluation(
    scenes: list[Scene],
    tokenizer: PreTrainedTokenizerFast,
    encoder: T5EncoderModel,
    latents: Tensor,
    config: ToyCogVideoXConfig,
    device: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Latents, captions, noise and timesteps that stay the same, so that losses compare over a
    run."""
    rng = np.random.default_rng(config.seed + 12)
    texts = [random_caption(scene, rng, empty=0.0) for scene in scenes]
    text = _encoded(encoder, tokenize(tokenizer, texts, config.max_text_length).to(device))
    noise = torch.from_numpy(rng.standard_normal(latents.shape, dtype=np.float32))
    timesteps = torch.linspace(0, 999, len(scenes)).round().long()
    return latents.float().to(device), text, noise.to(device), timesteps.to(device)
