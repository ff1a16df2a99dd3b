import pytest
import torch
from accelerate.utils import send_to_device

from tests.latte.references import stock_pair, tiny_text_pair
from vidgen_lab.latte import LatteInputError, TextEncoder
from vidgen_lab.latte.text import MAX_TOKENS, TextEmbedding


@pytest.fixture(scope="module")
def encoder():
    return TextEncoder(*tiny_text_pair(), max_length=10)


def test_shapes_and_mask(encoder):
    text = encoder.encode(["a red ball", "blue star moving left over ocean"])
    assert text.embeddings.shape == (2, 10, 12)
    assert text.mask.sum(1).tolist() == [4, 7]  # words and the end-of-sequence token
    assert text.mask.dtype == torch.bool


def test_encoding_is_the_models_own(encoder):
    ids = encoder.tokenizer("a red ball", return_tensors="pt")
    expected = encoder.model(**{k: ids[k] for k in ("input_ids", "attention_mask")})[0]
    torch.testing.assert_close(encoder.encode("A red BALL ").embeddings[:, :4], expected)


def test_padding_does_not_change_the_words(encoder):
    long = TextEncoder(encoder.tokenizer, encoder.model, 25)
    a, b = encoder.encode("a red ball"), long.encode("a red ball")
    torch.testing.assert_close(a.embeddings[a.mask], b.embeddings[b.mask])


def test_the_empty_prompt_has_one_real_token(encoder):
    assert encoder.encode("").mask.sum(1).tolist() == [1]


def test_too_long_is_cut(encoder):
    assert encoder.encode("a red ball " * 10).mask.all()


def test_t5_has_no_limit_of_77(encoder):
    """Relative positions: any length encodes. 77 is the length of CLIP's position table."""
    from transformers import CLIPTextConfig, CLIPTextModel

    ids = torch.ones(1, 200, dtype=torch.long)
    assert encoder.model(ids)[0].shape == (1, 200, 12)
    clip = CLIPTextModel(
        CLIPTextConfig(vocab_size=9, hidden_size=8, intermediate_size=8, num_attention_heads=2,
                       num_hidden_layers=1)
    )  # fmt: skip
    assert clip(ids[:, : MAX_TOKENS["clip"]])[0].shape == (1, 77, 8)
    with pytest.raises((ValueError, RuntimeError, IndexError)):
        clip(ids[:, :78])
    assert MAX_TOKENS == {"clip": 77, "latte": 120, "cogvideox": 226}


def test_lengths_the_pipelines_use():
    """The numbers are read from diffusers, not from memory."""
    import inspect

    from diffusers import CogVideoXTransformer3DModel, LattePipeline

    assert "max_length = 120" in inspect.getsource(LattePipeline.encode_prompt)
    default = inspect.signature(CogVideoXTransformer3DModel.__init__).parameters
    assert default["max_text_seq_length"].default == 226


def test_repeat(encoder):
    text = encoder.encode(["a ball", "a red star"]).repeat(2)
    assert text.mask.sum(1).tolist() == [3, 3, 4, 4]


def test_a_text_travels_with_the_batch_it_belongs_to(encoder):
    moved = send_to_device({"text": encoder.encode(["a ball"])}, "meta")["text"]
    assert moved.embeddings.device.type == moved.mask.device.type == "meta"


def test_stock_pair_is_what_the_pipeline_does(encoder):
    from diffusers import LattePipeline

    pipe = LattePipeline(encoder.tokenizer, encoder.model, None, None, None)
    long = TextEncoder(encoder.tokenizer, encoder.model, 120)
    for negative in ("", "blue star moving left over night sky"):
        expected = pipe.encode_prompt("A red ball", negative_prompt=negative, device="cpu")
        for given, right in zip(stock_pair(long, "A red ball", negative), expected, strict=True):
            torch.testing.assert_close(given.embeddings, right)
            assert given.mask.all()


def test_wrong_inputs(encoder):
    with pytest.raises(LatteInputError, match="prompts: expected at least one"):
        encoder.encode([])
    with pytest.raises(LatteInputError, match="max_length"):
        TextEncoder(encoder.tokenizer, encoder.model, 1)
    with pytest.raises(LatteInputError, match="text mask"):
        TextEmbedding(torch.zeros(2, 3, 4), torch.ones(2, 3))
