"""Taking a CogVideoX model apart: where its parameters are, which shapes flow, what it costs.

The published models are examined on PyTorch's meta device, where a tensor has a shape but no
memory: counting all of CogVideoX-5B takes a second and no download.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pandas as pd
import torch

# What distinguishes the published transformers from the diffusers defaults; the source is the
# config.json of each repository, as converted by diffusers' convert_cogvideox_to_diffusers.py.
LAYOUTS: dict[str, dict[str, Any]] = {
    "2b": {"num_attention_heads": 30, "num_layers": 30},
    "5b": {
        "num_attention_heads": 48,
        "num_layers": 42,
        "use_rotary_positional_embeddings": True,
    },
}
# T5 v1.1 XXL, encoder half.
T5_XXL = {
    "vocab_size": 32128,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
}
TEXT_TOKENS = 226

_GROUPS = (
    ("attention (q, k, v, out)", (".attn1.",)),
    ("feed-forward", (".ff.",)),
    ("adaptive norms (time step)", ("norm1", "norm2", "norm_out", "time_embedding")),
    ("reading text and patches", ("patch_embed",)),
    ("writing the result", ("proj_out", "norm_final")),
)


def meta_model(part: str, layout: str = "2b") -> torch.nn.Module:
    """Build a full-size CogVideoX part without weights.

    part: "transformer", "vae" or "text_encoder"; layout: "2b" or "5b" (transformer only).
    """
    from diffusers import AutoencoderKLCogVideoX, CogVideoXTransformer3DModel
    from transformers import T5Config, T5EncoderModel

    builders = {
        "transformer": lambda: CogVideoXTransformer3DModel(**LAYOUTS[layout]),
        "vae": AutoencoderKLCogVideoX,
        "text_encoder": lambda: T5EncoderModel(T5Config(**T5_XXL)),
    }
    with torch.device("meta"):
        return builders[part]().eval()


def count_parameters(module: torch.nn.Module) -> int:
    """Number of parameters, trainable or not."""
    return sum(p.numel() for p in module.parameters())


def count_tokens(num_frames: int, height: int, width: int) -> int:
    """Tokens in one attention of CogVideoX: the text, and a 2x2 patch of latents each."""
    latent_frames = (num_frames - 1) // 4 + 1  # the first frame alone, then fours
    return TEXT_TOKENS + latent_frames * (height // 16) * (width // 16)


def parameter_groups(transformer: torch.nn.Module) -> pd.Series:
    """Parameters of a CogVideoX transformer by what they do; the sum is the whole model."""
    totals = {name: 0 for name, _ in _GROUPS}
    for key, parameter in transformer.named_parameters():
        name = next(n for n, marks in _GROUPS if any(mark in f".{key}" for mark in marks))
        totals[name] += parameter.numel()
    return pd.Series(totals, name="parameters")


def forward_flops(module: torch.nn.Module, *args: Any, **kwargs: Any) -> float:
    """Floating-point operations of one forward pass (a multiply-add counts as two)."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*args, **kwargs)
    return float(counter.get_total_flops())


def trace_shapes(
    num_frames: int = 49, height: int = 480, width: int = 720, layout: str = "2b"
) -> dict[str, tuple[int, ...]]:
    """Send empty tensors through the full-size model and note the shape at every station.

    Keys in order: words, text, noise, patches, joint, prediction, latents, video. Nothing is
    computed and nothing downloaded: all parts live on the meta device.
    """
    text_encoder, vae = meta_model("text_encoder"), meta_model("vae")
    transformer = meta_model("transformer", layout)
    seen: dict[str, tuple[int, ...]] = {}

    def note_tokens(block: Any, args: Any, kwargs: dict[str, Any]) -> None:
        video, text = kwargs["hidden_states"], kwargs["encoder_hidden_states"]
        seen["patches"] = tuple(video.shape)
        seen["joint"] = (video.shape[1] + text.shape[1],)

    with torch.no_grad():
        words = torch.zeros(1, TEXT_TOKENS, dtype=torch.long, device="meta")
        text = text_encoder(words)[0]
        noise = torch.empty(
            1, (num_frames - 1) // 4 + 1, 16, height // 8, width // 8, device="meta"
        )
        seen |= {
            "words": tuple(words.shape),
            "text": tuple(text.shape),
            "noise": tuple(noise.shape),
        }
        first = transformer.transformer_blocks[0]
        with _hook(first.register_forward_pre_hook(_as_kwargs(note_tokens), with_kwargs=True)):
            step = torch.zeros(1, dtype=torch.long, device="meta")
            prediction = transformer(
                hidden_states=noise,
                encoder_hidden_states=text,
                timestep=step,
                image_rotary_emb=_rotary(noise.shape) if layout == "5b" else None,
            ).sample
        latents = prediction.permute(0, 2, 1, 3, 4)  # [B, T, C, H, W] -> [B, C, T, H, W]
        seen |= {"prediction": tuple(prediction.shape), "latents": tuple(latents.shape)}
        seen["video"] = tuple(vae.decode(latents).sample.shape)
    return seen


def _rotary(shape: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    tokens = shape[1] * (shape[3] // 2) * (shape[4] // 2)
    return torch.empty(tokens, 64, device="meta"), torch.empty(tokens, 64, device="meta")


def _as_kwargs(note: Any) -> Any:
    """Forward hooks see arguments as the caller passed them; name the positional ones."""

    def hook(block: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        names = ("hidden_states", "encoder_hidden_states")
        note(block, (), dict(zip(names, args, strict=False)) | kwargs)

    return hook


@contextmanager
def _hook(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()
