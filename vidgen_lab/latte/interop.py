"""Weights in and out: diffusers' LatteTransformer3DModel, both ways.

Loading is strict: a missing or unknown key is an error, never a warning.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from vidgen_lab.latte.checks import load_part, require_one_of
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
# settings that are one number on both sides: ours, diffusers'
_SETTINGS = {
    "sample_size": "sample_size",
    "num_frames": "video_length",
    "in_channels": "in_channels",
    "patch_size": "patch_size",
    "num_heads": "num_attention_heads",
    "qkv_bias": "attention_bias",
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
    channels, cross = config["in_channels"], config["cross_attention_dim"]
    known = {name: (fixed,) for name, fixed in _FIXED.items()}
    known |= {"out_channels": (None, channels, 2 * channels), "cross_attention_dim": (None, hidden)}
    for name, values in known.items():
        require_one_of(config[name], values, f"diffusers setting {name}")
    return LatteConfig(
        **{ours: config[theirs] for ours, theirs in _SETTINGS.items()},
        hidden_size=hidden,
        depth=2 * config["num_layers"],
        modulation="single",
        condition="none" if cross is None else "text",
        text_dim=config["caption_channels"],
        learn_sigma=config["out_channels"] == 2 * channels,
    )


def config_to_diffusers(config: LatteConfig) -> dict[str, Any]:
    """Constructor arguments of LatteTransformer3DModel for our settings."""
    of = "of a model for diffusers"
    hint = "A matrix per block cannot be folded into a shared one, and diffusers has no such model."
    require_one_of(config.modulation, ("single",), f"modulation {of}", hint)
    require_one_of(config.condition, ("none", "text"), f"condition {of}")
    require_one_of(config.causal, (False,), f"causal attention {of}")
    return {theirs: getattr(config, ours) for ours, theirs in _SETTINGS.items()} | {
        "attention_head_dim": config.hidden_size // config.num_heads,
        "out_channels": config.out_channels,
        "num_layers": config.pairs,
        "cross_attention_dim": config.hidden_size if config.condition == "text" else None,
        "num_embeds_ada_norm": 1000,
        # of a text projection that nothing reads, 1 is the smallest
        "caption_channels": config.text_dim or 1,
        **_FIXED,
    }


def from_diffusers(model: "LatteTransformer3DModel | str | Path", build: Build) -> nn.Module:
    """See `Latte.from_diffusers`. A pipeline's folder works as well as its transformer's."""
    if isinstance(model, (str, Path)):
        from diffusers import LatteTransformer3DModel

        model = load_part(LatteTransformer3DModel, model, "transformer", "a Latte")
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
