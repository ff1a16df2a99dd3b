"""The embedded text-to-video model: a small CogVideoX and its scheduler; pipelines on disk."""

import copy
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from diffusers import CogVideoXDDIMScheduler, CogVideoXTransformer3DModel, DiffusionPipeline
from torch import nn

if TYPE_CHECKING:
    from recipes.transformer import TransformerConfig


def build_transformer(
    config: "TransformerConfig", latent_channels: int
) -> CogVideoXTransformer3DModel:
    """An untrained CogVideoX transformer in the layout of 5B: joint attention, rotary positions."""
    return CogVideoXTransformer3DModel(
        num_attention_heads=config.heads,
        attention_head_dim=config.head_dim,
        in_channels=latent_channels,
        out_channels=latent_channels,
        time_embed_dim=config.time_embed_dim,
        text_embed_dim=config.text_width,
        num_layers=config.layers,
        sample_width=config.width // 8,
        sample_height=config.height // 8,
        patch_size=config.patch_size,
        patch_size_t=config.patch_size_t,
        sample_frames=config.num_frames,
        max_text_seq_length=config.max_text_length,
        temporal_compression_ratio=1,
        spatial_interpolation_scale=1.0,
        temporal_interpolation_scale=1.0,
        use_rotary_positional_embeddings=True,
    )


def build_scheduler(config: "TransformerConfig") -> CogVideoXDDIMScheduler:
    """The scheduler of CogVideoX-5B: v-prediction, zero terminal SNR, trailing steps, no shift."""
    return CogVideoXDDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=config.prediction_type,
        rescale_betas_zero_snr=True,
        snr_shift_scale=config.snr_shift_scale,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
    )


def save_halves(pipe: DiffusionPipeline, folder: Path) -> None:
    """Write a folder that plain diffusers loads: float16 on disk, float32 in use.

    Weights come in files of at most 12 MB, which every host of git repositories takes.
    """
    models = {name: part for name, part in pipe.components.items() if isinstance(part, nn.Module)}
    halves = {name: copy.deepcopy(part).half().cpu() for name, part in models.items()}
    shutil.rmtree(folder, ignore_errors=True)  # no shard of an earlier save stays
    type(pipe)(**pipe.components | halves).save_pretrained(folder, max_shard_size="12MB")
    for name in halves:
        file = folder / name / "config.json"
        config = json.loads(file.read_text("utf-8"))
        config.pop("_name_or_path", None)  # from which folder the part was loaded
        if name == "text_encoder":  # transformers computes in the type a config names
            config["dtype"] = "float32"
        file.write_text(json.dumps(config, indent=2) + "\n", "utf-8")
