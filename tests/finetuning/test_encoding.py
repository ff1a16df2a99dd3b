import pytest
import torch
from diffusers import CogVideoXPipeline
from torch.utils.data import DataLoader

from tests.finetuning.clips import CAPTIONS, write_clips
from tests.tiny_models import MAX_TEXT_TOKENS
from vidgen_lab.finetuning.dataset import DataConfig, read_training_clips
from vidgen_lab.finetuning.encoding import (
    LatentDataset,
    encode_clips,
    encode_texts,
)
from vidgen_lab.finetuning.specification import CogVideoXSpec

TEXTS = ("", *CAPTIONS)


@pytest.fixture(scope="module")
def model(folders):
    return folders["5b-i2v"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = write_clips(tmp_path_factory.mktemp("clips") / "five")
    return read_training_clips(DataConfig(folder, 9, 32, 32))[0]


@pytest.fixture(scope="module")
def cache(tmp_path_factory, model, clips):
    folder = tmp_path_factory.mktemp("cache")
    texts = encode_texts(model, folder / "texts", TEXTS, MAX_TEXT_TOKENS)
    latents = encode_clips(model, folder / "latents", clips, with_images=True)
    return texts, latents


@torch.no_grad()
def test_texts_are_what_the_pipeline_would_encode(folders, cache):
    pipe = CogVideoXPipeline.from_pretrained(folders["5b"])
    pipe.text_encoder = type(pipe.text_encoder).from_pretrained(folders["5b-i2v"] / "text_encoder")
    theirs, empty = pipe.encode_prompt(CAPTIONS[0], "", max_sequence_length=MAX_TEXT_TOKENS)
    assert torch.equal(cache[0].load(CAPTIONS[0]), theirs[0])
    assert torch.equal(cache[0].load(""), empty[0])
    with pytest.raises(KeyError, match="a star"):
        cache[0].load("a star")


def test_texts_are_encoded_once_and_torn_files_again(model, cache, monkeypatch):
    from transformers import T5EncoderModel

    calls = []
    forward = T5EncoderModel.forward

    def counted(self, ids, *args, **kwargs):
        calls.append(len(ids))
        return forward(self, ids, *args, **kwargs)

    monkeypatch.setattr(T5EncoderModel, "forward", counted)
    texts = encode_texts(model, cache[0].folder, TEXTS, MAX_TEXT_TOKENS)
    assert calls == []
    next(texts.folder.glob("*.safetensors")).write_bytes(b"torn")
    encode_texts(model, texts.folder, [*TEXTS, "a star"], MAX_TEXT_TOKENS)
    assert sum(calls) == 2


def test_a_text_that_would_be_cut_off_is_refused(model, tmp_path):
    with pytest.raises(ValueError, match="have more than the 12 tokens"):
        encode_texts(model, tmp_path, ["a red ball " * 5], MAX_TEXT_TOKENS)


def test_a_pipeline_without_t5_makes_the_same_clip(folders, tmp_path):
    call = dict(
        num_frames=9, height=32, width=32, num_inference_steps=2, output_type="np",
        max_sequence_length=MAX_TEXT_TOKENS,
    )  # fmt: skip

    def clip(pipe, prompt):
        pipe.set_progress_bar_config(disable=True)
        return pipe(prompt, generator=torch.Generator().manual_seed(0), **call).frames[0]

    pipe = CogVideoXPipeline.from_pretrained(folders["5b"])
    with_t5 = clip(pipe, CAPTIONS[0])
    texts = encode_texts(folders["5b"], tmp_path, TEXTS, MAX_TEXT_TOKENS)
    pipe.text_encoder = texts
    assert set(texts.ids) == set(TEXTS) and not texts.state_dict()  # no embedding is kept
    assert (clip(pipe, CAPTIONS[0]) == with_t5).all()
    with pytest.raises(KeyError, match="was not encoded before the training"):
        clip(pipe, "a star")


def test_an_item_is_what_a_step_needs(model, clips, cache):
    texts, latents = cache
    spec = CogVideoXSpec.from_folder(model)
    items = LatentDataset(clips, latents, texts, spec)
    item = items[2]
    assert item["latents"].shape == (4, 3, 4, 4) and item["image"].shape == (4, 1, 4, 4)
    assert torch.equal(item["text"], texts.load(CAPTIONS[2]))
    torch.manual_seed(3)
    one = items[0]
    torch.manual_seed(3)
    assert torch.equal(items[0]["latents"], one["latents"])
    assert not torch.equal(items[0]["latents"], one["latents"])  # drawn anew from the posterior
    batch = next(iter(DataLoader(items, 2)))
    assert batch["latents"].shape == (2, 4, 3, 4, 4)


def test_captions_are_left_out_as_often_as_said(model, clips, cache):
    texts, latents = cache
    items = LatentDataset(clips, latents, texts, CogVideoXSpec.from_folder(model), 0.3)
    torch.manual_seed(0)
    empty = [torch.equal(items[0]["text"], texts.load("")) for _ in range(200)]
    assert 40 <= sum(empty) <= 80


def test_every_second_item_is_of_the_prior(model, clips, cache):
    texts, latents = cache
    spec = CogVideoXSpec.from_folder(model)
    items = LatentDataset(clips[:3], latents, texts, spec, 0.0, clips[3:])
    found = [items[n]["id"] for n in range(len(items))]
    assert found == [clips[n].id for n in (0, 3, 1, 4, 2, 3)]
    more = LatentDataset(clips[:2], latents, texts, spec, 0.0, clips[2:])  # all of it is drawn
    assert [clip.id for clip in more.clips] == [clips[n].id for n in (0, 2, 1, 3, 0, 4)]
