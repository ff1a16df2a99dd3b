"""What is reserved for chapter 5 reaches VAEs, text encoder and judge, and nothing else."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from recipes import judge, latte, make, scenes, text, transformer, vae
from recipes.scenes import sample_scenes
from vidgen_lab.config import load
from vidgen_lab.toyworld import parse_prompt
from vidgen_lab.toyworld.world import RESERVED_STYLES, RESERVED_SUBJECTS


class Seen(Exception):
    """Raised in place of the work, once it is clear what it would have been done on."""


def recipe_of(part):
    """The shipped recipe, as `make.py` reads it, with fewer clips."""
    recipe = load(make.PARTS[part][0], make.read_recipe(part))
    return replace(recipe, clips=1000) if hasattr(recipe, "clips") else recipe


class Part:
    """Stands in for what other parts have trained; keeps the captions that it is given."""

    config = SimpleNamespace(latent_channels=4)

    def __init__(self, texts=None):
        self.texts = texts

    def from_pretrained(self, folder):
        return self

    def float(self):
        return self

    def eval(self):
        return self

    def to(self, device):
        return self

    def __call__(self, texts):
        self.texts += texts
        return [torch.zeros(len(texts), 1, 1)]


class Texts(list):
    def to(self, device):
        return self


@pytest.fixture
def seen(monkeypatch):
    """The scenes and captions of which two text-to-video models learn."""
    found = {"scenes": [], "texts": []}

    def cached(vae, folder, scenes, size):
        found["scenes"] += scenes
        cells = torch.zeros(len(scenes), size[2], 1, 1, 1)
        return cells, cells.bool()

    for module in (transformer, latte):
        monkeypatch.setattr(module, "cached_latents", cached)
        monkeypatch.setattr(module, "T5EncoderModel", Part(found["texts"]))
    monkeypatch.setattr(transformer, "AutoencoderKLCogVideoX", Part())
    monkeypatch.setattr(transformer, "CogVideoXTransformer3DModel", lambda **_: None)
    pipe = SimpleNamespace(_prepare_rotary_positional_embeddings=lambda *size: None)
    monkeypatch.setattr(transformer, "CogVideoXPipeline", lambda *parts: pipe)
    monkeypatch.setattr(transformer, "tokenize", lambda _, texts, length: Texts(texts))
    monkeypatch.setattr(latte, "AutoencoderKL", Part())
    monkeypatch.setattr(latte, "FrameVAE", lambda vae: None)
    monkeypatch.setattr(latte, "build_model", lambda *_: None)
    return found


def batches_of(module, training, recipe, tmp_path, monkeypatch, *folders):
    """The batches that a training would be given."""
    given = []

    def fit(model, loss, batch, *rest, **options):
        given.append(batch)
        raise Seen

    monkeypatch.setattr(module, "fit", fit)
    with pytest.raises(Seen):
        training(recipe, *folders, tmp_path)
    return given[0]


def is_reserved(named):
    return named.get("subject") in RESERVED_SUBJECTS or named.get("style") in RESERVED_STYLES


@pytest.mark.parametrize("part", ["early", "transformer"])
def test_nothing_reserved_reaches_the_transformer(part, seen, tmp_path, monkeypatch):
    recipe, folders = recipe_of(part), (tmp_path, tmp_path)
    run = transformer, transformer.train_transformer, recipe, tmp_path, monkeypatch
    batch = batches_of(*run, *folders)
    for number in range(recipe.short_steps - 5, recipe.short_steps + 5):
        batch(number)
    assert len(seen["scenes"]) == recipe.clips + recipe.held_out_clips
    assert len(seen["texts"]) > 300
    assert not any_reserved(seen)


def test_nothing_reserved_reaches_toy_latte(seen, tmp_path, monkeypatch):
    recipe, folders = recipe_of("latte"), (tmp_path, tmp_path)

    def encode(captions):
        seen["texts"] += captions
        return SimpleNamespace(embeddings=None, mask=None)

    monkeypatch.setattr(latte, "TextEncoder", lambda *parts: SimpleNamespace(encode=encode))
    batch = batches_of(latte, latte.train_latte, recipe, tmp_path, monkeypatch, *folders)
    for number in range(20):
        batch(number)
    assert len(seen["scenes"]) == recipe.clips + recipe.dataset.held_out_clips
    assert len(seen["texts"]) > 200
    assert not any_reserved(seen)


def any_reserved(seen):
    named = [parse_prompt(text.replace("<unk>", " ")) for text in seen["texts"]]
    return any(scene.reserved for scene in seen["scenes"]) or any(map(is_reserved, named))


def test_a_caption_of_what_is_reserved_would_be_noticed():
    for said in ("a red robot in a desert", "a mushroom", "a red ball moving left, papercut"):
        assert any_reserved({"scenes": [], "texts": [said]})
    reserved = [s for s in sample_scenes(60, 0, None, reserved=True) if s.reserved]
    assert any_reserved({"scenes": reserved[:1], "texts": []})


@pytest.mark.parametrize("part", ["vae", "frame-vae"])
def test_the_vaes_see_everything(part, tmp_path, monkeypatch):
    def short_clips(scenes, config):
        raise Seen(scenes)

    monkeypatch.setattr(vae, "short_clips", short_clips)
    with pytest.raises(Seen) as found:
        vae.train_vae(recipe_of(part), tmp_path)
    assert_all_kinds(found.value.args[0])


def test_the_text_encoder_reads_everything(tmp_path, monkeypatch):
    scenes, caption = [], text.random_caption

    def recorded(scene, rng):
        scenes.append(scene)
        return caption(scene, rng)

    monkeypatch.setattr(text, "random_caption", recorded)
    run = text, text.train_text_encoder, recipe_of("text"), tmp_path, monkeypatch
    batch = batches_of(*run)
    for number in range(6):
        batch(number)
    assert_all_kinds(scenes)


def test_the_judge_sees_everything(tmp_path, monkeypatch):
    def recorded(*arguments, **options):
        raise Seen(sample_scenes(*arguments, **options))

    monkeypatch.setattr(judge, "sample_scenes", recorded)
    monkeypatch.setattr(judge, "AutoencoderKLCogVideoX", Part())
    with pytest.raises(Seen) as found:
        judge.train_judge(recipe_of("judge"), tmp_path, tmp_path, tmp_path)
    assert_all_kinds(found.value.args[0])


def assert_all_kinds(scenes):
    assert {scene.subject for scene in scenes} >= set(RESERVED_SUBJECTS)
    assert {scene.style for scene in scenes} >= set(RESERVED_STYLES)
    share = sum(scene.reserved for scene in scenes) / len(scenes)
    assert 0.1 < share < 0.4


def test_many_scenes_are_drawn_by_several_processes_in_their_order(monkeypatch):
    chosen = sample_scenes(12, 3)
    alone = [one.clip.frames for one in scenes.rendered(chosen, (24, 16, 2))]
    monkeypatch.setattr(scenes, "FEW", 1)
    together = [one.clip.frames for one in scenes.rendered(chosen, (24, 16, 2))]
    assert np.array_equal(alone, together)
