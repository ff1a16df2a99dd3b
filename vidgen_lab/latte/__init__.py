"""Latte from scratch: a video diffusion transformer, its noise schedule, samplers, VAE and pipeline
(chapter 3).

What is used as a whole has its name here, loaded when first used, so that importing the package
costs nothing; the parts are in their modules.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "Latte": "model",
    "LatteConfig": "config",
    "latte_config": "config",
    "FrameVAE": "vae",
    "NoiseScheduler": "diffusion.schedule",
    "FlowMatchingPath": "diffusion.schedule",
    "DDIMSampler": "diffusion.samplers",
    "FlowEulerSampler": "diffusion.samplers",
    "TextEncoder": "text",
    "LatteInputError": "checks",
    "VideoGenerator": "pipeline",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
