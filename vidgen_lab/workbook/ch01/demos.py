"""Clips that teach by failing: each fools one measure. And what the video VAE does to a clip."""

from typing import TYPE_CHECKING

import numpy as np

from vidgen_lab.toyworld import Scene, render
from vidgen_lab.video.clip import Clip

if TYPE_CHECKING:
    from diffusers import CogVideoXPipeline
    from torch import Tensor

    from vidgen_lab.generation.request import GenerationRequest


def fooling_clips(seed: int = 0) -> dict[str, Clip]:
    """Clips on which mean similarity of the first frames, or first against last, is wrong.

    driving: an honest clip, for comparison. late cut: another film from frame 13 on. late noise:
    pure noise from frame 12 on. there and back: drives out and returns to its first frame.
    grainy still: one frame under sensor noise; nothing moves.
    """
    rng = np.random.default_rng(seed)
    driving = render(Scene("car", "blue", "right", "city", seed=seed), num_frames=25).clip
    other = render(Scene("star", "yellow", "growing", "night_sky", seed=seed), num_frames=25).clip
    cut = np.concatenate([driving.frames[:13], other.frames[13:]])
    noise = rng.integers(0, 256, driving.frames[12:].shape, dtype=np.uint8)
    back = np.concatenate([driving.frames[::2], driving.frames[::-2][1:]])
    grain = rng.normal(0, 12, driving.frames.shape) + driving.frames[:1]
    named = {
        "driving": driving.frames,
        "late cut": cut,
        "late noise": np.concatenate([driving.frames[:12], noise]),
        "there and back": back,
        "grainy still": np.clip(grain, 0, 255).astype(np.uint8),
    }
    return {name: Clip(frames, driving.fps) for name, frames in named.items()}


def sharpness_zoo(seed: int = 0) -> dict[str, Clip]:
    """One picture at two sizes, blurred, and blurred with grain on top; two equal frames each."""
    import cv2

    big = render(Scene("rose", "red", "in_place", "meadow", seed=seed), 384, 256, 1).clip.frames[0]
    small = cv2.resize(big, (192, 128), interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(big, (0, 0), 3)
    grain = np.random.default_rng(seed).normal(0, 10, big.shape)
    grainy = np.clip(blurred + grain, 0, 255).astype(np.uint8)
    pictures = {"as drawn": big, "half the size": small, "blurred": blurred, "blur + grain": grainy}
    return {name: Clip(np.stack([p, p]), 8) for name, p in pictures.items()}


def encode(pipe: "CogVideoXPipeline", clip: Clip) -> "Tensor":
    """Latents of a clip as the pipeline holds them, tensor [1, T', C, H/8, W/8]."""
    import torch

    from vidgen_lab.video.tensors import as_tensor

    video = as_tensor([clip]).to(pipe._execution_device, pipe.vae.dtype)  # [1, 3, T, H, W] in -1..1
    with torch.no_grad():
        latents = pipe.vae.encode(video).latent_dist.mode()
    return latents.transpose(1, 2) * pipe.vae.config.scaling_factor


def decode(pipe: "CogVideoXPipeline", latents: "Tensor", request: "GenerationRequest") -> Clip:
    """Frames of latents as `encode` makes them; length and rate are the request's."""
    import torch

    from vidgen_lab.generation import generate

    with torch.no_grad():
        return generate.decode(pipe, latents, request.num_frames, request.fps)
