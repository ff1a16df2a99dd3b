"""Pre-train the embedded text-to-video model: a small CogVideoX on cached latents of the toy
world."""

import copy
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
)
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerFast, T5EncoderModel

from vidgen_lab.toyworld import Scene, render
from vidgen_lab.training.checkpoints import Run, clip_gradients, moving_average
from vidgen_lab.training.toy_data import sample_scenes, to_model_range
from vidgen_lab.training.toy_text import (
    build_text_encoder,
    build_tokenizer,
    random_caption,
    tokenize,
)


@dataclass(frozen=True)
class ToyCogVideoXConfig:
    """Recipe of the embedded text-to-video transformer and its text encoder."""

    heads: int = 3
    head_dim: int = 64
    layers: int = 6
    time_embed_dim: int = 256
    text_width: int = 128
    text_layers: int = 2
    max_text_length: int = 32
    patch_size: int = 4
    width: int = 96
    height: int = 64
    num_frames: int = 17
    clips: int = 8000
    held_out_clips: int = 128
    steps: int = 6000
    batch: int = 32
    learning_rate: float = 1e-3
    muon_learning_rate: float = 2e-3
    warmup: int = 200
    decay_share: float = 0.3
    ema_decay: float = 0.998
    seed: int = 0


def build_transformer(
    config: ToyCogVideoXConfig, latent_channels: int
) -> CogVideoXTransformer3DModel:
    """An untrained CogVideoX transformer in the 2B layout: joint attention, sin-cos positions."""
    return CogVideoXTransformer3DModel(
        num_attention_heads=config.heads,
        attention_head_dim=config.head_dim,
        in_channels=latent_channels,
        out_channels=latent_channels,
        time_embed_dim=config.time_embed_dim,
        text_embed_dim=config.text_width,
        num_layers=config.layers,
        sample_width=config.width // 4,
        sample_height=config.height // 4,
        patch_size=config.patch_size,
        sample_frames=config.num_frames,
        max_text_seq_length=config.max_text_length,
        spatial_interpolation_scale=1.0,
        temporal_interpolation_scale=1.0,
    )


def build_scheduler() -> CogVideoXDDIMScheduler:
    """The scheduler of CogVideoX-2B: v-prediction, shifted SNR, zero terminal SNR, trailing
    steps."""
    return CogVideoXDDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        snr_shift_scale=3.0,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
    )


@torch.no_grad()
def encode_scenes(
    vae: AutoencoderKLCogVideoX, scenes: list[Scene], config: ToyCogVideoXConfig
) -> torch.Tensor:
    """Latents [N, C, T, H, W] (posterior means, fp16) of rendered scenes."""
    latents = []
    for start in tqdm(range(0, len(scenes), 4), desc="encode", mininterval=10):
        clips = [
            render(s, config.width, config.height, config.num_frames).clip.frames
            for s in scenes[start : start + 4]
        ]
        video = to_model_range(torch.from_numpy(np.stack(clips))).permute(
            0, 4, 1, 2, 3
        )  # [B, 3, T, H, W]
        with torch.autocast(vae.device.type, torch.bfloat16):
            posterior = vae.encode(video.to(vae.device)).latent_dist
        latents.append(posterior.mode().half().cpu())
    return torch.cat(latents)


@torch.no_grad()
def normalise_latents(vae: AutoencoderKLCogVideoX, latents: torch.Tensor) -> torch.Tensor:
    """Fold a scale per channel into the VAE so that every latent channel has unit power; returns
    the scaled latents.

    CogVideoX has one scaling factor for all channels, and channels of unequal power would learn at
    unequal noise levels.
    The scale commutes with the encoder's last convolution and with everything in the decoder that
    reads latents.
    """
    power = latents.float().pow(2).mean(dim=(0, 2, 3, 4)).sqrt()  # [C]
    channels = len(power)
    last = vae.encoder.conv_out.conv
    last.weight[:channels] /= power[:, None, None, None, None].to(last.weight)
    last.bias[:channels] /= power.to(last.bias)
    last.bias[channels:] -= 2 * power.log().to(last.bias)
    readers = [vae.decoder.conv_in.conv]
    readers += [
        m.conv for name, m in vae.decoder.named_modules() if name.endswith(("conv_y", "conv_b"))
    ]
    for reader in readers:
        reader.weight *= power[None, :, None, None, None].to(reader.weight)
    return (latents.float() / power[None, :, None, None, None]).half()


def learning_rate_factor(step: int, config: ToyCogVideoXConfig) -> float:
    """Warm-up, constant, then linear to zero over the last `decay_share` of the run."""
    start = config.steps * (1 - config.decay_share)
    decay = 1.0 if step < start else (config.steps - step) / (config.steps - start)
    return min(1.0, (step + 1) / config.warmup) * decay


def build_optimizers(
    model: nn.ModuleDict, config: ToyCogVideoXConfig
) -> dict[str, torch.optim.Optimizer]:
    """Muon (Jordan 2024) for the matrices inside the transformer's blocks, AdamW for everything
    else."""
    matrices = [
        p
        for n, p in model.named_parameters()
        if p.ndim == 2 and ".transformer_blocks." in n and ".norm" not in n
    ]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    return {
        "muon": torch.optim.Muon(
            matrices,
            lr=config.muon_learning_rate,
            weight_decay=0.01,
            adjust_lr_fn="match_rms_adamw",
        ),
        "adamw": torch.optim.AdamW(
            others, lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
        ),
    }


def diffusion_loss(
    model: nn.ModuleDict,
    scheduler: CogVideoXDDIMScheduler,
    latents: torch.Tensor,
    token_ids: torch.Tensor,
    noise: torch.Tensor,
    timesteps: torch.Tensor,
) -> torch.Tensor:
    """Mean squared error on v (Salimans and Ho 2022) per sample [B]; latents and noise are [B, T,
    C, H, W]."""
    text = model["text_encoder"](token_ids)[0]  # [B, L, D]
    noisy = scheduler.add_noise(latents, noise, timesteps)
    predicted = model["transformer"](noisy, text, timesteps).sample
    target = scheduler.get_velocity(latents, noise, timesteps)
    return F.mse_loss(predicted.float(), target, reduction="none").flatten(1).mean(1)


def train_transformer(
    config: ToyCogVideoXConfig,
    vae_folder: Path,
    out: Path,
    device: str = "cpu",
    log_every: int = 50,
    init: Path | None = None,
) -> None:
    """Train (or resume) transformer and text encoder on latents of the VAE in `vae_folder`.

    `out` gets checkpoint.pt, log.jsonl, the cached latents and, from the EMA weights, pipeline/.
    init: a pipeline folder whose transformer and text encoder to start from; it fits only if its
    VAE has the same latents.
    """
    torch.manual_seed(config.seed)
    scenes = sample_scenes(config.clips, config.seed + 10)
    unseen = sample_scenes(config.held_out_clips, config.seed + 11, held_out=True)
    vae, latents = _cached_latents(config, vae_folder, out, scenes + unseen, device)
    tokenizer, scheduler = build_tokenizer(config.max_text_length), build_scheduler()
    model = build_model(config, len(tokenizer), vae.config.latent_channels)
    if init:
        model["transformer"] = CogVideoXTransformer3DModel.from_pretrained(init / "transformer")
        model["text_encoder"] = T5EncoderModel.from_pretrained(init / "text_encoder")
    model.to(device)
    ema = moving_average(model, config.ema_decay)
    optimizers = build_optimizers(model, config)
    run = Run(out, {"model": model, "ema": ema, **optimizers}, config.steps, log_every)
    first = run.resume(device)
    rates = {"muon": config.muon_learning_rate, "adamw": config.learning_rate}
    fixed = _fixed_evaluation(unseen, tokenizer, latents[config.clips :].to(device), config)
    for step in range(first, config.steps):
        batch = _batch(latents, scenes, tokenizer, config, step, device)
        for name, optimizer in optimizers.items():
            optimizer.param_groups[0]["lr"] = rates[name] * learning_rate_factor(step, config)
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            loss = diffusion_loss(model, scheduler, *batch).mean()
        loss.backward()
        norm = clip_gradients(model, 1.0, step)
        for optimizer in optimizers.values():
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        ema.update_parameters(model)
        done = step + 1
        if run.logs_at(done):
            row = {"loss": loss, "grad_norm": norm}
            if run.checkpoints_at(done):
                with torch.no_grad():
                    row["held_out_loss"] = diffusion_loss(ema.module, scheduler, *fixed).mean()
                run.save(done)
                save_pipeline(out / "pipeline", vae, ema.module, tokenizer, scheduler)
            run.log(done, **row)
    (out / "config.json").write_text(json.dumps(asdict(config), indent=2))


def build_model(
    config: ToyCogVideoXConfig, vocabulary_size: int, latent_channels: int
) -> nn.ModuleDict:
    """Transformer and text encoder, which learn together."""
    return nn.ModuleDict(
        {
            "transformer": build_transformer(config, latent_channels),
            "text_encoder": build_text_encoder(
                vocabulary_size, config.text_width, config.text_layers
            ),
        }
    )


def _batch(
    latents: torch.Tensor,
    scenes: list[Scene],
    tokenizer: PreTrainedTokenizerFast,
    config: ToyCogVideoXConfig,
    step: int,
    device: str,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Clean latents, token ids, noise and timesteps of one step: a function of the step alone."""
    rng = np.random.default_rng((config.seed, step))
    indices = rng.integers(config.clips, size=config.batch)
    texts = [random_caption(scenes[i], rng) for i in indices]
    clean = latents[torch.from_numpy(indices)].float()
    noise = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32))
    timesteps = torch.from_numpy(rng.integers(1000, size=config.batch))
    ids = tokenize(tokenizer, texts, config.max_text_length)
    return clean.to(device), ids.to(device), noise.to(device), timesteps.to(device)


def save_pipeline(
    folder: Path,
    vae: AutoencoderKLCogVideoX,
    model: nn.ModuleDict,
    tokenizer: PreTrainedTokenizerFast,
    scheduler: CogVideoXDDIMScheduler,
) -> None:
    """Write a folder that plain CogVideoXPipeline loads: float16 on disk, float32 in use."""
    halves = [copy.deepcopy(part).half() for part in (vae, *model.values())]
    vae, transformer, text_encoder = halves
    CogVideoXPipeline(tokenizer, text_encoder, vae, transformer, scheduler).save_pretrained(folder)
    # transformers computes in the type a config names, diffusers in float32: name the same one.
    _change_config(folder / "text_encoder", dtype="float32")
    _change_config(folder / "vae")


def _change_config(folder: Path, **entries: str) -> None:
    """Change a saved config.json; it also forgets from which folder the part was loaded."""
    file = folder / "config.json"
    config = json.loads(file.read_text()) | entries
    config.pop("_name_or_path", None)
    file.write_text(json.dumps(config, indent=2) + "\n")


def _cached_latents(
    config: ToyCogVideoXConfig, vae_folder: Path, out: Path, scenes: list[Scene], device: str
) -> tuple[AutoencoderKLCogVideoX, torch.Tensor]:
    """The VAE with normalised latents, and those of all scenes as fp16 [N, T, C, H, W].

    They are kept in `out`; delete latents.safetensors there after a change of VAE or scenes.
    """
    file = out / "latents.safetensors"
    if not file.exists():
        vae = AutoencoderKLCogVideoX.from_pretrained(vae_folder).to(device)
        latents = normalise_latents(vae, encode_scenes(vae, scenes, config))
        vae.save_pretrained(out / "vae")
        save_file({"latents": latents.contiguous()}, file)
    vae = AutoencoderKLCogVideoX.from_pretrained(out / "vae").to(device)
    latents = load_file(file)["latents"]
    if len(latents) != len(scenes):
        raise ValueError(f"{file} holds {len(latents)} clips, not {len(scenes)}: delete it")
    return vae, latents.permute(0, 2, 1, 3, 4)


def _fixed_evaluation(
    scenes: list[Scene],
    tokenizer: PreTrainedTokenizerFast,
    latents: torch.Tensor,
    config: ToyCogVideoXConfig,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Captions, noise and timesteps that stay the same, so that losses compare over a run."""
    rng = np.random.default_rng(config.seed + 12)
    texts = [random_caption(scene, rng, empty=0.0) for scene in scenes]
    ids = tokenize(tokenizer, texts, config.max_text_length).to(latents.device)
    noise = torch.from_numpy(rng.standard_normal(latents.shape, dtype=np.float32))
    timesteps = torch.linspace(0, 999, len(scenes)).round().long()
    return latents.float(), ids, noise.to(latents.device), timesteps.to(latents.device)
