"""The Latte of chapter 3: a small text-to-video model of a corner of the toy world."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, LattePipeline
from torch import Tensor
from transformers import T5EncoderModel

from recipes.latents import cached_latents
from recipes.text import build_tokenizer
from recipes.training import fit, save_halves
from recipes.transformer import plain_attention
from vidgen_lab.latte import Latte, LatteConfig, TextEncoder
from vidgen_lab.toyworld import BACKGROUNDS, COLOURS, Scene, caption, is_held_out
from vidgen_lab.training.distributed import accelerator
from vidgen_lab.training.objectives import ObjectiveConfig
from vidgen_lab.training.optim import OptimizerConfig

# Latte's noise levels, and v-prediction; the shipped pipeline has the same.
OBJECTIVE = ObjectiveConfig(prediction="v", schedule="linear", beta_start=1e-4, beta_end=0.02)
# The corner of the world that this model learns; the whole of it is toy-cogvideox's.
SUBJECTS = ("ball", "cube", "star", "heart", "ring")
MOTIONS = ("left", "right", "up", "down")


@dataclass(frozen=True)
class ToyLatteConfig:
    """Recipe of `toy-latte`. Sizes are in pixels; the VAE makes latents eight times smaller."""

    hidden_size: int = 144
    depth: int = 8
    heads: int = 3
    patch_size: int = 1
    text_width: int = 96
    max_text_length: int = 24
    width: int = 96
    height: int = 64
    num_frames: int = 8
    clips: int = 6000
    held_out_clips: int = 32
    steps: int = 4600
    batch: int = 16
    learning_rate: float = 1e-3
    muon_learning_rate: float = 2e-3
    warmup: int = 50
    decay_share: float = 0.4
    ema_decay: float = 0.995
    seed: int = 0

    @property
    def size(self) -> tuple[int, int, int]:
        return self.width, self.height, self.num_frames


def sample_corner(count: int, seed: int, held_out: bool = False) -> list[Scene]:
    """`count` scenes of the corner: one of five bodies, in any colour, crossing any place."""
    rng, scenes = np.random.default_rng(seed), []
    while len(scenes) < count:
        names = (str(rng.choice(values)) for values in (SUBJECTS, COLOURS, MOTIONS, BACKGROUNDS))
        scene = Scene(*names, "cartoon", int(rng.integers(2**31)))
        if is_held_out(scene) == held_out:
            scenes.append(scene)
    return scenes


def training_caption(scene: Scene, rng: np.random.Generator, empty: float = 0.1) -> str:
    """A caption, bare or detailed, or none at all: what classifier-free guidance needs."""
    if rng.random() < empty:
        return ""
    return caption(scene, str(rng.choice(("minimal", "detailed"), p=(0.6, 0.4))), rng)


def build_latte(config: ToyLatteConfig, latent_channels: int) -> Latte:
    """An untrained Latte in diffusers' layout: text in the spatial blocks, learned variance."""
    return Latte(
        LatteConfig(
            sample_size=config.height // 8,
            num_frames=config.num_frames,
            in_channels=latent_channels,
            patch_size=config.patch_size,
            hidden_size=config.hidden_size,
            depth=config.depth,
            num_heads=config.heads,
            modulation="single",
            condition="text",
            text_dim=config.text_width,
        )
    )


def build_scheduler() -> DDIMScheduler:
    """The noise levels of OBJECTIVE for the shipped pipeline; sampling begins at the noisiest."""
    return DDIMScheduler(
        beta_schedule=OBJECTIVE.schedule,
        beta_start=OBJECTIVE.beta_start,
        beta_end=OBJECTIVE.beta_end,
        prediction_type="v_prediction",
        clip_sample=False,
        timestep_spacing="trailing",
    )


def train_latte(config: ToyLatteConfig, vae_folder: Path, text_folder: Path, out: Path) -> None:
    """Train (or resume) in `out` on latents of one VAE and outputs of one text encoder;
    `out`/pipeline, a folder for LattePipeline, is the result."""
    torch.manual_seed(config.seed)
    device = accelerator().device
    vae = AutoencoderKL.from_pretrained(vae_folder).to(device)
    encoder = T5EncoderModel.from_pretrained(text_folder).float().eval().to(device)
    texts = TextEncoder(build_tokenizer(config.max_text_length), encoder, config.max_text_length)
    scenes = sample_corner(config.clips, config.seed + 20)
    unseen = sample_corner(config.held_out_clips, config.seed + 21, held_out=True)
    folder = out.parent / "latte_latents"
    latents = cached_latents(vae, folder, scenes, config.size)[0].to(device)
    held_out = cached_latents(vae, folder / "held_out", unseen, config.size)[0].to(device)
    model = build_latte(config, vae.config.latent_channels)

    def assembled(latents: Tensor, captions: list[str]) -> dict[str, Tensor]:
        with torch.no_grad():
            text = texts.encode(captions)
        return {
            "latents": latents.transpose(1, 2),  # [B, C, T, h, w]
            "text": text.embeddings,
            "text_mask": text.mask,
        }

    def batch(number: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((config.seed, number))
        chosen = rng.integers(config.clips, size=config.batch)
        captions = [training_caption(scenes[i], rng) for i in chosen]
        return assembled(latents[torch.from_numpy(chosen).to(device)], captions)

    def evaluate(model: Latte) -> dict[str, float]:
        parts = texts.tokenizer, encoder, vae, model.to_diffusers(), build_scheduler()
        save_halves(LattePipeline(*parts), out / "pipeline")
        return {}

    rng = np.random.default_rng(config.seed + 22)
    measured = assembled(held_out, [training_caption(s, rng, empty=0.0) for s in unseen])
    rate = OptimizerConfig(
        name="muon",
        learning_rate=config.learning_rate,
        muon_learning_rate=config.muon_learning_rate,
        betas=(0.9, 0.98),
        schedule="stable_decay",
        warmup=config.warmup,
        decay_share=config.decay_share,
    )
    measuring = {"held_out": [measured], "evaluate": evaluate}
    with plain_attention():
        fit(model, OBJECTIVE.build(), batch, out, config, optimizers=rate, **measuring)
