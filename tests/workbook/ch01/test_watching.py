"""Attention against hand-made attention, bands against hand-made blur."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.tiny_models import MAX_TEXT_TOKENS, tiny_pipeline
from vidgen_lab.workbook.ch01 import watching


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
    mass = watching.attention_mass(_Stub(where, frames, patches, words), latents, text, 500)
    assert mass.loc[0, where] == pytest.approx(1, abs=1e-4)
    assert mass.sum(axis=1).iloc[0] == pytest.approx(1, abs=1e-5)


def test_attention_mass_of_a_real_model_has_a_row_per_block():
    pipe = tiny_pipeline()
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 3, 4, 4, 4, generator=generator)
    text = torch.randn(1, MAX_TEXT_TOKENS, 32, generator=generator)
    mass = watching.attention_mass(pipe.transformer, latents, text, 500)
    assert len(mass) == 2
    assert np.allclose(mass.sum(axis=1), 1, atol=1e-5)
    # random weights look nearly evenly
    even = watching.even_attention(3, 4, MAX_TEXT_TOKENS)
    assert even.sum() == pytest.approx(1)
    assert np.allclose(mass.mean(), even, atol=0.15)


def test_bands_tell_blur_from_noise():
    rng = np.random.default_rng(0)
    final = (rng.random((2, 32, 48, 1)).repeat(3, axis=-1) * 255).astype(np.uint8)
    spectrum = np.fft.fft2(final.astype(float), axes=(1, 2))
    keep = np.hypot(np.fft.fftfreq(32)[:, None], np.fft.fftfreq(48)[None]) <= 4 / 32
    blurred = np.fft.ifft2(spectrum * keep[None, :, :, None], axes=(1, 2)).real
    table = watching.band_agreement([blurred, final], final)
    assert list(table.columns) == list(watching.BANDS)
    assert table.loc[1, "layout"] == pytest.approx(1, abs=1e-6)
    assert table.loc[1, "texture"] == pytest.approx(0, abs=1e-6)
    assert np.allclose(table.loc[2], 1)


@pytest.mark.parametrize("layout", ["2b", "5b"])
def test_attention_of_a_pipeline_at_several_levels(layout):
    pipe = tiny_pipeline(layout)
    latents = torch.randn(1, 3, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    levels = {"noise": 900, "clean": 50}
    masses = watching.attention_at_levels(pipe, latents, "a red ball", levels)
    assert list(masses) == list(levels)
    assert not masses["noise"].equals(masses["clean"])
    again = watching.attention_at_levels(pipe, latents, "a red ball", levels)
    assert masses["noise"].equals(again["noise"])


def test_a_sample_of_tokens_speaks_for_all(monkeypatch):
    latents, text = torch.zeros(1, 4, 2, 4, 6), torch.zeros(1, 3, 8)
    monkeypatch.setattr(watching, "LOOKERS", 5)
    mass = watching.attention_mass(_Stub("same frame", 4, 6, 3), latents, text, 500)
    assert mass.loc[0, "same frame"] == pytest.approx(1, abs=1e-4)
