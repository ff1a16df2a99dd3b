"""Prompt -> text -> noise -> denoise -> decode: the steps of text-to-video, one method each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vidgen_lab.latte.checks import require, require_finite, require_folder, require_multiple
from vidgen_lab.latte.diffusion.samplers import Guidance, Sampler, noise_like, sample
from vidgen_lab.latte.model import Latte
from vidgen_lab.latte.text import TextEmbedding, TextEncoder
from vidgen_lab.latte.vae import FrameVAE

if TYPE_CHECKING:
    from vidgen_lab.video.clip import Clip


@dataclass(frozen=True)
class Generated:
    """What `VideoGenerator` makes.

    Attributes:
        latents: [B, C, T, h, w], scaled.
        frames: [B, 3, T, H, W] in 0 .. 1, float32.
    """

    latents: Tensor
    frames: Tensor

    def clips(self, fps: float = 8.0) -> "list[Clip]":
        """One Clip per sample, uint8, to be shown at `fps` frames per second."""
        from vidgen_lab.video.clip import Clip

        videos = self.frames.permute(0, 2, 3, 4, 1).cpu().numpy()
        return [Clip.from_float(video, fps) for video in videos]


class VideoGenerator:
    """A trained Latte with everything around it.

    Args:
        model: the denoiser.
        vae: turns latents into frames. Only its `decode` and `spatial_factor` are needed, as
            text-to-video has nothing to encode.
        text_encoder: for a model with condition "text".
    """

    def __init__(
        self, model: Latte, vae: FrameVAE, text_encoder: TextEncoder | None = None
    ) -> None:
        self.model, self.vae, self.text_encoder = model.eval(), vae, text_encoder

    @classmethod
    def from_diffusers(
        cls,
        folder: str | Path,
        device: str | torch.device = "cpu",
        text_dtype: torch.dtype = torch.float32,
    ) -> "VideoGenerator":
        """Our parts with the weights of a saved LattePipeline: toy-latte, or Latte-1 with its T5.

        A prompt may have as many tokens as the folder's tokenizer allows, at most Latte's 120. The
        noise levels are the scheduler's affair: `NoiseScheduler.from_diffusers(folder)`.

        Args:
            folder: of a LattePipeline, on this machine.
            device: of all parts.
            text_dtype: of the text encoder alone; Latte and VAE stay in float32, like the sampler.
        """
        folder = require_folder(folder, "folder of a LattePipeline")
        model, vae = Latte.from_diffusers(folder), FrameVAE.from_diffusers(folder)
        reads = model.config.condition == "text"
        encoder = TextEncoder.from_diffusers(folder, None, device, text_dtype) if reads else None
        return cls(model.to(device), vae.to(device), encoder)

    # 1. text
    def encode_prompt(self, prompts: str | Sequence[str]) -> TextEmbedding:
        """B prompts to embeddings [B, L, D_text] and mask [B, L]; LatteInputError without a text
        encoder."""
        hint = "Pass text_encoder=..., or text=... and null=..., TextEmbeddings made elsewhere."
        known = self.text_encoder is not None
        require(known, "text encoder", "a TextEncoder for prompts", "none", hint)
        return self.text_encoder.encode(prompts)

    # 2. noise
    def initial_noise(
        self,
        batch: int,
        generator: torch.Generator | None = None,
        height: int | None = None,
        width: int | None = None,
    ) -> Tensor:
        """Standard normal latents [batch, C, T, h, w] for clips of height x width pixels, multiples
        of f*p, the VAE's factor times the model's patch size (or of the model's size)."""
        c, factor = self.model.config, self.vae.spatial_factor
        height, width = height or c.sample_size * factor, width or c.sample_size * factor
        require_multiple((height, width), factor * c.patch_size, "clip in pixels")
        shape = batch, c.in_channels, c.num_frames, height // factor, width // factor
        return noise_like(next(self.model.parameters()).new_empty(shape), generator)

    # 3. guidance
    def guide(
        self,
        batch: int,
        text: TextEmbedding | None,
        null: TextEmbedding | None,
        labels: Tensor | None,
        scale: float,
        rescale: float = 0.0,
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """The denoiser (x, t) -> output for this condition, with guidance if scale is not 1.

        From x [B, C, T, h, w] and t [B] it makes C channels, or 2C with a learned variance. A
        condition that the model does not have, or lacks, the model itself refuses.

        Args:
            batch: B, clips.
            text: for each of the clips, or None.
            null: for each of the clips, or one for all; None for the empty prompt.
            labels: [B] class numbers, or None.
            scale: 1 is the model as it is, see `Guidance`.
            rescale: 0 .. 1, see `Guidance`.
        """
        cond: dict[str, Tensor] = {}
        empty: dict[str, Tensor] = {}
        if labels is not None:
            cond["labels"] = labels
            empty["labels"] = torch.full_like(labels, self.model.config.num_classes)
        if text is not None:
            if scale == 1 or self.model.config.condition != "text":
                null = text  # nothing reads it
            elif null is None:
                null = self.encode_prompt("")
            null = null.repeat(batch) if len(null.mask) == 1 else null
            for kind, words in ((cond, text), (empty, null)):
                kind |= {"text": words.embeddings, "text_mask": words.mask}
        return Guidance(self.model, cond, empty, scale, rescale) if cond else self.model

    # 4. decode
    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents to frames [B, 3, T, H, W] in 0 .. 1."""
        require_finite(latents, "latents")
        return (self.vae.decode(latents).float() / 2 + 0.5).clamp(0, 1)

    # 5. all together
    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None,
        sampler: Sampler,
        guidance_scale: float = 7.0,
        seed: int = 0,
        text: TextEmbedding | None = None,
        null: TextEmbedding | None = None,
        labels: Tensor | None = None,
        batch: int = 1,
        rescale: float = 0.0,
        **size: int,
    ) -> Generated:
        """Make B = P * batch clips, in the five steps that follow each other in the code.

        Args:
            prompt: one or P of them; None with text=..., labels=... or for an unconditional model.
            sampler: steps from noise to a clip; holds their number and the noise levels.
            guidance_scale: 1 is the model as it is, see `Guidance`.
            seed: the same one gives the same noise on any device.
            text: encoded prompts [P, L, D_text] in the prompts' place.
            null: an encoded negative one in the empty one's place: [1 or B, L, D_text].
            labels: [P] class numbers.
            batch: clips of each prompt or label; of an unconditional model, clips.
            rescale: 0 .. 1, see `Guidance`.
            size: height and width in pixels; the model's own by default.

        Raises:
            LatteInputError: a condition or size that the model does not take.
        """
        require(batch > 0, "batch", "at least 1", batch)
        if prompt is not None:
            require(text is None, "prompt", "either prompt or text", "both")
            text = self.encode_prompt(prompt)  # 1. words to vectors
        text = None if text is None else text.repeat(batch)
        labels = None if labels is None else labels.repeat_interleave(batch)
        told = labels if text is None else text.mask
        batch = batch if told is None else len(told)
        generator = torch.Generator().manual_seed(seed)
        noise = self.initial_noise(batch, generator, **size)  # 2. where the way begins
        denoiser = self.guide(batch, text, null, labels, guidance_scale, rescale)  # 3. who leads
        latents = sample(denoiser, sampler, noise, generator)  # 4. noise to latents
        return Generated(latents, self.decode(latents))  # 5. latents to frames
