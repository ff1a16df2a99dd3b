"""Words to vectors: tokenise, encode, mask; and the empty prompt that guidance needs.

How long may a prompt be? T5 has relative positions and no limit of its own; each model chose one:
120 tokens in Latte, 226 in CogVideoX. 77 is CLIP's, whose table of positions ends there. How wide
is a token? 768 for t5-base, 4096 for the T5-XXL that Latte and CogVideoX use.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidgen_lab.latte.checks import require, require_folder, require_mask

MAX_TOKENS = {"clip": 77, "latte": 120, "cogvideox": 226}


@dataclass(frozen=True)
class TextEmbedding:
    """Encoded prompts, all of one length.

    Attributes:
        embeddings: [B, L, D_text].
        mask: [B, L] bool, True where a token is real.
    """

    embeddings: Tensor
    mask: Tensor

    def __post_init__(self) -> None:
        require_mask(self.mask, self.embeddings)

    def to(self, *args: Any) -> "TextEmbedding":
        """Move, or change the precision of the embeddings (the mask stays bool)."""
        moved = self.embeddings.to(*args)
        return TextEmbedding(moved, self.mask.to(moved.device))

    def repeat(self, count: int) -> "TextEmbedding":
        """The same text for `count` clips each, one after the other: [B, ...] -> [B*count, ...]."""
        return TextEmbedding(
            self.embeddings.repeat_interleave(count, 0), self.mask.repeat_interleave(count, 0)
        )


class TextEncoder:
    """A tokenizer and a T5-like encoder of `transformers`, frozen.

    Prompts are put into lower case without outer blanks first, as LattePipeline does.

    Args:
        tokenizer: any with the interface of transformers.
        model: its encoder (real T5, or the toy world's small one).
        max_length: L, tokens of a prompt, end-of-sequence included; what is beyond is cut.
    """

    def __init__(self, tokenizer: Any, model: Any, max_length: int = MAX_TOKENS["latte"]) -> None:
        require(max_length > 1, "max_length", "at least 2", max_length)
        self.tokenizer, self.model, self.max_length = tokenizer, model.eval(), max_length

    @classmethod
    def from_diffusers(
        cls,
        folder: str | Path,
        max_length: int | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> "TextEncoder":
        """From the tokenizer/ and text_encoder/ of a pipeline's folder.

        Args:
            folder: of a pipeline, on this machine.
            max_length: tokens of a prompt; None for what the tokenizer allows, at most Latte's 120.
            device: of the encoder and the embeddings.
            dtype: of the encoder; a T5-XXL takes 18 GiB in float32, 9 in bfloat16.
        """
        from transformers import AutoTokenizer, T5EncoderModel

        from vidgen_lab.progress import quiet_loading

        words, model = (Path(folder) / name for name in ("tokenizer", "text_encoder"))
        tokenizer = AutoTokenizer.from_pretrained(
            require_folder(words, "tokenizer"), local_files_only=True, trust_remote_code=False
        )
        with quiet_loading(model):
            encoder = T5EncoderModel.from_pretrained(
                require_folder(model, "text encoder"),
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
            )
        length = max_length or min(tokenizer.model_max_length, MAX_TOKENS["latte"])
        return cls(tokenizer, encoder.to(device), length)

    @torch.no_grad()
    def encode(self, prompts: str | Sequence[str]) -> TextEmbedding:
        """B prompts to embeddings [B, L, D_text] and mask [B, L], with L = max_length."""
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        require(len(prompts) > 0, "prompts", "at least one", "none")
        batch = self.tokenizer(
            [p.lower().strip() for p in prompts],
            padding="max_length",
            max_length=self.max_length,
            truncation=True,
            return_tensors="pt",
        )
        device = next(self.model.parameters()).device
        ids, mask = batch.input_ids.to(device), batch.attention_mask.to(device)
        return TextEmbedding(self.model(ids, attention_mask=mask)[0], mask.bool())
