"""Train the embedded text-to-video transformer on cached latents of the toy world."""

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXTransformer3DModel
from torch import nn
from transformers import PreTrainedTokenizerFast, T5EncoderModel

from vidgen_lab.toyworld import Scene
from vidgen_lab.training.checkpoints import Run
from vidgen_lab.training.loop import Numbers, moving_average, plain_attention, train
from vidgen_lab.training.optimizers import muon_and_adamw, warmup_stable_decay
from vidgen_lab.training.toy_cogvideox import (
    ToyCogVideoXConfig,
    build_scheduler,
    build_transformer,
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


def tokens_of(latents: torch.Tensor, patch_size: int) -> torch.Tensor:
    """Cut latents [B, T, C, H, W] into the tokens [B, T*H/p*W/p, C*p*p] that the transformer
    predicts, in its order."""
    b, t, c, h, w = latents.shape
    p = patch_size
    cut = latents.reshape(b, t, c, h // p, p, w // p, p)
    return cut.permute(0, 1, 3, 5, 2, 4, 6).reshape(b, t * (h // p) * (w // p), c * p * p)


def predict_tokens(
    transformer: CogVideoXTransformer3DModel,
    noisy: torch.Tensor,
    text: torch.Tensor,
    timesteps: torch.Tensor,
    kept: torch.Tensor | None = None,
) -> torch.Tensor:
    """The transformer's forward pass, on the chosen tokens only.

    noisy: [B, T, C, H, W]; text: [B, L, D]; kept: indices [B, K] of video tokens, None for all.
    Returns the prediction for those tokens, [B, K, C*p*p].
    """
    temb = transformer.time_embedding(transformer.time_proj(timesteps).to(noisy.dtype))
    joint = transformer.patch_embed(text, noisy)
    text, video = joint[:, : text.shape[1]], joint[:, text.shape[1] :]
    if kept is not None:
        video = video.gather(1, kept[..., None].expand(-1, -1, video.shape[-1]))
    for block in transformer.transformer_blocks:
        video, text = block(hidden_states=video, encoder_hidden_states=text, temb=temb)
    video = transformer.norm_out(transformer.norm_final(video), temb=temb)
    return transformer.proj_out(video)


def diffusion_loss(
    transformer: CogVideoXTransformer3DModel,
    scheduler: CogVideoXDDIMScheduler,
    latents: torch.Tensor,
    text: torch.Tensor,
    noise: torch.Tensor,
    timesteps: torch.Tensor,
    kept: torch.Tensor | None = None,
    weights: torch.Tensor | None = None,
    predict=predict_tokens,
) -> torch.Tensor:
    """Weighted mean of the squared error on v (Salimans and Ho 2022) per sample [B].

    latents, noise: [B, T, C, H, W]; weights: [B, T, 1, H, W], None for all alike.
    """
    noisy = scheduler.add_noise(latents, noise, timesteps)
    velocity = scheduler.get_velocity(latents, noise, timesteps)
    weights = torch.ones_like(latents) if weights is None else weights.expand_as(latents)

    def chosen(cells: torch.Tensor) -> torch.Tensor:
        tokens = tokens_of(cells, transformer.config.patch_size)
        if kept is None:
            return tokens
        return tokens.gather(1, kept[..., None].expand(-1, -1, tokens.shape[-1]))

    predicted = predict(transformer, noisy, text, timesteps, kept).float()
    weights = chosen(weights)
    squared = weights * (predicted - chosen(velocity)) ** 2
    return squared.flatten(1).sum(1) / weights.flatten(1).sum(1)


def train_transformer(
    config: ToyCogVideoXConfig,
    vae_folder: Path,
    text_folder: Path,
    out: Path,
    device: str = "cpu",
    log_every: int = 50,
    init: Path | None = None,
    compiled: bool = False,
) -> None:
    """Train (or resume) the transformer on latents of one VAE and outputs of one text encoder.

    `out` gets checkpoint.pt, log.jsonl, the cached latents and, from the EMA weights, pipeline/.
    init: a folder of transformer weights to start from; it fits only if its VAE has the same
    latents. compiled: use torch.compile, which needs a C++ compiler and saves a third.
    """
    torch.manual_seed(config.seed)
    scenes = sample_scenes(config.clips, config.seed + 10)
    unseen = sample_scenes(config.held_out_clips, config.seed + 11, held_out=True)
    vae, latents, subject = cached_latents(vae_folder, out, scenes + unseen, config.size, device)
    tokenizer, scheduler = build_tokenizer(config.max_text_length), build_scheduler()
    encoder = T5EncoderModel.from_pretrained(text_folder).float().to(device).eval()
    model = build_transformer(config, vae.config.latent_channels)
    if init:
        model = CogVideoXTransformer3DModel.from_pretrained(init)
    model.to(device)
    ema = moving_average(model, config.ema_decay)
    optimizers = build_optimizers(model, config)
    run = Run(out, {"model": model, "ema": ema, **optimizers}, config.steps, log_every)
    fixed = _fixed_evaluation(unseen, tokenizer, encoder, latents[config.clips :], config, device)
    predict = torch.compile(predict_tokens) if compiled else predict_tokens
    factor = partial(
        warmup_stable_decay,
        steps=config.steps, warmup=config.warmup, decay_share=config.decay_share,
    )  # fmt: skip

    def loss_at(step: int) -> tuple[torch.Tensor, Numbers]:
        ids, *batch = _batch(latents, subject, scenes, tokenizer, config, step, device)
        clean, *rest = batch
        losses = diffusion_loss(model, scheduler, clean, _encoded(encoder, ids), *rest, predict)
        return losses.mean(), {}

    def at_checkpoint() -> Numbers:
        save_pipeline(out / "pipeline", vae, ema.module, encoder, tokenizer, scheduler)
        return {"held_out_loss": diffusion_loss(ema.module, scheduler, *fixed).mean()}

    with plain_attention(device):
        train(
            run, model, optimizers, factor, loss_at,
            ema=ema, at_checkpoint=at_checkpoint, device=device,
        )  # fmt: skip
    (out / "config.json").write_text(json.dumps(asdict(config), indent=2))


@torch.no_grad()
def _encoded(encoder: T5EncoderModel, token_ids: torch.Tensor) -> torch.Tensor:
    with torch.autocast(token_ids.device.type, enabled=False):  # as the pipeline will
        return encoder(token_ids)[0]  # [B, L, D]


def _batch(
    latents: torch.Tensor,
    subject: torch.Tensor,
    scenes: list[Scene],
    tokenizer: PreTrainedTokenizerFast,
    config: ToyCogVideoXConfig,
    step: int,
    device: str,
) -> tuple[torch.Tensor | None, ...]:
    """Token ids, clean latents, noise, timesteps, kept tokens and weights of one step: a function
    of the step alone."""
    rng = np.random.default_rng((config.seed, step))
    dense = step >= config.steps - config.dense_steps
    size = config.dense_batch if dense else config.batch
    indices = rng.integers(config.clips, size=size)
    texts = [random_caption(scenes[i], rng) for i in indices]
    clean = latents[torch.from_numpy(indices)].float()
    weights = 1 + (config.subject_weight - 1) * subject[torch.from_numpy(indices)].float()
    noise = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32))
    # One timestep from each of `size` equal parts: every batch sees all noise levels.
    timesteps = torch.from_numpy((rng.permutation(size) + rng.random(size)) / size * 1000).long()
    ids = tokenize(tokenizer, texts, config.max_text_length)
    kept = None if dense else _kept(clean, config, rng).to(device)
    batch = [part.to(device) for part in (ids, clean, noise, timesteps)]
    return *batch, kept, weights.to(device)


def _kept(
    latents: torch.Tensor, config: ToyCogVideoXConfig, rng: np.random.Generator
) -> torch.Tensor:
    """Indices [B, K] of a random share of each sample's tokens, in order."""
    b, t, _, h, w = latents.shape
    count = t * (h // config.patch_size) * (w // config.patch_size)
    order = rng.random((b, count)).argsort(axis=1)[:, : max(1, round(config.keep * count))]
    return torch.from_numpy(np.sort(order, axis=1))


def _fixed_evaluation(
    scenes: list[Scene],
    tokenizer: PreTrainedTokenizerFast,
    encoder: T5EncoderModel,
    latents: torch.Tensor,
    config: ToyCogVideoXConfig,
    device: str,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Captions, noise and timesteps that stay the same, so that losses compare over a run."""
    rng = np.random.default_rng(config.seed + 12)
    texts = [random_caption(scene, rng, empty=0.0) for scene in scenes]
    text = _encoded(encoder, tokenize(tokenizer, texts, config.max_text_length).to(device))
    noise = torch.from_numpy(rng.standard_normal(latents.shape, dtype=np.float32))
    timesteps = torch.linspace(0, 999, len(scenes)).round().long()
    return latents.float().to(device), text, noise.to(device), timesteps.to(device)
