"""The text side: a tokenizer that knows the world's words, an encoder that tells what they name."""

from dataclasses import replace

import numpy as np
import torch
from transformers import T5Config, T5EncoderModel

from recipes.scenes import sample_scenes
from recipes.text import (
    Reading,
    accuracy,
    build_tokenizer,
    labels_of,
    random_caption,
    reading_loss,
    tokenize,
)
from tests.recipes.samples import RECIPES, survives
from vidgen_lab.toyworld import ATTRIBUTES


def untrained(tokenizer):
    return T5EncoderModel(T5Config(vocab_size=len(tokenizer), **RECIPES["text"].model))


def test_a_killed_training_ends_as_if_it_had_not_been(trained, tmp_path):
    assert survives("text", trained, tmp_path, 3)


def test_every_caption_is_known_to_the_tokenizer():
    tokenizer, rng = build_tokenizer(32), np.random.default_rng(0)
    scenes = sample_scenes(200, 3, None, reserved=True)
    assert any(scene.reserved for scene in scenes)
    texts = [random_caption(scene, rng, empty=0.0, unknown=0.0) for scene in scenes]
    ids = tokenize(tokenizer, texts, 32)
    assert ids.shape == (200, 32) and not (ids == tokenizer.unk_token_id).any()
    assert torch.equal((ids == tokenizer.eos_token_id).sum(1), torch.ones(200))  # none was cut off
    assert tokenize(tokenizer, ["xyzzy ball"], 32)[0, 0] == tokenizer.unk_token_id
    typed, said = tokenize(tokenizer, ["Red balls that bounce", "red ball that bouncing"], 32)
    assert torch.equal(typed, said)  # what people type is read as what captions say


def test_labels_are_what_a_caption_names():
    names = labels_of("a red ball moving left in a desert")
    chosen = [
        values[i - 1] if i else None for i, values in zip(names, ATTRIBUTES.values(), strict=True)
    ]
    assert chosen == ["ball", "red", "left", "desert", None]
    assert labels_of("") == [0] * 5


def test_every_token_learns_what_the_caption_names():
    torch.manual_seed(0)
    tokenizer, rng = build_tokenizer(16), np.random.default_rng(1)
    texts = [random_caption(scene, rng, empty=0.0) for scene in sample_scenes(8, 2)]
    labels = torch.tensor([labels_of(text) for text in texts])
    batch = {"ids": tokenize(tokenizer, texts, 16), "labels": labels}
    model = Reading(untrained(tokenizer), masked=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = reading_loss(model, batch, draw=None)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert accuracy(model, batch) > 0.8
    assert accuracy(model, batch | {"labels": labels.roll(1, 0)}) < 0.5


@torch.no_grad()
def test_a_masked_encoder_keeps_off_the_padding():
    torch.manual_seed(0)
    tokenizer = build_tokenizer(16)
    encoder = untrained(tokenizer)
    short, long = (tokenize(tokenizer, ["a red ball"], length) for length in (4, 16))
    for masked in (True, False):
        model = Reading(encoder, masked)
        read = [torch.cat(model(ids), -1)[:, :4] for ids in (short, long)]
        assert torch.allclose(*read, atol=1e-5) == masked


def test_captions_leave_out_as_much_as_they_say():
    rng, scene = np.random.default_rng(0), replace(sample_scenes(1, 0)[0], style="cartoon")
    texts = [random_caption(scene, rng) for _ in range(400)]
    assert 20 < texts.count("") < 70
    assert 30 < sum("<unk>" in text for text in texts) < 90
