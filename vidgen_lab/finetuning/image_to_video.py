"""From text to video to image to video: a first frame as half of what the transformer reads."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import nn

from vidgen_lab.generation.generate import to_clip
from vidgen_lab.generation.request import GenerationRequest
from vidgen_lab.training.data.dataset import cover
from vidgen_lab.video.clip import Clip

if TYPE_CHECKING:
    from diffusers import CogVideoXImageToVideoPipeline, CogVideoXTransformer3DModel


def input_layer(transformer: nn.Module) -> nn.Module:
    """The layer that reads latents: what must be learned beside a LoRA to use the first frame."""
    return transformer.patch_embed.proj


def widen(transformer: "CogVideoXTransformer3DModel") -> None:
    """Let a text-to-video model read twice the channels: noisy latents, then the first frame's.

    As CogVideoX-5B-I2V was made: the new weights begin as zeros, so that before the first step the
    model says what it said, whatever the picture.
    """
    layer = input_layer(transformer)
    # [D, C, p, p], or [D, C*p_t*p*p] where frames are joined: channels come first in both
    layer.weight = nn.Parameter(torch.cat([layer.weight, torch.zeros_like(layer.weight)], dim=1))
    width = "in_channels" if isinstance(layer, nn.Conv2d) else "in_features"
    setattr(layer, width, 2 * getattr(layer, width))
    transformer.register_to_config(in_channels=2 * transformer.config.in_channels)


def generate_from_image(
    pipe: "CogVideoXImageToVideoPipeline", image: Image.Image, request: GenerationRequest
) -> Clip:
    """A clip that begins with a picture (PIL), made as `generate` makes those of a text alone.

    The picture is scaled and cut as first frames are in training; the pipeline would stretch it.
    """
    pixels = cover(np.array(image.convert("RGB"))[None], request.height, request.width)
    picture = Image.fromarray(pixels[:, 0].permute(1, 2, 0).numpy())  # [h, w, 3]
    frames = pipe(image=picture, **request.pipeline_arguments(pipe)).frames[0]
    return to_clip(frames, request, pipe)
