"""Weights in and out: diffusers' LatteTransformer3DModel, both ways.

Loading is strict: a missing or unknown key is an error, never a warning.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from vidgen_lab.latte.checks import require, require_folder
from vidgen_lab.latte.config import LatteConfig

if TYPE_CHECKING:
    from diffusers import LatteTransformer3DModel

Build = Callable[[LatteConfig], nn.Module]  # the class Latte: this module is below it

# parts of the names of weights: diffusers -> ours
_NAMES = {
    "pos_embed.proj": "patch_embed.proj",
    "adaln_single.emb.timestep_embedder": "time_embed",
    "adaln_single.linear": "shared_modulation",
    "caption_projection": "text_embed",
    "proj_out": "final.proj",
    "attn1.to_q": "attention.q",
    "attn1.to_k": "attention.k",
    "attn1.to_v": "attention.v",
    "attn1.to_out.0": "attention.out",
    "attn2.to_q": "cross.q",
    "attn2.to_k": "cross.kv",  # joined on our side, the key first
    "attn2.to_v": "cross.kv",
    "attn2.to_out.0": "cross.out",
    "ff.net.0.proj": "mlp.up",
    "ff.net.2": "mlp.down",
}
# the settings of diffusers that our model has built in
_FIXED = {
    "norm_type": "ada_norm_single",
    "activation_fn": "gelu-approximate",
    "norm_elementwise_affine": False,
    "norm_eps": 1e-6,
    "dropout": 0.0,
}


def _our_name(theirs: str) -> str:
    name = re.sub(r"^temporal_transformer_blocks\.(\d+)", r"blocks.\1.temporal", theirs)
    name = re.sub(r"^transformer_blocks\.(\d+)", r"blocks.\1.spatial", name)
    table = "modulation.table" if name.startswith("blocks.") else "final.table"
    name = name.replace("scale_shift_table", table)
    for part, ours in _NAMES.items():
        name = name.replace(part, ours)
    return name


def _unread(name: str, config: LatteConfig) -> bool:
    """diffusers carries a text projection even where nothing reads it."""
    return config.condition == "none" and name.startswith("caption_projection.")


def config_from_diffusers(config: dict[str, Any]) -> LatteConfig:
    """Our settings for a LatteTransformer3DModel's. Those that we cannot honour are an error."""
    hidden = config["num_attention_heads"] * config["attention_head_dim"]
    for key, expected in _FIXED.items():
        require(config[key] == expected, f"diffusers setting {key}", expected, config[key])
    channels = config["in_channels"]
    out_channels = config["out_channels"] or channels
    require(
        out_channels in (channels, 2 * channels),
        "diffusers setting out_channels",
        f"{channels} or {2 * channels}",
        out_channels,
    )
    cross = config["cross_attention_dim"]
    require(
        cross in (None, hidden), "diffusers setting cross_attention_dim", f"None or {hidden}", cross
    )
    return LatteConfig(
        sample_size=config["sample_size"],
        num_frames=config["video_length"],
        in_channels=channels,
        patch_size=config["patch_size"],
        hidden_size=hidden,
        depth=2 * config["num_layers"],
        num_heads=config["num_attention_heads"],
        modulation="single",
        condition="none" if cross is None else "text",
        text_dim=config["caption_channels"],
        learn_sigma=out_channels == 2 * channels,
        qkv_bias=config["attention_bias"],
    )


def config_to_diffusers(config: LatteConfig) -> dict[str, Any]:
    """Constructor arguments of LatteTransformer3DModel for our settings."""
    require(
        config.modulation == "single",
        "modulation of a model for diffusers",
        "'single'",
        repr(config.modulation),
        "A matrix per block cannot be folded into a shared one, and diffusers has no such model.",
    )
    require(
        config.condition != "class",
        "condition of a model for diffusers",
        "'none' or 'text'",
        "'class'",
    )
    require(not config.causal, "attention of a model for diffusers", "not causal", "causal")
    return {
        "num_attention_heads": config.num_heads,
        "attention_head_dim": config.hidden_size // config.num_heads,
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "num_layers": config.pairs,
        "cross_attention_dim": config.hidden_size if config.condition == "text" else None,
        "attention_bias": config.qkv_bias,
        "sample_size": config.sample_size,
        "patch_size": config.patch_size,
        "num_embeds_ada_norm": 1000,
        # of a text projection that nothing reads, 1 is the smallest
        "caption_channels": config.text_dim or 1,
        "video_length": config.num_frames,
        **_FIXED,
    }


def from_diffusers(model: "LatteTransformer3DModel | str | Path", build: Build) -> nn.Module:
    """See `Latte.from_diffusers`. A pipeline's folder works as well as its transformer's."""
    if isinstance(model, (str, Path)):
        from diffusers import LatteTransformer3DModel

        folder = require_folder(model, "folder of a Latte", "transformer")
        model = LatteTransformer3DModel.from_pretrained(
            folder, use_safetensors=True, local_files_only=True
        )
    config = config_from_diffusers(dict(model.config))
    latte = build(config)
    parts: dict[str, list[torch.Tensor]] = {}
    for name, weight in model.state_dict().items():
        if not _unread(name, config):
            parts.setdefault(_our_name(name), []).append(weight)
    weights = {name: torch.cat(joined) for name, joined in parts.items()}
    latte.load_state_dict(weights, strict=True, assign=True)
    return latte.to(model.device).train(model.training)  # the positions too


def to_diffusers(latte: nn.Module) -> "LatteTransformer3DModel":
    """See `Latte.to_diffusers`. Weights are copies: training one model does not move the other."""
    from diffusers import LatteTransformer3DModel

    model = LatteTransformer3DModel(**config_to_diffusers(latte.config))
    ours, weights = latte.state_dict(), {}
    for name, fresh in model.state_dict().items():
        if _unread(name, latte.config):
            weights[name] = torch.zeros_like(fresh)
        elif ".cross.kv." in _our_name(name):
            key, value = ours[_our_name(name)].chunk(2)
            weights[name] = key if ".to_k." in name else value
        else:
            weights[name] = ours[_our_name(name)]
    model.load_state_dict(weights, strict=True)
    first = next(latte.parameters())
    if (first.device.type, first.dtype) != ("cpu", torch.float32):  # `to` warns even where it rests
        model = model.to(device=first.device, dtype=first.dtype)
    return model.train(latte.training)
