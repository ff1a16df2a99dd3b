"""The embedded text-to-video transformer: a small CogVideoX, trained on latents of the world."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
)
from torch import Tensor, nn
from transformers import T5EncoderModel

from recipes.scenes import cached_latents, sample_scenes
from recipes.text import build_tokenizer, random_caption, tokenize
from recipes.training import Recipe, fit, save_halves
from vidgen_lab.latte.diffusion.losses import mean_square
from vidgen_lab.toyworld import Scene
from vidgen_lab.training.distributed import accelerator
from vidgen_lab.training.optim import FloatMuon, OptimizerConfig
from vidgen_lab.training.stream import Draw


@dataclass(frozen=True)
class TransformerConfig(Recipe):
    """Recipe of the embedded text-to-video transformer, in the layout of CogVideoX-5B: joint
    attention, rotary positions, v-prediction, zero terminal SNR.

    A token is 8x8 pixels (one latent cell) of four frames, as CogVideoX-1.5 joins two frames: small
    in space, where outlines are sharp, and long in time, where little changes. The first
    `short_steps` see one such slice of time, of three times as many clips: what things look like is
    learned sooner from many pictures than from few films, and CogVideoX began with pictures too.

    An error where the subject is counts `subject_weight` times: it covers a tenth of the picture
    and is what most captions are about. A share of the batches is padded to CogVideoX's own 226
    text tokens, so that the stock pipeline's defaults give what the short text gives.
    scheduler: settings of CogVideoXDDIMScheduler.
    """

    scheduler: dict[str, Any] = field(default_factory=dict)
    long_text_length: int = 226
    long_text_share: float = 0.08
    clips: int = 12000
    held_out_clips: int = 32
    batch: int = 16
    short_steps: int = 2000
    short_batch: int = 48
    subject_weight: float = 3.0

    @property
    def size(self) -> tuple[int, int, int]:
        """Width, height and frames of a clip; a latent cell is 8x8 pixels."""
        width, height = self.model["sample_width"], self.model["sample_height"]
        return 8 * width, 8 * height, self.model["sample_frames"]


def build_optimizers(model: nn.Module, rates: OptimizerConfig) -> dict[str, torch.optim.Optimizer]:
    """Muon (Jordan 2024) for the matrices inside the transformer's blocks, but not for those that
    make shifts and scales of the time; AdamW for everything else."""
    inside, rest = [], []
    for name, parameter in model.named_parameters():
        hidden = name.startswith("transformer_blocks.") and ".norm" not in name
        (inside if hidden and parameter.ndim == 2 else rest).append(parameter)
    decay = rates.weight_decay
    return {
        "muon": FloatMuon(inside, rates.muon_learning_rate, decay, adjust_lr_fn="match_rms_adamw"),
        "adamw": torch.optim.AdamW(
            rest, rates.learning_rate, rates.betas, weight_decay=decay, fused=True
        ),
    }


def diffusion_loss(
    transformer: CogVideoXTransformer3DModel,
    scheduler: CogVideoXDDIMScheduler,
    rope: tuple[Tensor, Tensor],
    batch: dict[str, Tensor],
    draw: Draw,
) -> Tensor:
    """Weighted mean of the squared error on v (Salimans and Ho 2022) per sample [B].

    batch: "latents" [B, T, C, H, W], "text" [B, L, D], "weights" [B, T, 1, H, W]. A model that
    predicts the clean latents ("sample") is also measured on v, which is their error divided by the
    noise level (Li and He 2025, "Back to basics").
    """
    latents, weights = batch["latents"].float(), batch["weights"]
    count = scheduler.config.num_train_timesteps
    timesteps = (draw.uniform(len(latents)) * count).long().clamp_max(count - 1)
    noise = draw.noise(latents)
    noisy = scheduler.add_noise(latents, noise, timesteps)
    predicted = transformer(
        noisy, batch["text"], timesteps, image_rotary_emb=rope, return_dict=False
    )[0].float()
    if scheduler.config.prediction_type == "sample":
        alpha = scheduler.alphas_cumprod.to(latents.device)[timesteps].view(-1, 1, 1, 1, 1)
        error = (predicted - latents) / (1 - alpha).sqrt().clamp_min(0.05)
    else:
        error = predicted - scheduler.get_velocity(latents, noise, timesteps)
    return mean_square(error, weights)


@contextmanager
def plain_attention() -> Iterator[None]:
    """On a CPU, let attention be two matrix products: at this length faster than the fused kernel,
    above all backwards."""
    fused = F.scaled_dot_product_attention

    def attend(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, **rest):
        if query.is_cuda or attn_mask is not None or dropout_p or is_causal or rest:
            return fused(query, key, value, attn_mask, dropout_p, is_causal, **rest)
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        return scores.softmax(-1) @ value

    with patch.object(F, "scaled_dot_product_attention", attend):
        yield


@dataclass
class Batches:
    """Micro-batch n of the training, a function of n alone.

    latents, subject: of `scenes`, as `cached_latents` returns them; encode: captions to text
    embeddings, and whether to pad them to the long length.
    """

    config: TransformerConfig
    latents: Tensor
    subject: Tensor
    scenes: list[Scene]
    encode: Callable[[list[str], bool], Tensor]

    def __call__(self, number: int) -> dict[str, Tensor]:
        config, frames = self.config, self.config.size[2]
        rng = np.random.default_rng((config.training.seed, number))
        short = number < config.short_steps
        size = config.short_batch if short else config.batch
        length = config.model["patch_size_t"] if short else frames
        first = int(rng.integers(frames // length))
        time = slice(first * length, (first + 1) * length)
        chosen = rng.integers(config.clips, size=size)
        texts = [random_caption(self.scenes[i], rng) for i in chosen]
        indices = torch.from_numpy(chosen).to(self.latents.device)
        long = rng.random() < config.long_text_share
        return {
            "latents": self.latents[indices, time],
            "text": self.encode(texts, long),
            "weights": 1 + (config.subject_weight - 1) * self.subject[indices, time].float(),
            "first": first,
        }


def train_transformer(
    config: TransformerConfig, vae_folder: Path, text_folder: Path, out: Path
) -> None:
    """Train (or resume) the transformer in `out`; `out`/pipeline, a folder for CogVideoXPipeline,
    is written whenever the held-out loss is measured."""
    seed, device = config.training.seed, accelerator().device
    torch.manual_seed(seed)
    scenes = sample_scenes(config.clips, seed + 10)
    unseen = sample_scenes(config.held_out_clips, seed + 11, held_out=True)
    vae = AutoencoderKLCogVideoX.from_pretrained(vae_folder).to(device)
    folder, (width, height, frames) = out.parent / "latents", config.size
    cached = cached_latents(vae, folder, scenes, config.size)
    latents, subject = (part.to(device) for part in cached)
    held_out, _ = cached_latents(vae, folder / "held_out", unseen, config.size)
    text_length = config.model["max_text_seq_length"]
    tokenizer, scheduler = build_tokenizer(text_length), CogVideoXDDIMScheduler(**config.scheduler)
    encoder = T5EncoderModel.from_pretrained(text_folder).float().eval().to(device)
    model = CogVideoXTransformer3DModel(**config.model)
    pipe = CogVideoXPipeline(tokenizer, encoder, vae, model, scheduler)
    rope = pipe._prepare_rotary_positional_embeddings(height, width, frames, device)

    @torch.no_grad()
    def encode(texts: list[str], long: bool = False) -> Tensor:
        length = config.long_text_length if long else text_length
        return encoder(tokenize(tokenizer, texts, length).to(device))[0]  # [B, L, D]

    def loss(model: nn.Module, batch: dict[str, Tensor], draw: Draw) -> Tensor:
        tokens = len(rope[0]) * batch["latents"].shape[1] // frames  # rope: [tokens, D] x 2
        here = slice(batch["first"] * tokens, (batch["first"] + 1) * tokens)
        return diffusion_loss(model, scheduler, tuple(p[here] for p in rope), batch, draw)

    def evaluate(model: nn.Module) -> dict[str, float]:
        save_halves(pipe, out / "pipeline")
        return {}

    rng = np.random.default_rng(seed + 12)
    measured = {
        "latents": held_out,
        "text": encode([random_caption(scene, rng, empty=0.0) for scene in unseen]),
        "weights": torch.ones_like(held_out[:, :, :1], dtype=torch.float32),
        "first": 0,
    }
    with plain_attention():
        fit(
            model,
            loss,
            Batches(config, latents, subject, scenes, encode),
            out,
            config,
            optimizers=lambda model: build_optimizers(model, config.optimizer),
            schedule=config.optimizer.factor(config.training.steps),
            held_out=[measured],
            evaluate=evaluate,
        )
