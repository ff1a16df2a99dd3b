"""Latte from scratch: a video diffusion transformer, its noise schedule, samplers, VAE and pipeline
(chapter 3).

Names are loaded when first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "Latte": "model",
    "LatteConfig": "registry",
    "latte_config": "registry",
    "count_parameters": "registry",
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
    "VideoVAE": "vae",
    "FrameVAE": "frame_vae",
    "NoiseScheduler": "schedule",
    "FlowMatchingPath": "schedule",
    "DDPMSampler": "samplers",
    "DDIMSampler": "samplers",
    "FlowEulerSampler": "samplers",
    "Guidance": "samplers",
    "sample": "samplers",
    "TextEncoder": "text",
    "LatteInputError": "checks",
    "VideoGenerator": "pipeline",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
