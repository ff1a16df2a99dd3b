import pytest
import torch
import torch.nn.functional as F

from tests.latte.references import randomise
from vidgen_lab.latte import Latte, LatteConfig, LatteInputError
from vidgen_lab.latte.attention import (
    CrossAttention,
    SelfAttention,
    capture_attention,
    merge_heads,
    naive_attention,
    split_heads,
)


def pair(**settings):
    """The same layer in both implementations."""
    layers = [SelfAttention(16, 4, implementation=i, **settings) for i in ("naive", "fused")]
    layers[1].load_state_dict(layers[0].state_dict())
    return layers


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
    out, weights = naive_attention(q, k, v)
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


@pytest.mark.parametrize("implementation", ["naive", "fused"])
def test_causal_attention_never_looks_ahead(implementation):
    layer = SelfAttention(16, 4, "time", causal=True, implementation=implementation)
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
    layers = [CrossAttention(16, 12, 4, implementation=i) for i in ("naive", "fused")]
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


def test_captured_maps_are_the_weights():
    config = LatteConfig(
        hidden_size=16, depth=2, num_heads=2, sample_size=4, num_frames=3, condition="text",
        text_dim=6, modulation="single",
    )  # fmt: skip
    model = randomise(Latte(config)).eval()
    x, text = torch.randn(2, 4, 3, 4, 4), torch.randn(2, 5, 6)
    mask = torch.arange(5) < torch.tensor([[2], [5]])
    plain = model(x, 7, text=text, text_mask=mask)
    with capture_attention(model) as maps:
        listened = model(x, 7, text=text, text_mask=mask)
    torch.testing.assert_close(plain, listened, rtol=0, atol=1e-6)
    shapes = {k: tuple(v[0].shape) for k, v in maps.items()}
    assert shapes == {
        "blocks.0.spatial.attention": (6, 2, 4, 4),
        "blocks.0.spatial.cross": (2, 2, 12, 5),
        "blocks.0.temporal.attention": (8, 2, 3, 3),
    }
    for (weights,) in maps.values():
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    assert maps["blocks.0.spatial.cross"][0][0, :, :, 2:].abs().max() == 0  # padding gets nothing
    with torch.no_grad():
        model(x, 7, text=text, text_mask=mask)
    assert all(len(v) == 1 for v in maps.values())  # it stops listening


def test_capture_stops_after_an_error():
    model = Latte(LatteConfig(hidden_size=16, depth=2, num_heads=2, sample_size=4, num_frames=2))
    with pytest.raises(RuntimeError), capture_attention(model):
        raise RuntimeError
    assert model.blocks[0].spatial.attention.captured is None


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
