"""The embedded text side: a word-level tokenizer of the world's vocabulary and a small T5 encoder.

CogVideoX conditions on a T5 that was trained long before and stays frozen. Ours learns what there
is to say about the toy world in a minute: from each token's output a linear reading tells subject,
colour, motion, background and style. The diffusion transformer then finds the whole sentence
wherever it looks, instead of having to learn reading and painting at once.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate.utils import send_to_device
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from recipes.scenes import sample_scenes
from recipes.training import Recipe, fit
from vidgen_lab.toyworld import ATTRIBUTES, Scene, caption, parse_prompt
from vidgen_lab.toyworld.language import REGISTERS, rewordings, vocabulary
from vidgen_lab.training.stream import Draw

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"


@dataclass(frozen=True)
class TextConfig(Recipe):
    """Recipe of an embedded text encoder, a T5 as of version 1.1.

    masked: keep attention off the padding, as LattePipeline does and CogVideoXPipeline does not.
    long_length: one batch in four is padded to this length instead, the stock pipeline's default.
    """

    max_length: int = 32
    long_length: int = 226
    batch: int = 64
    masked: bool = False


def build_tokenizer(max_length: int) -> PreTrainedTokenizerFast:
    """One token a word, lower case; every text ends with </s> and is padded to `max_length`.

    What people type and no caption says, "bounces" or "balls", is read as the caption's word."""
    words = {word: i for i, word in enumerate([PAD, END, UNKNOWN, *vocabulary()])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=UNKNOWN))
    other = [normalizers.Replace(Regex(said), word) for said, word in rewordings().items()]
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *other])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, words[END])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        model_max_length=max_length,
    )


def random_caption(
    scene: Scene, rng: np.random.Generator, empty: float = 0.1, unknown: float = 0.15
) -> str:
    """A training caption: any register, sometimes vague, sometimes with words from outside the
    vocabulary.

    `empty` is the share of captions left out altogether, which trains the unconditional branch that
    classifier-free guidance needs (Ho and Salimans 2022).
    """
    if rng.random() < empty:
        return ""
    text = caption(scene, str(rng.choice(REGISTERS, p=(0.4, 0.35, 0.25))), rng, drop=0.1)
    if rng.random() < unknown:
        words = text.split(" ")
        for _ in range(int(rng.integers(1, 3))):
            words.insert(int(rng.integers(len(words) + 1)), UNKNOWN)
        text = " ".join(words)
    return text


def tokenize(tokenizer: PreTrainedTokenizerFast, texts: list[str], max_length: int) -> Tensor:
    """Token ids [B, max_length] as CogVideoXPipeline makes them: padded, truncated, no mask."""
    options = {"padding": "max_length", "max_length": max_length, "truncation": True}
    return tokenizer(texts, return_tensors="pt", **options).input_ids


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

    def forward(self, token_ids: Tensor) -> list[Tensor]:
        """Logits [B, L, values + 1] per attribute for token ids [B, L]."""
        mask = (token_ids != self.encoder.config.pad_token_id) if self.masked else None
        hidden = self.encoder(token_ids, attention_mask=mask)[0]  # [B, L, D]
        return [head(hidden) for head in self.heads]


def reading_loss(model: Reading, batch: dict[str, Tensor], draw: Draw) -> Tensor:
    """Cross entropy over all tokens and attributes; labels [B, attributes]."""
    logits = model(batch["ids"])
    targets = batch["labels"].unsqueeze(1).expand(-1, logits[0].shape[1], -1)  # [B, L, attributes]
    losses = [
        F.cross_entropy(read.flatten(0, 1), targets[..., i].flatten())
        for i, read in enumerate(logits)
    ]
    return torch.stack(losses).mean()


@torch.no_grad()
def accuracy(model: Reading, batch: dict[str, Tensor]) -> float:
    """Share of tokens from which all five attributes are read right."""
    batch = send_to_device(batch, model.heads[0].weight.device)
    right = [
        read.argmax(-1) == batch["labels"][:, None, i]  # [B, L]
        for i, read in enumerate(model(batch["ids"]))
    ]
    return float(torch.stack(right).all(0).float().mean())


def train_text_encoder(config: TextConfig, out: Path) -> T5EncoderModel:
    """Train (or resume) the encoder in `out`; `out`/text_encoder is the result."""
    torch.manual_seed(config.training.seed)
    tokenizer = build_tokenizer(config.max_length)
    model = Reading(
        T5EncoderModel(T5Config(vocab_size=len(tokenizer), **config.model)), config.masked
    )

    def batch(number: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((config.training.seed, number))
        scenes = sample_scenes(config.batch, int(rng.integers(2**31)), reserved=True)
        texts = [random_caption(scene, rng) for scene in scenes]
        length = config.long_length if number % 4 == 3 else config.max_length
        labels = torch.tensor([labels_of(text) for text in texts])
        return {"ids": tokenize(tokenizer, texts, length), "labels": labels}

    fresh = batch(4 * config.training.steps)
    measured = {"evaluate": lambda model: {"fresh_accuracy": accuracy(model, fresh)}}
    fit(model, reading_loss, batch, out, config, **measured)
    model.encoder.save_pretrained(out / "text_encoder")
    return model.encoder
