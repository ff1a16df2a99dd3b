"""The Latte of chapter 3: a small text-to-video model of a corner of the toy world."""

import copy
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, LattePipeline
from torch import Tensor, nn
from transformers import T5EncoderModel

from recipes.latents import cached_latents
from recipes.pipeline import change_config
from recipes.text import build_tokenizer
from recipes.transformer import plain_attention
from vidgen_lab.latte import Latte, LatteConfig, NoiseScheduler, TextEncoder
from vidgen_lab.latte.losses import diffusion_loss
from vidgen_lab.toyworld import BACKGROUNDS, COLOURS, Scene, caption, is_held_out
from vidgen_lab.training.config import TrainingConfig
from vidgen_lab.training.optim import OptimizerConfig
from vidgen_lab.training.stream import Draw
from vidgen_lab.training.trainer import VideoModelTrainer

# The corner of the world that this model learns; the whole of it is toy-cogvideox's.
SUBJECTS = ("ball", "cube", "star", "heart", "ring")
MOTIONS = ("left", "right", "up", "down")


@dataclass(frozen=True)
class ToyLatteConfig:
    """Recipe of `toy-latte`. Sizes are in pixels; the VAE makes latents eight times smaller."""

    hidden_size: int = 192
    depth: int = 8
    heads: int = 3
    patch_size: int = 1
    text_width: int = 96
    max_text_length: int = 24
    width: int = 96
    height: int = 64
    num_frames: int = 8
    clips: int = 4000
    held_out_clips: int = 32
    steps: int = 3000
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


def build_schedulers() -> tuple[NoiseScheduler, DDIMScheduler]:
    """The same noise levels for training and for the shipped pipeline: Latte's betas, v-prediction,
    and sampling steps that begin at the noisiest level."""
    ddim = DDIMScheduler(
        beta_schedule="linear",
        beta_start=1e-4,
        beta_end=0.02,
        prediction_type="v_prediction",
        clip_sample=False,
        timestep_spacing="trailing",
    )
    return NoiseScheduler(schedule="linear", prediction="v"), ddim


def latte_loss(model: nn.Module, scheduler: NoiseScheduler, batch: dict[str, Tensor], draw: Draw):
    """The chapter's loss: target and learned variance. batch: "latents" [B, C, T, h, w], "text"
    [B, L, D], "mask" [B, L]."""
    latents = batch["latents"].float()
    t = (draw.uniform(len(latents)) * 1000).long().clamp_max(999)
    noise = draw.noise(latents)
    x_t = scheduler.add_noise(latents, noise, t)
    output = model(x_t, t, text=batch["text"], text_mask=batch["mask"])
    return diffusion_loss(scheduler, output, latents, noise, x_t, t).total


def train_latte(config: ToyLatteConfig, vae_folder: Path, text_folder: Path, out: Path) -> None:
    """Train (or resume) in `out` on latents of one VAE and outputs of one text encoder;
    `out`/pipeline, a folder for LattePipeline, is the result."""
    torch.manual_seed(config.seed)
    vae = AutoencoderKL.from_pretrained(vae_folder)
    encoder = T5EncoderModel.from_pretrained(text_folder).float().eval()
    texts = TextEncoder(build_tokenizer(config.max_text_length), encoder, config.max_text_length)
    scenes = sample_corner(config.clips, config.seed + 20)
    unseen = sample_corner(config.held_out_clips, config.seed + 21, held_out=True)
    folder = out.parent / "latte_latents"
    latents, _ = cached_latents(vae, folder, scenes, config.size)
    held_out, _ = cached_latents(vae, folder / "held_out", unseen, config.size)
    model, (scheduler, ddim) = build_latte(config, vae.config.latent_channels), build_schedulers()

    def assembled(latents: Tensor, captions: list[str]) -> dict[str, Tensor]:
        with torch.no_grad():
            text = texts.encode(captions)
        return {
            "latents": latents.transpose(1, 2),  # [B, C, T, h, w]
            "text": text.embeddings,
            "mask": text.mask,
        }

    def batch(number: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((config.seed, number))
        chosen = rng.integers(config.clips, size=config.batch)
        captions = [training_caption(scenes[i], rng) for i in chosen]
        return assembled(latents[torch.from_numpy(chosen)], captions)

    def evaluate(model: Latte) -> dict[str, float]:
        save_latte_pipeline(out / "pipeline", vae, model, texts, ddim)
        return {}

    rng = np.random.default_rng(config.seed + 22)
    trainer = VideoModelTrainer(
        model,
        lambda model, batch, draw: latte_loss(model, scheduler, batch, draw),
        batch,
        out,
        TrainingConfig(
            steps=config.steps,
            seed=config.seed,
            ema_decay=config.ema_decay,
            log_every=50,
            validate_every=500,
            checkpoint_every=250,
            keep_last=1,
            measure=False,
        ),
        optimizers=OptimizerConfig(
            name="muon",
            learning_rate=config.learning_rate,
            muon_learning_rate=config.muon_learning_rate,
            betas=(0.9, 0.98),
            schedule="stable_decay",
            warmup=config.warmup,
            decay_share=config.decay_share,
        ),
        held_out=[assembled(held_out, [training_caption(s, rng, empty=0.0) for s in unseen])],
        evaluate=evaluate,
        settings={"recipe": asdict(config)},
    )
    with plain_attention():
        trainer.fit()


def save_latte_pipeline(
    folder: Path, vae: AutoencoderKL, model: Latte, text: TextEncoder, scheduler: DDIMScheduler
) -> None:
    """Write a folder that plain LattePipeline loads: float16 on disk, float32 in use."""
    transformer = model.to_diffusers().half().cpu()
    vae, encoder = (copy.deepcopy(part).half().cpu() for part in (vae, text.model))
    LattePipeline(text.tokenizer, encoder, vae, transformer, scheduler).save_pretrained(folder)
    change_config(folder / "text_encoder", dtype="float32")
    change_config(folder / "vae")
