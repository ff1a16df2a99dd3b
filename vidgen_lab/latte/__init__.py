"""Latte from scratch: a video diffusion transformer, its noise schedule, samplers, VAE and pipeline
(chapter 3).

Names are loaded when first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "Latte": "model",
    "LatteConfig": "config",
    "latte_config": "config",
    "count_parameters": "config",
    "VideoPatchEmbed": "tokens",
    "SelfAttention": "attention",
    "CrossAttention": "attention",
    "capture_attention": "attention",
    "SpatialAttentionBlock": "blocks",
    "TemporalAttentionBlock": "blocks",
    "LatteTransformerBlock": "blocks",
    "AdaLN": "conditioning",
    "AdaLNZero": "conditioning",
    "AdaLNSingle": "conditioning",
    "VideoVAEEncoder": "vae",
    "VideoVAEDecoder": "vae",
    "FrameVAE": "vae",
    "NoiseScheduler": "diffusion.schedule",
    "FlowMatchingPath": "diffusion.schedule",
    "DDPMSampler": "diffusion.samplers",
    "DDIMSampler": "diffusion.samplers",
    "FlowEulerSampler": "diffusion.samplers",
    "Guidance": "diffusion.samplers",
    "sample": "diffusion.samplers",
    "TextEncoder": "text",
    "LatteInputError": "checks",
    "VideoGenerator": "pipeline",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
