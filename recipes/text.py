"""The toy text side: a word-level tokenizer of the world's vocabulary and a small T5 encoder."""

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from vidgen_lab.toyworld import Scene, caption
from vidgen_lab.toyworld.language import REGISTERS, vocabulary

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"


def build_tokenizer(max_length: int) -> PreTrainedTokenizerFast:
    """One token a word, lower case; like T5's, it ends every text with </s> and pads to
    `max_length`."""
    words = {word: i for i, word in enumerate([PAD, END, UNKNOWN, *vocabulary()])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
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


def build_text_encoder(vocabulary_size: int, width: int, layers: int) -> T5EncoderModel:
    """An untrained T5 encoder with gated GELU, as in T5 v1.1."""
    config = T5Config(
        vocab_size=vocabulary_size,
        d_model=width,
        d_kv=32,
        d_ff=2 * width,
        num_layers=layers,
        num_heads=width // 32,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        pad_token_id=0,
        eos_token_id=1,
    )
    return T5EncoderModel(config)


def random_caption(
    scene: Scene,
    rng: np.random.Generator,
    empty: float = 0.1,
    drop: float = 0.1,
    unknown: float = 0.15,
) -> str:
    """A training caption: any register, sometimes vague, sometimes with words from outside the
    vocabulary.

    `empty` is the share of captions left out altogether, which trains the unconditional branch that
    classifier-free guidance needs (Ho and Salimans 2022).
    """
    if rng.random() < empty:
        return ""
    text = caption(scene, str(rng.choice(REGISTERS, p=(0.4, 0.35, 0.25))), rng, drop=drop)
    if rng.random() < unknown:
        words = text.split(" ")
        for _ in range(int(rng.integers(1, 3))):
            words.insert(int(rng.integers(len(words) + 1)), UNKNOWN)
        text = " ".join(words)
    return text


def tokenize(tokenizer: PreTrainedTokenizerFast, texts: list[str], max_length: int) -> torch.Tensor:
    """Token ids [B, max_length] exactly as CogVideoXPipeline makes them: padded, truncated, no
    mask."""
    options = {"padding": "max_length", "max_length": max_length, "truncation": True}
    return tokenizer(texts, return_tensors="pt", **options).input_ids
