"""Pre-train the Latte of chapter 3: a small text-to-video model on a corner of the toy world."""

import copy
import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, LattePipeline
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import T5EncoderModel

from vidgen_lab.latte import Latte, LatteConfig, NoiseScheduler, TextEncoder
from vidgen_lab.latte.diffusion.losses import diffusion_loss
from vidgen_lab.toyworld import BACKGROUNDS, COLOURS, Scene, caption, is_held_out
from vidgen_lab.training.checkpoints import Run
from vidgen_lab.training.loop import Numbers, moving_average, plain_attention, train
from vidgen_lab.training.optimizers import muon_and_adamw, warmup_stable_decay
from vidgen_lab.training.toy_data import render_clips
from vidgen_lab.training.toy_frame_vae import encode_frames
from vidgen_lab.training.toy_text import build_tokenizer

# The corner of the world that this model learns; the whole of it is toy-cogvideox's.
SUBJECTS = ("ball", "cube", "star", "heart", "ring")
MOTIONS = ("left", "right", "up", "down")


@dataclass(frozen=True)
class ToyLatteConfig:
    """Recipe of `toy-latte`. Sizes are in pixels; the VAE makes latents four times smaller."""

    hidden_size: int = 144
    depth: int = 8
    heads: int = 3
    patch_size: int = 2
    text_width: int = 96
    max_text_length: int = 24
    width: int = 72
    height: int = 48
    num_frames: int = 8
    clips: int = 2500
    held_out_clips: int = 64
    steps: int = 2000
    batch: int = 16
    learning_rate: float = 1e-3
    muon_learning_rate: float = 2e-3
    warmup: int = 50
    decay_share: float = 0.4
    ema_decay: float = 0.995
    seed: int = 0


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
            sample_size=config.height // 4,
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


def build_optimizers(model: Latte, config: ToyLatteConfig) -> dict:
    """Muon for the matrices inside the blocks, AdamW for everything else."""

    def is_muon(name: str, parameter: nn.Parameter) -> bool:
        return name.startswith("blocks.") and name.endswith("weight")

    return muon_and_adamw(model, is_muon, config.muon_learning_rate, config.learning_rate)


Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def batch_loss(model: Latte, scheduler: NoiseScheduler, batch: Batch) -> torch.Tensor:
    """The chapter's loss (target and learned variance) of latents, noise, timesteps and text."""
    latents, noise, t, text, mask = batch  # [B, C, T, h, w] x 2, [B], [B, L, D], [B, L]
    x_t = scheduler.add_noise(latents, noise, t)
    output = model(x_t, t, text=text, text_mask=mask)
    return diffusion_loss(scheduler, output, latents, noise, x_t, t).total


def train_latte(
    config: ToyLatteConfig,
    vae_folder: Path,
    text_folder: Path,
    out: Path,
    device: str = "cpu",
    log_every: int = 50,
    compiled: bool = False,
) -> None:
    """Train (or resume) on latents of one VAE and outputs of one text encoder.

    `out` gets checkpoint.pt, log.jsonl, config.json, the cached latents and, from the averaged
    weights, pipeline/, which plain LattePipeline loads. compiled: use torch.compile.
    """
    torch.manual_seed(config.seed)
    vae = AutoencoderKL.from_pretrained(vae_folder).to(device)
    encoder = T5EncoderModel.from_pretrained(text_folder).float().to(device).eval()
    texts = TextEncoder(build_tokenizer(config.max_text_length), encoder, config.max_text_length)
    scenes = sample_corner(config.clips, config.seed + 20)
    unseen = sample_corner(config.held_out_clips, config.seed + 21, held_out=True)
    latents = _cached_latents(config, vae, out, scenes + unseen)
    model, (scheduler, ddim) = build_latte(config, vae.config.latent_channels), build_schedulers()
    model.to(device)
    scheduler.to(device)
    ema, optimizers = moving_average(model, config.ema_decay), build_optimizers(model, config)
    run = Run(out, {"model": model, "ema": ema, **optimizers}, config.steps, log_every)
    fixed = _evaluation_batch(latents[config.clips :], unseen, texts, config)
    forward = torch.compile(model) if compiled else model
    factor = partial(
        warmup_stable_decay,
        steps=config.steps, warmup=config.warmup, decay_share=config.decay_share,
    )  # fmt: skip

    def loss_at(step: int) -> tuple[torch.Tensor, Numbers]:
        return batch_loss(forward, scheduler, _batch(latents, scenes, texts, config, step)), {}

    def at_checkpoint() -> Numbers:
        save_latte_pipeline(out / "pipeline", vae, ema.module, texts, ddim)
        return {"held_out_loss": batch_loss(ema.module.eval(), scheduler, fixed)}

    with plain_attention(device):
        train(
            run, model, optimizers, factor, loss_at,
            ema=ema, at_checkpoint=at_checkpoint, device=device,
        )  # fmt: skip
    (out / "config.json").write_text(json.dumps(asdict(config), indent=2) + "\n")


def save_latte_pipeline(
    folder: Path,
    vae: AutoencoderKL,
    model: Latte,
    text: TextEncoder,
    scheduler: DDIMScheduler,
) -> None:
    """Write a folder that plain LattePipeline loads: float16 on disk, float32 in use."""
    transformer = model.to_diffusers().half().cpu()
    halves = [copy.deepcopy(part).half().cpu() for part in (vae, text.model)]
    pipe = LattePipeline(text.tokenizer, halves[1], halves[0], transformer, scheduler)
    pipe.save_pretrained(folder)
    for part in ("text_encoder", "vae"):  # name the type to compute in, forget where it came from
        file = folder / part / "config.json"
        config = json.loads(file.read_text())
        config.pop("_name_or_path", None)
        if part == "text_encoder":
            config["dtype"] = "float32"
        file.write_text(json.dumps(config, indent=2) + "\n")


def _batch(
    latents: torch.Tensor,
    scenes: list[Scene],
    texts: TextEncoder,
    config: ToyLatteConfig,
    step: int,
) -> Batch:
    """Everything random of one step: a function of the step alone."""
    rng = np.random.default_rng((config.seed, step))
    chosen = rng.integers(config.clips, size=config.batch)
    captions = [training_caption(scenes[i], rng) for i in chosen]
    # one timestep from each sixteenth of the range: every level is equally likely, loss is steadier
    strata = (np.arange(config.batch) + rng.random(config.batch)) / config.batch
    t = torch.from_numpy(np.floor(1000 * strata)).long()
    return _assembled(latents[torch.from_numpy(chosen)], captions, t, texts, rng)


def _evaluation_batch(
    latents: torch.Tensor, scenes: list[Scene], texts: TextEncoder, config: ToyLatteConfig
) -> Batch:
    """Clips, captions, noise and timesteps that stay the same, so that losses compare."""
    rng = np.random.default_rng(config.seed + 22)
    captions = [training_caption(scene, rng, empty=0.0) for scene in scenes]
    t = torch.linspace(0, 999, len(scenes)).round().long()
    return _assembled(latents, captions, t, texts, rng)


def _assembled(
    latents: torch.Tensor,
    captions: list[str],
    t: torch.Tensor,
    texts: TextEncoder,
    rng: np.random.Generator,
) -> Batch:
    """Latents with fresh noise, timesteps and encoded captions, where the text encoder is."""
    device = next(texts.model.parameters()).device
    noise = torch.from_numpy(rng.standard_normal(latents.shape, dtype=np.float32))
    with torch.autocast(device.type, enabled=False):  # as the pipeline will
        text = texts.encode(captions)
    clean = latents.float().to(device)
    return clean, noise.to(device), t.to(device), text.embeddings, text.mask


def _cached_latents(
    config: ToyLatteConfig, vae: AutoencoderKL, out: Path, scenes: list[Scene]
) -> torch.Tensor:
    """Scaled latents of all scenes, fp16 [N, C, T, h, w], kept in `out` for the next start.

    Delete latents.safetensors there after a change of VAE or scenes.
    """
    file = out / "latents.safetensors"
    if not file.exists():
        out.mkdir(parents=True, exist_ok=True)
        parts = []
        for start in range(0, len(scenes), 100):
            clips = render_clips(
                scenes[start : start + 100], config.width, config.height, config.num_frames
            )
            parts.append(encode_frames(vae, clips))
        latents = torch.cat(parts).float() * vae.config.scaling_factor
        save_file({"latents": latents.half().contiguous()}, file)
    latents = load_file(file)["latents"]
    if len(latents) != len(scenes):
        raise ValueError(f"{file} holds {len(latents)} clips, not {len(scenes)}: delete it")
    return latents
