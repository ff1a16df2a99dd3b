"""Watching a CogVideoX model at work: where its attention goes, and which details come first."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

LOOKERS = 512  # tokens whose attention is looked at, at most
BANDS = ("layout", "shapes", "edges", "texture")


class _AttentionSpy(TorchFunctionMode):
    """Hands every query and key that meets in fused attention to `note`."""

    def __init__(self, note: Any) -> None:
        super().__init__()
        self.note = note

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            query = args[0] if args else kwargs["query"]
            key = args[1] if len(args) > 1 else kwargs["key"]
            self.note(query, key)
        return func(*args, **kwargs)


def attention_mass(
    transformer: torch.nn.Module,
    latents: torch.Tensor,
    text: torch.Tensor,
    timestep: int,
    rotary: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> pd.DataFrame:
    """Where video tokens look, block by block, in one forward pass.

    latents: [B, T, C, H, W]; text: [B, L, D]; timestep: noise level, 0..999. rotary: the position
    table of a 5B-type model. Of long clips an even sample of LOOKERS tokens is asked.
    Returns one row per block with the mean attention mass that a video token gives to its own
    frame, to the other frames and to the text; a row sums to 1.
    """
    frames, words = latents.shape[1], text.shape[1]
    rows: list[dict[str, float]] = []

    def note(query: torch.Tensor, key: torch.Tensor) -> None:
        tokens = query.shape[2] - words
        asked = torch.linspace(0, tokens - 1, min(tokens, LOOKERS)).long().to(query.device)
        mass = torch.zeros(len(asked), words + tokens, device=query.device)
        for q, k in zip(query.flatten(0, 1), key.flatten(0, 1), strict=True):  # head by head
            scores = q[words + asked].float() @ k.float().T / q.shape[-1] ** 0.5
            mass += torch.softmax(scores, dim=-1) / (query.shape[0] * query.shape[1])
        per_frame = mass[:, words:].unflatten(1, (frames, -1)).sum(dim=2)  # [asked, T]
        home = asked // (tokens // frames)
        own = per_frame.gather(1, home[:, None]).mean().item()
        to_text = mass[:, :words].sum(dim=1).mean().item()
        row = {"same frame": own, "other frames": 1 - own - to_text, "text": to_text}
        rows.append(row)

    with torch.no_grad(), _AttentionSpy(note):
        step = torch.full((len(latents),), timestep, device=latents.device)
        more = {"image_rotary_emb": rotary} if rotary is not None else {}
        transformer(hidden_states=latents, encoder_hidden_states=text, timestep=step, **more)
    return pd.DataFrame(rows, index=pd.RangeIndex(len(rows), name="block"))


def attention_at_levels(
    pipe: Any, latents: torch.Tensor, prompt: str, levels: Mapping[str, int], seed: int = 0
) -> dict[str, pd.DataFrame]:
    """`attention_mass` of a pipeline's transformer on one clip at several noise levels.

    latents: clean, [1, T, C, H, W] as the pipeline holds them; levels: name -> time step 0..999.
    """
    length = pipe.transformer.config.max_text_seq_length
    text, _ = pipe.encode_prompt(
        prompt, do_classifier_free_guidance=False, max_sequence_length=length
    )
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed)).to(latents)
    rotary = None
    if pipe.transformer.config.use_rotary_positional_embeddings:
        _, frames, _, height, width = latents.shape
        factor = pipe.vae_scale_factor_spatial
        rotary = pipe._prepare_rotary_positional_embeddings(
            height * factor, width * factor, frames, latents.device
        )
    masses = {}
    for name, level in levels.items():
        noisy = pipe.scheduler.add_noise(latents, noise, torch.tensor([level]))
        masses[name] = attention_mass(pipe.transformer, noisy, text, level, rotary)
    return masses


def even_attention(num_frames: int, tokens_per_frame: int, text_tokens: int) -> pd.Series:
    """The attention mass a token would give if it looked at everything alike: the baseline."""
    total = num_frames * tokens_per_frame + text_tokens
    own = tokens_per_frame / total
    words = text_tokens / total
    return pd.Series({"same frame": own, "other frames": 1 - own - words, "text": words})


def band_agreement(videos: Sequence[np.ndarray], final: np.ndarray) -> pd.DataFrame:
    """How much of the finished picture is already there, by size of detail.

    videos: estimates [T, H, W, 3] over the course of denoising; final: the finished frames.
    Each frame's spectrum is split into four octaves of spatial frequency, from `layout` (waves
    longer than a quarter of the picture) to `texture` (down to single pixels). The result is, per
    step and band, 1 - error energy / energy: 1 is finished, 0 or less means not begun.
    """
    target = _spectrum(final)
    masks = _band_masks(final.shape[1], final.shape[2])
    energy = [np.abs(target[:, m]) ** 2 for m in masks]
    rows = []
    for video in videos:
        error = _spectrum(video) - target
        rows.append(
            [
                1 - (np.abs(error[:, m]) ** 2).sum() / max(e.sum(), 1e-12)
                for m, e in zip(masks, energy, strict=True)
            ]
        )
    return pd.DataFrame(
        rows, columns=list(BANDS), index=pd.RangeIndex(1, len(rows) + 1, name="step")
    )


def half_done(agreement: pd.DataFrame) -> pd.Series:
    """First step from which a band stays more than half finished; NaN if none does."""
    behind = agreement < 0.5
    last = behind.iloc[::-1].idxmax().where(behind.any(), agreement.index[0] - 1)
    later = [agreement.index[agreement.index > step] for step in last]
    return pd.Series([s[0] if len(s) else np.nan for s in later], index=agreement.columns)


def _spectrum(frames: np.ndarray) -> np.ndarray:
    grey = frames.astype(np.float64).mean(axis=-1) / 255
    return np.fft.fft2(grey - grey.mean(axis=(1, 2), keepdims=True))


def _band_masks(height: int, width: int) -> list[np.ndarray]:
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])  # cycles/pixel
    edges = (0, 4 / min(height, width), 0.125, 0.25, 1)
    return [(radius > low) & (radius <= high) for low, high in zip(edges, edges[1:], strict=False)]
