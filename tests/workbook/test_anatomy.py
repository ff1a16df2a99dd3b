"""Counts, shapes and attention: against known totals and against hand-made attention."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.tiny_models import MAX_TEXT_TOKENS, tiny_pipeline
from vidgen_lab.workbook import anatomy


def test_full_size_parameter_counts():
    for layout, total in (("2b", 1_693_783_872), ("5b", 5_570_283_072)):
        transformer = anatomy.meta_model("transformer", layout)
        groups = anatomy.parameter_groups(transformer)
        assert groups.sum() == anatomy.count_parameters(transformer) == total
        assert groups["feed-forward"] > groups["attention (q, k, v, out)"] > 0


def test_shapes_at_native_size():
    shapes = anatomy.trace_shapes(49, 480, 720)
    assert shapes["text"] == (1, 226, 4096)
    assert shapes["noise"] == shapes["prediction"] == (1, 13, 16, 60, 90)
    assert shapes["patches"] == (1, 17_550, 1920)
    assert shapes["joint"] == (anatomy.count_tokens(49, 480, 720),) == (17_776,)
    assert shapes["video"] == (1, 3, 49, 480, 720)


class _Stub(torch.nn.Module):
    """One block whose attention we dictate: queries and keys point at a chosen place."""

    def __init__(self, look_at: str, frames: int, patches: int, words: int) -> None:
        super().__init__()
        self.look_at, self.shape = look_at, (frames, patches, words)

    def forward(self, hidden_states, encoder_hidden_states, timestep):  # type: ignore[no-untyped-def]
        frames, patches, words = self.shape
        place = torch.arange(frames).repeat_interleave(patches)
        query, key = (
            torch.zeros(words + frames * patches, 8),
            torch.zeros(words + frames * patches, 8),
        )
        target = place if self.look_at == "same frame" else (place + 1) % frames
        if self.look_at == "text":
            query[:, 7], key[:words, 7] = 100.0, 100.0
        else:
            query[words + torch.arange(len(place)), target] = 100.0
            key[words + torch.arange(len(place)), place] = 100.0
        F.scaled_dot_product_attention(query[None, None], key[None, None], key[None, None])
        return hidden_states


@pytest.mark.parametrize("where", ["same frame", "other frames", "text"])
def test_attention_mass_goes_where_the_queries_point(where):
    frames, patches, words = 4, 6, 3
    latents, text = torch.zeros(1, frames, 2, 4, 6), torch.zeros(1, words, 8)
    mass = anatomy.attention_mass(_Stub(where, frames, patches, words), latents, text, 500)
    assert mass.loc[0, where] == pytest.approx(1, abs=1e-4)
    assert mass.sum(axis=1).iloc[0] == pytest.approx(1, abs=1e-5)


def test_attention_mass_of_a_real_model_has_a_row_per_block():
    pipe = tiny_pipeline()
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 3, 4, 4, 4, generator=generator)
    text = torch.randn(1, MAX_TEXT_TOKENS, 32, generator=generator)
    mass = anatomy.attention_mass(pipe.transformer, latents, text, 500)
    assert len(mass) == 2
    assert np.allclose(mass.sum(axis=1), 1, atol=1e-5)
    # random weights look nearly evenly
    even = anatomy.even_attention(3, 4, MAX_TEXT_TOKENS)
    assert even.sum() == pytest.approx(1)
    assert np.allclose(mass.mean(), even, atol=0.15)


def test_bands_tell_blur_from_noise():
    rng = np.random.default_rng(0)
    final = (rng.random((2, 32, 48, 1)).repeat(3, axis=-1) * 255).astype(np.uint8)
    spectrum = np.fft.fft2(final.astype(float), axes=(1, 2))
    keep = np.hypot(np.fft.fftfreq(32)[:, None], np.fft.fftfreq(48)[None]) <= 4 / 32
    blurred = np.fft.ifft2(spectrum * keep[None, :, :, None], axes=(1, 2)).real
    table = anatomy.band_agreement([blurred, final], final)
    assert list(table.columns) == list(anatomy.BANDS)
    assert table.loc[1, "layout"] == pytest.approx(1, abs=1e-6)
    assert table.loc[1, "texture"] == pytest.approx(0, abs=1e-6)
    assert np.allclose(table.loc[2], 1)


def test_slicing_splits_a_batch_and_nothing_else():
    one = [anatomy.decoder_calls(1, slicing) for slicing in (False, True)]
    assert one[0] == one[1]
    plain, sliced = (anatomy.decoder_calls(2, slicing) for slicing in (False, True))
    assert sliced["calls"] == 2 * plain["calls"]
    assert (plain["clips in one call"], sliced["clips in one call"]) == (2, 1)


def test_attention_layers_of_three_models():
    layers = anatomy.attention_layers().set_index("model")
    assert layers.loc["CogVideoX-2B", "cross-attention"] == 0
    assert layers.loc["CogVideoX-2B", "joint attention"] == 30
    assert layers.loc["Latte-1, spatial blocks", "cross-attention"] == 28
    assert layers.loc["Latte-1, temporal blocks", "cross-attention"] == 0


def test_backbones_are_counted_at_full_size():
    table = anatomy.backbones().set_index("model")
    assert table.loc["CogVideoX-2B", "parameters (M)"] == 1694
    assert table.loc["Stable Diffusion 1.5", "parameters (M)"] == 860
    assert (table["TFLOP"] > 0).all()
