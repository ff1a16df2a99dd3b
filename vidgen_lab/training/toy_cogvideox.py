"""The embedded text-to-video model: a small CogVideoX, its scheduler, its folder on disk."""

import copy
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
)
from transformers import PreTrainedTokenizerFast, T5EncoderModel


@dataclass(frozen=True)
class ToyCogVideoXConfig:
    """Recipe of the embedded text-to-video transformer.

    Most steps see a random quarter of each clip's tokens, which cost a quarter of the time and
    teach what belongs where; the last `dense_steps` see all of them (Zheng et al. 2023, "Fast
    training of diffusion models with masked transformers"). An error where the subject is counts
    `subject_weight` times: it covers a tenth of the picture and is what most captions are about.
    """

    heads: int = 4
    head_dim: int = 64
    layers: int = 6
    time_embed_dim: int = 256
    text_width: int = 128
    max_text_length: int = 32
    patch_size: int = 2
    width: int = 96
    height: int = 64
    num_frames: int = 17
    clips: int = 12000
    held_out_clips: int = 64
    steps: int = 5900
    batch: int = 32
    keep: float = 0.25
    dense_steps: int = 4400
    dense_batch: int = 16
    subject_weight: float = 4.0
    learning_rate: float = 1e-3
    muon_learning_rate: float = 2e-3
    warmup: int = 100
    decay_share: float = 0.2
    ema_decay: float = 0.998
    seed: int = 0

    @property
    def size(self) -> tuple[int, int, int]:
        return self.width, self.height, self.num_frames


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


def save_pipeline(
    folder: Path,
    vae: AutoencoderKLCogVideoX,
    transformer: CogVideoXTransformer3DModel,
    text_encoder: T5EncoderModel,
    tokenizer: PreTrainedTokenizerFast,
    scheduler: CogVideoXDDIMScheduler,
) -> None:
    """Write a folder that plain CogVideoXPipeline loads: float16 on disk, float32 in use.

    Weights come in files of at most 12 MB, which every host of git repositories takes.
    """
    halves = [copy.deepcopy(part).half() for part in (vae, transformer, text_encoder)]
    vae, transformer, text_encoder = halves
    pipe = CogVideoXPipeline(tokenizer, text_encoder, vae, transformer, scheduler)
    shutil.rmtree(folder, ignore_errors=True)  # no shard of an earlier save stays
    pipe.save_pretrained(folder, max_shard_size="12MB")
    # transformers computes in the type a config names, diffusers in float32: name the same one.
    _change_config(folder / "text_encoder", dtype="float32")
    for part in ("vae", "transformer"):
        _change_config(folder / part)


def _change_config(folder: Path, **entries: str) -> None:
    """Change a saved config.json; it also forgets from which folder the part was loaded."""
    file = folder / "config.json"
    config = json.loads(file.read_text()) | entries
    config.pop("_name_or_path", None)
    file.write_text(json.dumps(config, indent=2) + "\n")
