"""Pre-train the embedded T5 encoder: every output token learns to tell what the caption names.

CogVideoX conditions on a T5 that was trained long before and stays frozen. Ours learns what there
is to say about the toy world in a minute: from each token's output a linear reading tells subject,
colour, motion, background and style. The diffusion transformer then finds the whole sentence
wherever it looks, instead of having to learn reading and painting at once.
"""

import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedTokenizerFast, T5EncoderModel

from vidgen_lab.toyworld import ATTRIBUTES, parse_prompt
from vidgen_lab.training.checkpoints import Run
from vidgen_lab.training.loop import Numbers, train
from vidgen_lab.training.optimizers import warmup_stable_decay
from vidgen_lab.training.toy_data import sample_scenes
from vidgen_lab.training.toy_text import (
    UNKNOWN,
    build_text_encoder,
    build_tokenizer,
    random_caption,
    tokenize,
)


@dataclass(frozen=True)
class ToyTextConfig:
    """Recipe of an embedded text encoder.

    masked: keep attention off the padding, as LattePipeline does and CogVideoXPipeline does not.
    long_length: one batch in four is padded to this length instead, the stock pipeline's default.
    """

    width: int = 128
    layers: int = 2
    max_length: int = 32
    long_length: int = 226
    steps: int = 1000
    batch: int = 64
    learning_rate: float = 2e-3
    warmup: int = 50
    masked: bool = False
    seed: int = 0


def labels_of(text: str) -> list[int]:
    """For each attribute, 1 + the index of the value the text names, or 0 if it names none."""
    named = parse_prompt(text.replace(UNKNOWN, " "))
    return [
        1 + values.index(named[name]) if name in named else 0 for name, values in ATTRIBUTES.items()
    ]


class Reading(nn.Module):
    """A text encoder and one linear reading per attribute from each of its output tokens."""

    def __init__(self, encoder: T5EncoderModel, masked: bool):
        super().__init__()
        self.encoder, self.masked = encoder, masked
        self.heads = nn.ModuleList(
            nn.Linear(encoder.config.d_model, len(values) + 1) for values in ATTRIBUTES.values()
        )

    def forward(self, token_ids: torch.Tensor) -> list[torch.Tensor]:
        """Logits [B, L, values + 1] per attribute for token ids [B, L]."""
        mask = (token_ids != self.encoder.config.pad_token_id) if self.masked else None
        hidden = self.encoder(token_ids, attention_mask=mask)[0]  # [B, L, D]
        return [head(hidden) for head in self.heads]


def reading_loss(logits: list[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    """Cross entropy over all tokens and attributes; labels [B, attributes]."""
    length = logits[0].shape[1]
    targets = labels.unsqueeze(1).expand(-1, length, -1)  # [B, L, attributes]
    losses = [
        F.cross_entropy(read.flatten(0, 1), targets[..., i].flatten())
        for i, read in enumerate(logits)
    ]
    return torch.stack(losses).mean()


def train_text_encoder(
    config: ToyTextConfig, out: Path, device: str = "cpu", log_every: int = 50
) -> T5EncoderModel:
    """Train (or resume) the encoder; `out` gets checkpoint.pt, log.jsonl and text_encoder/."""
    torch.manual_seed(config.seed)
    tokenizer = build_tokenizer(config.max_length)
    encoder = build_text_encoder(len(tokenizer), config.width, config.layers)
    model = Reading(encoder, config.masked).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=0.01)
    run = Run(out, {"model": model, "optimizer": optimizer}, config.steps, log_every)
    fresh = _batch(tokenizer, config, 4 * config.steps, device)

    def loss_at(step: int) -> tuple[torch.Tensor, Numbers]:
        ids, labels = _batch(tokenizer, config, step, device)
        return reading_loss(model(ids), labels), {}

    def at_checkpoint() -> Numbers:
        return {"fresh_accuracy": accuracy(model, *fresh)}

    factor = partial(warmup_stable_decay, steps=config.steps, warmup=config.warmup, decay_share=0.5)
    train(
        run, model, {"optimizer": optimizer}, factor, loss_at,
        at_checkpoint=at_checkpoint, device=device,
    )  # fmt: skip
    model.encoder.save_pretrained(out / "text_encoder")
    (out / "config.json").write_text(json.dumps(asdict(config), indent=2))
    return model.encoder


@torch.no_grad()
def accuracy(model: Reading, ids: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of tokens from which all five attributes are read right."""
    right = [
        read.argmax(-1) == labels[:, None, i]  # [B, L]
        for i, read in enumerate(model(ids))
    ]
    return float(torch.stack(right).all(0).float().mean())


def _batch(
    tokenizer: PreTrainedTokenizerFast, config: ToyTextConfig, step: int, device: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and labels of one step: a function of the step alone."""
    rng = np.random.default_rng((config.seed, step))
    scenes = sample_scenes(config.batch, int(rng.integers(2**31)), reserved=True)
    texts = [random_caption(scene, rng) for scene in scenes]
    length = config.long_length if step % 4 == 3 else config.max_length
    ids = tokenize(tokenizer, texts, length)
    return ids.to(device), torch.tensor([labels_of(text) for text in texts], device=device)
