import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vidgen_lab.latte import Latte, LatteConfig, LatteInputError
from vidgen_lab.latte.blocks import LatteTransformerBlock, Mlp, SpatialAttentionBlock
from vidgen_lab.latte.conditioning import (
    AdaLN,
    AdaLNSingle,
    AdaLNZero,
    LabelEmbedder,
    drop_labels,
    timestep_code,
)
from vidgen_lab.latte.ops import gated_add, gelu_linear, norm_modulate

from .references import randomise


def gradients(function, *tensors):
    copies = [t.clone().requires_grad_() for t in tensors]
    out = function(*copies)
    weight = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    (out * weight).sum().backward()
    return [out.detach(), *(c.grad for c in copies)]


def plain_norm_modulate(x, shift, scale):
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


def plain_gelu_linear(h, weight, bias):
    return F.linear(F.gelu(h, approximate="tanh"), weight, bias)


def test_norm_modulate_is_its_formula():
    x, shift, scale = (
        torch.randn(2, 3, 5, 8, dtype=torch.float64),
        torch.randn(2, 1, 1, 8, dtype=torch.float64),
        torch.randn(2, 1, 1, 8, dtype=torch.float64),
    )
    ours, plain = (gradients(f, x, shift, scale) for f in (norm_modulate, plain_norm_modulate))
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_gelu_linear_is_its_formula():
    h, w, b = (
        torch.randn(2, 3, 5, 12, dtype=torch.float64),
        torch.randn(6, 12, dtype=torch.float64),
        torch.randn(6, dtype=torch.float64),
    )
    for a, e in zip(
        gradients(gelu_linear, h, w, b), gradients(plain_gelu_linear, h, w, b), strict=True
    ):
        torch.testing.assert_close(a, e, rtol=1e-10, atol=1e-10)


def test_numerical_gradients():
    g = dict(dtype=torch.float64, requires_grad=True)
    x, v = torch.randn(1, 2, 2, 4, **g), torch.randn(1, 1, 1, 4, **g)
    assert torch.autograd.gradcheck(norm_modulate, (x, v, torch.randn(1, 1, 1, 4, **g)))
    assert torch.autograd.gradcheck(gelu_linear, (x, torch.randn(3, 4, **g), torch.randn(3, **g)))
    assert torch.autograd.gradcheck(gated_add, (x, v, torch.randn(1, 2, 2, 4, **g)))


@pytest.mark.parametrize("mode", ["bfloat16", "autocast"])
def test_reduced_precision_stays_close(mode):
    """Pure bfloat16, and float32 weights under autocast: forward, backward, and right dtypes."""
    config = LatteConfig(hidden_size=32, depth=2, num_heads=2, sample_size=8, num_frames=2)
    exact, low = randomise(Latte(config)), randomise(Latte(config))
    x, t = torch.randn(2, 4, 2, 8, 8), torch.tensor([3, 900])
    expected = exact(x, t)
    expected.square().mean().backward()
    if mode == "bfloat16":
        low = low.to(torch.bfloat16)
        given = low(x.to(torch.bfloat16), t)
    else:
        with torch.autocast("cpu", torch.bfloat16):
            given = low(x, t)
    given.float().square().mean().backward()
    assert (given - expected).norm() < 0.03 * expected.norm()
    for (name, a), b in zip(exact.named_parameters(), low.parameters(), strict=True):
        assert b.grad.dtype == b.dtype, name
        assert (a.grad - b.grad).norm() < 0.1 * a.grad.norm() + 1e-4, name


def test_mlp_is_four_times_as_wide():
    mlp, x = Mlp(8), torch.randn(2, 3, 5, 8)
    assert mlp.up.out_features == 32
    hidden = F.gelu(mlp.up(x), approximate="tanh")
    torch.testing.assert_close(mlp(x), mlp.down(hidden))


@pytest.mark.parametrize(("make", "width"), [(AdaLNZero, 8), (AdaLNSingle, 48)])
def test_modulation_gives_six_vectors_per_sample(make, width):
    layer = randomise(make(8))
    m = layer(torch.randn(3, width))
    assert [tuple(v.shape) for v in m] == [(3, 1, 1, 8)] * 6


def test_order_of_the_six_vectors():
    layer = AdaLNSingle(2)
    m = layer(torch.arange(12.0)[None])
    assert [v.flatten().tolist() for v in m] == [[2 * i, 2 * i + 1] for i in range(6)]
    assert m._fields == (
        "shift_attention", "scale_attention", "gate_attention",
        "shift_mlp", "scale_mlp", "gate_mlp",
    )  # fmt: skip


def test_single_folds_into_block_modulation():
    """A shared matrix plus a table is a matrix per block whose bias holds the table."""
    shared, single = nn.Linear(8, 48), randomise(AdaLNSingle(8))
    own = AdaLNZero(8)
    own.linear.load_state_dict(
        {"weight": shared.weight, "bias": shared.bias + single.table.flatten()}
    )
    c = torch.randn(3, 8)
    for a, b in zip(single(shared(F.silu(c))), own(c), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_adaln_runs_once_per_sample_not_per_token():
    """No condition layer ever sees more rows than there are samples."""
    for modulation in ("block", "single"):
        config = LatteConfig(
            hidden_size=16, depth=4, num_heads=2, sample_size=8, num_frames=3, modulation=modulation
        )
        model, rows = Latte(config), {}
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear):
                module.register_forward_hook(
                    lambda m, i, o, name=name, rows=rows: rows.update(
                        {name: o.numel() // o.shape[-1]}
                    )
                )
        model(torch.randn(2, 4, 3, 8, 8), 5)
        condition = {n: r for n, r in rows.items() if "modulation" in n or n.startswith("time_")}
        condition |= {n: r for n, r in rows.items() if n == "final.linear"}
        assert len(condition) >= 3 and set(condition.values()) == {2}
        assert rows["blocks.0.spatial.attention.q"] == 2 * 3 * 16  # tokens, for contrast


def test_adaln_formula():
    layer = AdaLN(8, cond_dim=5)
    x, c = torch.randn(2, 3, 4, 8), torch.randn(2, 5)
    shift, scale = layer.linear(F.silu(c)).chunk(2, 1)
    expected = F.layer_norm(x, (8,), eps=1e-6) * (1 + scale[:, None, None]) + shift[:, None, None]
    torch.testing.assert_close(layer(x, c), expected)


def test_a_block_reads_its_grid_off_the_input():
    block = randomise(LatteTransformerBlock(16, 2))
    for frames, patches in ((1, 4), (3, 256), (16, 7)):
        x = torch.randn(1, frames, patches, 16)
        assert block(x, torch.randn(1, 16)).shape == x.shape


def test_text_enters_the_spatial_half_only():
    block = LatteTransformerBlock(16, 2, context_dim=16)
    assert block.spatial.cross is not None and block.temporal.cross is None
    assert SpatialAttentionBlock(16, 2).cross is None


def test_unknown_modulation():
    with pytest.raises(LatteInputError, match="'block' or 'single', given 'film'"):
        SpatialAttentionBlock(16, 2, modulation="film")


def test_timestep_code_has_cosines_first():
    code = timestep_code(torch.tensor([0.0, 2.0]))
    assert code.shape == (2, 256)
    assert code[0].tolist() == [1.0] * 128 + [0.0] * 128
    torch.testing.assert_close(code[1, 0], torch.tensor(2.0).cos())
    torch.testing.assert_close(code[1, 128], torch.tensor(2.0).sin())


def test_labels():
    table = LabelEmbedder(3, 8)
    assert table.table.num_embeddings == 4 and table.null_class == 3
    with pytest.raises(LatteInputError, match="given 0 .. 4"):
        table(torch.tensor([0, 4]))
    dropped = drop_labels(torch.zeros(4000, dtype=torch.long), 3, 0.1, torch.manual_seed(0))
    assert set(dropped.tolist()) == {0, 3}
    assert (dropped == 3).float().mean().item() == pytest.approx(0.1, abs=0.02)
