import pytest
import torch
import torch.nn.functional as F

from tests.workbook.test_built import built
from vidgen_lab.latte import LatteInputError
from vidgen_lab.latte.attention import CrossAttention, SelfAttention, merge_heads, split_heads

READERS = built(  # what chapter 3 builds, written out and fused
    3, "c064", "core", "c070", "c083", split_heads=split_heads, merge_heads=merge_heads
)


def pair(**settings):
    """The same layer written out in the chapter, and fused in the package."""
    naive = READERS.SelfAttention(16, 4, implementation="naive", **settings)
    fused = SelfAttention(16, 4, **settings)
    fused.load_state_dict(naive.state_dict())
    return naive, fused


@pytest.mark.parametrize(
    "settings",
    [{"along": "space"}, {"along": "time"}, {"along": "both"}, {"along": "time", "causal": True}],
    ids=str,
)
def test_naive_and_fused_are_equal(settings):
    naive, fused = pair(**settings)
    x = torch.randn(2, 5, 6, 16)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    ya, yb = naive(a), fused(b)
    torch.testing.assert_close(ya, yb, rtol=0, atol=1e-6)
    for y in (ya, yb):
        y.square().sum().backward()
    torch.testing.assert_close(a.grad, b.grad, rtol=0, atol=1e-5)


def test_naive_is_the_formula():
    q, k, v = torch.randn(3, 1, 2, 3, 4)
    out, weights = READERS.naive_attention(q, k, v)
    for h in range(2):
        scores = q[0, h] @ k[0, h].T / 2
        expected = scores.exp() / scores.exp().sum(1, keepdim=True)
        torch.testing.assert_close(weights[0, h], expected)
        torch.testing.assert_close(out[0, h], expected @ v[0, h])


def changed(layer, x, index):
    """Which (frame, patch) cells of the output move when the input cell `index` does."""
    y = x.clone()
    y[(slice(None), *index)] += 1
    return (layer(x) - layer(y)).abs().amax(dim=(0, 3)) > 1e-6


def test_space_stays_in_the_frame_and_time_at_the_place():
    x = torch.randn(1, 4, 5, 16)
    space = changed(SelfAttention(16, 4, "space"), x, (2, 3))
    assert space[2].all() and not space[[0, 1, 3]].any()
    time = changed(SelfAttention(16, 4, "time"), x, (2, 3))
    assert time[:, 3].all() and not time[:, [0, 1, 2, 4]].any()
    assert changed(SelfAttention(16, 4, "both"), x, (2, 3)).all()


def test_causal_attention_never_looks_ahead():
    for layer in pair(along="time", causal=True):
        moved = changed(layer, torch.randn(1, 6, 2, 16), (3, 0))
        assert moved[:, 0].tolist() == [False, False, False, True, True, True]


@pytest.mark.parametrize("settings", [{"along": "temporal"}, {"along": "both", "causal": True}])
def test_a_way_to_look_that_does_not_exist_is_refused(settings):
    with pytest.raises(LatteInputError, match="along of .*given '(temporal|both)'"):
        SelfAttention(16, 4, **settings)


def test_frames_attend_as_their_permutation_does():
    """Without positions, time is a set: shuffled frames give shuffled outputs."""
    layer, x = SelfAttention(16, 4, "time"), torch.randn(2, 5, 3, 16)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(layer(x[:, order]), layer(x)[:, order])


def test_heads_split_and_merge():
    x = torch.randn(2, 5, 12)
    assert torch.equal(merge_heads(split_heads(x, 3)), x)
    assert torch.equal(split_heads(x, 3)[1, 2, 4], x[1, 4, 8:])


@pytest.mark.parametrize("masked", [False, True])
def test_cross_attention_naive_and_fused_are_equal(masked):
    layers = READERS.CrossAttention(16, 12, 4, implementation="naive"), CrossAttention(16, 12, 4)
    layers[1].load_state_dict(layers[0].state_dict())
    x, text = torch.randn(2, 3, 5, 16), torch.randn(2, 7, 12)
    mask = torch.arange(7) < torch.tensor([[3], [7]]) if masked else None
    torch.testing.assert_close(layers[0](x, text, mask), layers[1](x, text, mask))


def test_cross_attention_equals_the_plain_module():
    """torch's own MultiheadAttention, frame by frame with repeated text."""
    ours = CrossAttention(16, 16, 4)
    theirs = torch.nn.MultiheadAttention(16, 4, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.q.weight, ours.kv.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.q.bias, ours.kv.bias]))
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    x, text = torch.randn(2, 3, 5, 16), torch.randn(2, 7, 16)
    mask = torch.arange(7) < torch.tensor([[4], [6]])
    frames, words = x.flatten(0, 1), text.repeat_interleave(3, 0)
    expected = theirs(frames, words, words, key_padding_mask=~mask.repeat_interleave(3, 0))[0]
    torch.testing.assert_close(ours(x, text, mask), expected.view_as(x))


@pytest.mark.parametrize(
    "settings",
    [{"along": "space"}, {"along": "time"}, {"along": "both"}, {"along": "time", "causal": True}],
    ids=str,
)
def test_the_chapters_fused_layer_has_the_same_numbers(settings):
    theirs, ours = READERS.SelfAttention(16, 4, **settings), SelfAttention(16, 4, **settings)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 5, 6, 16)
    assert torch.equal(ours(x), theirs(x))


def test_fused_really_is_the_fused_kernel(monkeypatch):
    calls = []
    real = F.scaled_dot_product_attention
    spy = lambda *a, **k: calls.append(1) or real(*a, **k)  # noqa: E731
    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    naive, fused = pair()
    naive(torch.randn(1, 2, 3, 16))
    assert not calls
    fused(torch.randn(1, 2, 3, 16))
    assert calls
