"""Weights in and out: diffusers' LatteTransformer3DModel, both ways.

Loading is strict: a missing or unknown key is an error, never a warning.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from vidgen_lab.latte.checks import LatteInputError, require, require_folder
from vidgen_lab.latte.config import LatteConfig

if TYPE_CHECKING:
    from diffusers import LatteTransformer3DModel

Build = Callable[[LatteConfig], nn.Module]  # the class Latte: this module is below it

# diffusers -> ours, outside the blocks
_TOP = {
    "pos_embed.proj": "patch_embed.proj",
    "adaln_single.emb.timestep_embedder.linear_1": "time_embed.linear_1",
    "adaln_single.emb.timestep_embedder.linear_2": "time_embed.linear_2",
    "adaln_single.linear": "shared_modulation",
    "caption_projection.linear_1": "text_embed.linear_1",
    "caption_projection.linear_2": "text_embed.linear_2",
    "proj_out": "final.proj",
}
# diffusers -> ours, inside a block (attn2 has its key and value joined on our side)
_BLOCK = {
    "attn1.to_q": "attention.q",
    "attn1.to_k": "attention.k",
    "attn1.to_v": "attention.v",
    "attn1.to_out.0": "attention.out",
    "attn2.to_q": "cross.q",
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


def _name_pairs(config: LatteConfig, keys: set[str]) -> list[tuple[str, tuple[str, ...]]]:
    """(our key, diffusers keys joined in it) for every weight our model has."""
    pairs = [("final.table", ("scale_shift_table",))]
    for theirs, ours in _TOP.items():
        pairs += [(f"{ours}.{kind}", (f"{theirs}.{kind}",)) for kind in ("weight", "bias")]
    for i in range(config.pairs):
        for their_list, half in (
            ("transformer_blocks", "spatial"),
            ("temporal_transformer_blocks", "temporal"),
        ):
            ours, theirs = f"blocks.{i}.{half}", f"{their_list}.{i}"
            pairs.append((f"{ours}.modulation.table", (f"{theirs}.scale_shift_table",)))
            for kind in ("weight", "bias"):
                pairs += [
                    (f"{ours}.{o}.{kind}", (f"{theirs}.{t}.{kind}",)) for t, o in _BLOCK.items()
                ]
                kv = tuple(f"{theirs}.attn2.to_{x}.{kind}" for x in "kv")
                pairs.append((f"{ours}.cross.kv.{kind}", kv))
    return [pair for pair in pairs if pair[0] in keys]


def config_from_diffusers(config: dict[str, Any]) -> LatteConfig:
    """Our settings for a LatteTransformer3DModel's; a setting that our model cannot honour is an
    error.
    """
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
        # diffusers builds a text projection even where nothing reads it; 1 is the smallest
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
    theirs = dict(model.state_dict())
    latte = build(config)
    weights = {
        ours: torch.cat([theirs.pop(n) for n in names])
        for ours, names in _name_pairs(config, set(latte.state_dict()))
    }
    if config.condition == "none":  # diffusers carries a text projection that nothing reads
        theirs = {k: v for k, v in theirs.items() if not k.startswith("caption_projection.")}
    if theirs:
        raise LatteInputError(f"diffusers weights: expected no other keys, given {sorted(theirs)}.")
    latte.load_state_dict(weights, strict=True, assign=True)
    return latte.train(model.training)


def to_diffusers(latte: nn.Module) -> "LatteTransformer3DModel":
    """See `Latte.to_diffusers`. Weights are copies: training one model does not move the other."""
    from diffusers import LatteTransformer3DModel

    model = LatteTransformer3DModel(**config_to_diffusers(latte.config))
    ours, weights = latte.state_dict(), {}
    for key, names in _name_pairs(latte.config, set(ours)):
        for name, part in zip(names, ours[key].chunk(len(names)), strict=True):
            weights[name] = part.clone()
    if latte.config.condition == "none":
        dead = {k: v for k, v in model.state_dict().items() if k.startswith("caption_projection.")}
        weights |= {k: torch.zeros_like(v) for k, v in dead.items()}
    model.load_state_dict(weights, strict=True)
    first = next(latte.parameters())
    return model.to(device=first.device, dtype=first.dtype).train(latte.training)
