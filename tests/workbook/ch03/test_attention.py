"""Where does this token look: maps, shares and the panel that shows them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vidgen_lab.latte import Latte, LatteConfig, NoiseScheduler
from vidgen_lab.latte.text import TextEmbedding
from vidgen_lab.video.clip import Clip
from vidgen_lab.workbook.ch03.attention import look, pick, share_on
from vidgen_lab.workbook.panels.attention import AttentionPanel


@pytest.fixture(scope="module")
def maps():
    torch.manual_seed(0)
    config = LatteConfig(
        sample_size=4, num_frames=3, hidden_size=16, depth=4, num_heads=2, condition="text",
        text_dim=6, modulation="single",
    )  # fmt: skip
    model = Latte(config)
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(std=0.5)
    text = TextEmbedding(torch.randn(1, 5, 6), torch.tensor([[True, True, True, False, False]]))
    return look(model, NoiseScheduler(), torch.randn(1, 4, 3, 4, 6), text, 300)


def test_maps_are_attention_by_place(maps):
    assert maps.space.shape == (2, 3, 2, 6, 6) and (maps.rows, maps.cols) == (2, 3)
    assert maps.time.shape == (2, 6, 2, 3, 3) and maps.words.shape == (2, 2, 3, 6, 5)
    for kind in (maps.space, maps.time, maps.words):
        torch.testing.assert_close(kind.sum(-1), torch.ones_like(kind.sum(-1)))
    assert maps.words[..., 3:].max() == 0  # padding is not looked at
    space, time, words = pick(maps, frame=1, row=1, col=2, pair=1, head=0)
    assert np.array_equal(space.ravel(), maps.space[1, 1, 0, 5].numpy())
    assert np.array_equal(time, maps.time[1, 5, 0, 1].numpy())
    assert np.array_equal(words, maps.words[1, 0, 1, 5].numpy())


def test_even_attention_has_a_share_of_one(maps):
    mask = np.zeros((3, 32, 48), bool)
    mask[:, :16, :16] = True
    even = replace(maps, space=torch.full_like(maps.space, 1 / 6))
    assert share_on(even, mask) == pytest.approx(1)
    drawn = even.space.clone()
    drawn[..., 0, :] = torch.eye(6)[0]  # tokens on the subject see the subject alone
    drawn = replace(maps, space=drawn)
    assert share_on(drawn, mask) == pytest.approx(6)
    assert share_on(drawn, mask, inside=False) == pytest.approx(1)


def test_the_panel_needs_no_click_and_follows_its_controls(maps):
    clip = Clip(np.zeros((3, 32, 48, 3), np.uint8), fps=8)
    panel = AttentionPanel(clip, {300: maps, 600: maps}, ["red", "ball", "</s>"], start=(1, 0, 2))
    first = bytes(panel.view.value)
    assert first.startswith(b"\x89PNG") and "row 1, column 3 of frame 2" in panel.summary()
    bundle = panel._repr_mimebundle_()
    assert bundle["text/plain"] == panel.summary()
    panel.controls["row"].value = 2
    assert panel.controls["head"].label == "mean of all" and panel.choice["head"] is None
    panel.controls["head"].value = 1
    assert bytes(panel.view.value) != first and "row 2, column 3" in panel.text.value
    assert panel.choice["row"] == 1 and panel.picture().alt == panel.summary()
