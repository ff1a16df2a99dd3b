"""Latte: a diffusion transformer for video (Ma et al. 2024), unconditional, by class or by text.

    latents + timestep (+ class or text) -> predicted noise (and variance)

Tensors are [B, C, T, H, W], as everywhere in this package.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vidgen_lab.latte import interop
from vidgen_lab.latte.blocks import FinalLayer, LatteTransformerBlock
from vidgen_lab.latte.checks import (
    check_labels,
    check_text,
    require,
    require_finite,
    require_multiple,
    require_rank,
)
from vidgen_lab.latte.conditioning import LabelEmbedder, TextProjection, TimestepEmbedder
from vidgen_lab.latte.config import LatteConfig
from vidgen_lab.latte.tokens import VideoPatchEmbed, sincos_1d, unpatchify

if TYPE_CHECKING:
    from diffusers import LatteTransformer3DModel

# Conditions start small beside the tokens (DiT: normal, 0.02).
_CONDITIONS = ("time_embed.", "label_embed.", "text_embed.")
# Every gate starts at zero, so every block starts as the identity and a deep stack trains from step
# one (the tables of "single" are made as zeros). Cross-attention has no gate, so its last matrix is
# one. And the first prediction is zero noise: a loss of 1, with no accidental structure to unlearn.
_ZEROS = (
    "modulation.linear.weight", "shared_modulation.weight", "cross.out.weight",
    "final.linear.weight", "final.proj.weight",
)  # fmt: skip


class Latte(nn.Module):
    """The whole model. See `LatteConfig` for the settings."""

    def __init__(self, config: LatteConfig) -> None:
        super().__init__()
        self.config = config
        c, dim = config, config.hidden_size
        self.gradient_checkpointing = False
        self.patch_embed = VideoPatchEmbed(c.patch_size, c.in_channels, dim, c.sample_size)
        self.time_embed = TimestepEmbedder(dim)
        self.label_embed = LabelEmbedder(c.num_classes, dim) if c.condition == "class" else None
        self.text_embed = TextProjection(c.text_dim, dim) if c.condition == "text" else None
        self.shared_modulation = nn.Linear(dim, 6 * dim) if c.modulation == "single" else None
        self.blocks = nn.ModuleList(LatteTransformerBlock(c) for _ in range(c.pairs))
        self.final = FinalLayer(c)
        positions = sincos_1d(dim, torch.arange(c.num_frames)).float()  # [T, D]
        self.register_buffer("frame_positions", positions, persistent=False)
        self.initialize()

    def initialize(self) -> None:
        """All initial values of the model."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                # keeps the variance of a signal through the layer, forward and backward
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        # the patch convolution is a matrix in disguise: same rule, on its flat form
        nn.init.xavier_uniform_(self.patch_embed.proj.weight.view(self.config.hidden_size, -1))
        nn.init.zeros_(self.patch_embed.proj.bias)
        for name, weight in self.named_parameters():
            if not name.endswith("weight"):
                continue
            if name.startswith(_CONDITIONS):
                nn.init.normal_(weight, std=0.02)
            elif name.endswith(_ZEROS):
                nn.init.zeros_(weight)

    def forward(
        self,
        x: Tensor,
        t: Tensor | int,
        labels: Tensor | None = None,
        text: Tensor | None = None,
        text_mask: Tensor | None = None,
    ) -> Tensor:
        """Predict the noise in x (or x0, or v: what it was trained on, see `NoiseScheduler`).

        Args:
            x: noisy latents [B, C, T, H, W]; T is config.num_frames or 1; H and W multiples of the
                patch size.
            t: timesteps [B], or one number for all; fractions allowed.
            labels: [B] class numbers, for condition "class" (num_classes means none).
            text: [B, L, text_dim], for condition "text".
            text_mask: [B, L] bool, True = real token; None if all are.

        Returns:
            [B, out_channels, T, H, W]: the prediction; with learn_sigma the variance in the second
            half of the channels.

        Raises:
            LatteInputError: shapes, conditions or values the model cannot take.
        """
        t = self._check(x, t, labels, text, text_mask)  # [B]
        cond = self.time_embed(t)  # [B, D]
        if self.label_embed is not None:
            cond = cond + self.label_embed(labels)  # [B, D]
        if self.text_embed is not None:
            text = self.text_embed(text.to(cond.dtype))  # [B, L, D]
        block_cond = cond  # [B, D]
        if self.shared_modulation is not None:
            block_cond = self.shared_modulation(nn.functional.silu(cond))  # [B, 6D]

        tokens = self.patch_embed(x)  # [B, T, N, D]
        # the frame number is added once, between the first spatial and the first temporal block
        positions = self.frame_positions.to(tokens.dtype) if x.shape[2] > 1 else None  # [T, D]
        for block in self.blocks:
            args = (tokens, block_cond, text, text_mask, positions)
            if self.gradient_checkpointing and torch.is_grad_enabled():
                tokens = checkpoint(block, *args, use_reentrant=False)  # [B, T, N, D]
            else:
                tokens = block(*args)  # [B, T, N, D]
            positions = None
        patches = self.final(tokens, cond)  # [B, T, N, p*p*Cout]
        grid = self.patch_embed.grid(x)
        return unpatchify(patches, self.config.patch_size, *grid)  # [B, Cout, T, H, W]

    def _check(self, x: Tensor, t: Tensor | int, labels, text, text_mask) -> Tensor:
        """Refuse what the model cannot take, in words. Returns the timesteps as [B]."""
        c, batch = self.config, x.shape[:1]
        require_rank(x, "B C T H W", "latents")
        frames, expected = x.shape[2], f"{c.num_frames} (or 1)"
        hint = "Axes are [B, C, T, H, W]; build the model with num_frames=... for another length."
        require(frames in (c.num_frames, 1), "frames of the latents", expected, frames, hint)
        require(x.shape[1] == c.in_channels, "latent channels", c.in_channels, x.shape[1])
        require_multiple(x.shape[-2:], c.patch_size, "latents", "the patch size")
        require_finite(x, "latents", self.training)
        t = torch.as_tensor(t, device=x.device)
        t = t.expand(batch) if t.ndim == 0 else t
        require(t.shape == batch, "timesteps", list(batch), list(t.shape))
        require_finite(t, "timesteps", self.training)
        for name, given, kind in (("labels", labels, "class"), ("text", text, "text")):
            wanted = c.condition == kind
            require(
                (given is not None) == wanted,
                f"{name} for a model with condition {c.condition!r}",
                name if wanted else f"no {name}",
                "none" if given is None else list(given.shape),
            )
        if labels is not None:
            check_labels(labels, batch, c.num_classes)
        if text is not None:
            check_text(text, text_mask, batch[0], c.text_dim)
            require_finite(text, "text embeddings", self.training)
        return t

    def num_parameters(self) -> int:
        """Numbers in the weights, trained or frozen."""
        return sum(p.numel() for p in self.parameters())

    # ----- in and out
    @classmethod
    def from_diffusers(cls, model: "LatteTransformer3DModel | str | Path") -> "Latte":
        """Take over a LatteTransformer3DModel: an object, its folder, or a pipeline's folder.
        LatteInputError for no folder, another class, and settings that we cannot honour."""
        return interop.from_diffusers(model, cls)

    def to_diffusers(self) -> "LatteTransformer3DModel":
        """A LatteTransformer3DModel with these weights, which need modulation "single"."""
        return interop.to_diffusers(self)
