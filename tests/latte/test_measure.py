import pytest
import torch

from tests.latte.references import reference
from vidgen_lab.latte import Latte, LatteConfig, latte_config
from vidgen_lab.latte.measure import (
    attention_cost,
    attention_memory,
    count_flops,
    forward_flops,
    saved_bytes,
)


@pytest.mark.parametrize(
    "overrides",
    [{}, {"modulation": "single"}, {"condition": "text", "text_dim": 6, "modulation": "single"}],
    ids=str,
)
def test_flops_formula_equals_the_counter(overrides):
    config = LatteConfig(
        hidden_size=32, depth=4, num_heads=2, sample_size=8, num_frames=3, **overrides
    )
    model = Latte(config)
    extra = {"text": torch.zeros(1, 5, 6)} if config.condition == "text" else {}
    x = torch.zeros(1, 4, 3, 8, 12)
    with torch.no_grad():
        counted = count_flops(lambda: model(x, 0, **extra))
    assert forward_flops(config, 8, 12, text_tokens=5 if extra else 0) == counted


@pytest.mark.parametrize(
    # 1.6 % less than the original's, which runs AdaLN's matrices once per frame and per patch
    ("name", "tera"),
    [("S/2", 0.184), ("B/2", 0.716), ("L/2", 2.529), ("XL/2", 3.726)],
)
def test_flops_of_the_published_sizes(name, tera):
    assert forward_flops(latte_config(name), 32, 32) / 1e12 == pytest.approx(tera, abs=0.002)


@pytest.mark.parametrize(
    ("along", "kind"), [("space", "spatial"), ("time", "temporal"), ("both", "full")]
)
def test_stored_scores_are_what_the_formula_says(along, kind):
    """The naive layer keeps the scores for backward; the fused one a single number per query."""
    t, n, dim, heads = 4, 64, 16, 2
    cost = attention_cost(t, n, dim, heads)[kind]
    naive = attention_memory(t, n, dim, heads, along, "naive")
    fused = attention_memory(t, n, dim, heads, along, "fused")
    assert naive - fused == cost.score_bytes - t * n * heads * 4


def test_attention_flops_equal_the_counter():
    from vidgen_lab.latte.attention import SelfAttention

    t, n, dim, heads = 4, 16, 16, 2
    costs, x = attention_cost(t, n, dim, heads), torch.zeros(1, t, n, dim)
    for along, kind in (("space", "spatial"), ("time", "temporal"), ("both", "full")):
        layer = SelfAttention(dim, heads, along)
        with torch.no_grad():
            counted = count_flops(lambda layer=layer: layer(x))
        assert counted == costs[kind].flops + 2 * 4 * t * n * dim * dim


def test_saved_bytes_counts_each_storage_once():
    x = torch.randn(1000, requires_grad=True)
    assert saved_bytes(lambda: x * x) == 4000  # both sides are the same storage
    assert saved_bytes(lambda: x * torch.ones(1000)) == 4000  # x needs no saving for 1's gradient


def test_we_keep_no_more_than_diffusers_for_backward():
    """S/2's width, with equal weights."""
    theirs = reference(
        "no cross-attention", num_attention_heads=6, attention_head_dim=64, sample_size=16,
        video_length=8,
    ).train()  # fmt: skip
    ours = Latte.from_diffusers(theirs)
    x, t, text = torch.randn(1, 4, 8, 16, 16), torch.tensor([5]), torch.zeros(1, 1, 12)
    a = saved_bytes(lambda: theirs(x, encoder_hidden_states=text, timestep=t).sample, theirs)
    b = saved_bytes(lambda: ours(x, t), ours)
    assert b <= a


def test_naive_attention_keeps_more():
    config = dict(hidden_size=32, depth=2, num_heads=8, sample_size=16, num_frames=2)
    x = torch.randn(1, 4, 2, 16, 16)
    naive, fused = (Latte(LatteConfig(**config, attention=a)) for a in ("naive", "fused"))
    assert saved_bytes(lambda: naive(x, 5), naive) > 1.3 * saved_bytes(lambda: fused(x, 5), fused)
