"""The Latte of chapter 3: a small text-to-video model of a corner of the toy world."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, LattePipeline
from torch import Tensor
from transformers import T5EncoderModel

from recipes.scenes import cached_latents
from recipes.text import build_tokenizer
from recipes.training import TRAINING, fit, save_halves
from recipes.transformer import plain_attention
from vidgen_lab.latte import Latte, TextEncoder
from vidgen_lab.latte.vae import FrameVAE
from vidgen_lab.toyworld import BACKGROUNDS, COLOURS, Scene, caption, is_held_out
from vidgen_lab.training.config import RunConfig, TrainingConfig
from vidgen_lab.training.distributed import accelerator
from vidgen_lab.training.latte_run import Parts, build_model

# The corner of the world that this model learns; the whole of it is toy-cogvideox's.
SUBJECTS = ("ball", "cube", "star", "heart", "ring")
MOTIONS = ("left", "right", "up", "down")


@dataclass(frozen=True)
class ToyLatteConfig(RunConfig):
    """Settings as of `vidgen-lab train`, but for its folder of videos: so many clips of the corner
    are drawn instead.

    As in the recipe of the transformer, the first `short_steps` see a single frame of more clips,
    which teaches looks sooner than films do, and an error on the subject counts `subject_weight`
    times.
    """

    training: TrainingConfig = TRAINING
    clips: int = 6000
    short_steps: int = 0
    short_batch: int = 64
    subject_weight: float = 1.0


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


def train_latte(config: ToyLatteConfig, vae_folder: Path, text_folder: Path, out: Path) -> None:
    """Train (or resume) in `out` on latents of one VAE and outputs of one text encoder;
    `out`/pipeline, a folder for LattePipeline, is the result."""
    data, seed, device = config.dataset, config.training.seed, accelerator().device
    torch.manual_seed(seed)
    vae = AutoencoderKL.from_pretrained(vae_folder).to(device)
    encoder = T5EncoderModel.from_pretrained(text_folder).float().eval().to(device)
    texts = TextEncoder(build_tokenizer(data.max_text_length), encoder, data.max_text_length)
    scenes = sample_corner(config.clips, seed + 20)
    unseen = sample_corner(data.held_out_clips, seed + 21, held_out=True)
    folder, size = out.parent / "latte_latents", (data.width, data.height, data.num_frames)
    cached = cached_latents(vae, folder, scenes, size)
    latents, subject = (part.to(device) for part in cached)
    held_out = cached_latents(vae, folder / "held_out", unseen, size)[0].to(device)
    model = build_model(config.model, data, Parts(FrameVAE(vae), texts))
    levels = {"prediction_type": "v_prediction", "clip_sample": False}
    scheduler = DDIMScheduler(timestep_spacing="trailing", **levels)  # on Latte's linear betas

    def assembled(latents: Tensor, captions: list[str]) -> dict[str, Tensor]:
        with torch.no_grad():
            text = texts.encode(captions)
        return {
            "latents": latents.transpose(1, 2),  # [B, C, T, h, w]
            "text": text.embeddings,
            "text_mask": text.mask,
        }

    def batch(number: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((seed, number))
        short = number < config.short_steps
        chosen = rng.integers(config.clips, size=config.short_batch if short else data.batch_size)
        captions = [training_caption(scenes[i], rng) for i in chosen]
        one = int(rng.integers(data.num_frames))
        frames = slice(one, one + 1) if short else slice(None)
        indices = torch.from_numpy(chosen).to(device)
        weights = 1 + (config.subject_weight - 1) * subject[indices, frames].float()
        weighted = {"weights": weights.transpose(1, 2)}  # [B, 1, T, h, w]
        return assembled(latents[indices, frames], captions) | weighted

    def evaluate(model: Latte) -> dict[str, float]:
        parts = texts.tokenizer, encoder, vae, model.to_diffusers(), scheduler
        save_halves(LattePipeline(*parts), out / "pipeline")
        return {}

    rng = np.random.default_rng(seed + 22)
    measured = assembled(held_out, [training_caption(s, rng, empty=0.0) for s in unseen])
    with plain_attention():
        loss = config.diffusion.build()
        fit(model, loss, batch, out, config, held_out=[measured], evaluate=evaluate)
