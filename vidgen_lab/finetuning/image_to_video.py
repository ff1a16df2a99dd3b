"""From text to video to image to video: a first frame as half of what the transformer reads.

As CogVideoX-5B-I2V was made: the input layer gets as many channels again, which begin as zeros, so
that before the first step the wider model says what the narrow one said, whatever the picture.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import nn

from vidgen_lab.generation.generate import to_clip
from vidgen_lab.generation.loading import locate
from vidgen_lab.generation.request import GenerationRequest
from vidgen_lab.training.data.dataset import cover
from vidgen_lab.video.clip import Clip

if TYPE_CHECKING:
    from diffusers import CogVideoXImageToVideoPipeline, CogVideoXTransformer3DModel


def widen(transformer: "CogVideoXTransformer3DModel") -> "CogVideoXTransformer3DModel":
    """A copy that reads twice the channels: noisy latents, then those of the first frame.

    Raises ValueError for a model that does so already.
    """
    config = dict(transformer.config)
    if config["in_channels"] != config["out_channels"]:
        raise ValueError("this model reads a first frame already")
    config["in_channels"] *= 2
    wide = type(transformer).from_config(config).to(transformer.dtype)
    weights = transformer.state_dict()
    name = "patch_embed.proj.weight"
    # [D, C, p, p], or [D, C*p_t*p*p] where frames are joined: channels come first in both
    weights[name] = torch.cat([weights[name], torch.zeros_like(weights[name])], dim=1)
    wide.load_state_dict(weights)
    return wide


def make_image_to_video(model: str | Path, out: str | Path) -> Path:
    """Write a text-to-video pipeline as an image-to-video one, to be trained; returns `out`.

    model: as for `load_pipeline`, but nothing is fetched. Raises ValueError for its own folder.
    """
    from diffusers import CogVideoXImageToVideoPipeline, CogVideoXPipeline

    folder = locate(str(model))
    if Path(out).resolve() == folder.resolve():
        raise ValueError(f"{out} is the model itself: write the new one elsewhere")
    pipe = CogVideoXPipeline.from_pretrained(folder, use_safetensors=True, local_files_only=True)
    parts = dict(pipe.components) | {"transformer": widen(pipe.transformer)}
    CogVideoXImageToVideoPipeline(**parts).save_pretrained(out)
    return Path(out)


def input_layer(transformer: nn.Module) -> nn.Module:
    """The layer that reads latents: what must be learned beside a LoRA to use the first frame."""
    return transformer.patch_embed.proj


def with_input_layer(model: Path, trained: nn.Module) -> "CogVideoXTransformer3DModel":
    """The transformer in `model` with the trained input layer, without any adapter."""
    from diffusers import CogVideoXTransformer3DModel

    transformer = CogVideoXTransformer3DModel.from_pretrained(model / "transformer")
    input_layer(transformer).load_state_dict(input_layer(trained).state_dict())
    return transformer


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
