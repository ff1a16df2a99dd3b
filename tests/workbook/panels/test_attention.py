"""Where does this token look: the panel over the attention of a clip."""

import numpy as np
import torch

from vidgen_lab.video.clip import Clip
from vidgen_lab.workbook.panels.attention import AttentionPanel

BLOCKS, FRAMES, HEADS, ROWS, COLS, WORDS = 2, 3, 2, 2, 3, 5


def maps(seed):
    g, n = torch.Generator().manual_seed(seed), ROWS * COLS
    shapes = {
        "space": (BLOCKS, FRAMES, HEADS, n, n),
        "time": (BLOCKS, n, HEADS, FRAMES, FRAMES),
        "words": (BLOCKS, HEADS, FRAMES * n, WORDS),
    }
    return {name: torch.randn(s, generator=g).softmax(-1) for name, s in shapes.items()}


def test_the_panel_needs_no_click_and_follows_its_controls():
    clip = Clip(np.zeros((FRAMES, 32, 48, 3), np.uint8), fps=8)
    levels = {300: maps(0), 600: maps(1)}
    panel = AttentionPanel(clip, levels, (ROWS, COLS), ["red", "ball", "</s>"], start=(1, 0, 2))
    first = bytes(panel.view.value)
    assert first.startswith(b"\x89PNG") and "row 1, column 3 of frame 2" in panel.summary()
    bundle = panel._repr_mimebundle_()
    assert bundle["text/plain"] == panel.summary()
    panel.controls["row"].value = 2
    assert panel.controls["head"].label == "mean of all" and panel.choice["head"] is None
    panel.controls["head"].value = 1
    assert bytes(panel.view.value) != first and "row 2, column 3" in panel.text.value
    assert panel.choice["row"] == 1 and panel.picture().alt == panel.summary()


def test_what_it_shows_is_the_attention_of_the_token():
    clip, level = Clip(np.zeros((FRAMES, 32, 48, 3), np.uint8), fps=8), maps(0)
    panel = AttentionPanel(clip, {300: level}, (ROWS, COLS), ["red", "ball", "</s>"])
    space, time, words = panel._pick(300, frame=1, row=1, col=2, pair=1, head=0)
    assert np.array_equal(space.ravel(), level["space"][1, 1, 0, 5].numpy())
    assert np.array_equal(time, level["time"][1, 5, 0, 1].numpy())
    assert np.array_equal(words, level["words"][1, 0, 1 * 6 + 5].numpy())
