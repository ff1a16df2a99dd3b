"""What the cards state is measured as it says."""

import numpy as np
import pytest
import torch

from recipes import measure, vae
from recipes.measure import adherence_table, held_out_prompts, summarise_adherence
from vidgen_lab.metrics.adherence import Adherence
from vidgen_lab.toyworld import is_held_out, parse_prompt


def test_held_out_prompts_name_everything_and_have_unseen_compositions():
    prompts, scenes = held_out_prompts(40, 10)
    assert [is_held_out(scene) for scene in scenes] == [False] * 30 + [True] * 10
    for text, scene in zip(prompts, scenes, strict=True):
        assert {"style": "cartoon"} | parse_prompt(text) == scene.visible
        assert not scene.reserved
    assert held_out_prompts(40, 10)[0] == prompts


def test_quality_is_told_apart_for_what_moves_and_what_stands_still(monkeypatch):
    pixels = torch.zeros(2, 3, 4, 2, 2, dtype=torch.uint8)
    pixels[:, 1, 1, 0, 0] = 255  # one pixel flashes: it moves in frames 1 and 2
    squared = torch.full(pixels.shape, 1e-3)
    squared[:, :, 1:3, 0, 0] = 1e-1
    squared[1] *= 0.1
    monkeypatch.setattr(
        vae, "squared_error", lambda vae, clips, noise=0.0: squared * (10 if noise else 1)
    )
    quality = vae.vae_quality(None, pixels)
    pooled = -10 * np.log10((1e-1 + 1e-2) / 2)
    assert quality["moving"] == pytest.approx(pooled, abs=1e-4)
    assert quality["still"] == pytest.approx(pooled + 20, abs=1e-4)
    first = -10 * np.log10((2 * 1e-1 + 14 * 1e-3) / 16)
    assert quality["worst"] == pytest.approx(first, abs=1e-4)
    assert quality["mean"] == pytest.approx(first + 5, abs=1e-4)
    assert quality["noise_0.3"] == pytest.approx(first - 5, abs=1e-4)


def test_adherence_is_counted_over_what_was_named(monkeypatch):
    prompts, scenes = held_out_prompts(4, 1)
    named = [scene.visible for scene in scenes]
    seen = [dict(names) for names in named]
    seen[0]["subject"] = "none of these"
    seen[3]["motion"] = "none of these"  # of an unseen composition
    marks = [
        Adherence(names, [], {}, *row) for names, *row in zip(named, prompts, seen, strict=True)
    ]
    monkeypatch.setattr(measure, "adherence_of", lambda clips, texts, judge: marks)
    table = adherence_table(prompts, scenes, [None] * 4)
    shares = summarise_adherence(table)
    assert (shares["subject"], shares["motion"], shares["background"]) == (0.75, 0.75, 1)
    assert (shares["all_right"], shares["all_right_unseen"], shares["prompts"]) == (0.5, 0, 4)
    assert table.subject_seen[0] == "none of these" and table.prompt.tolist() == prompts
