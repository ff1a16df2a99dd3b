import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.latte.references import randomise
from vidgen_lab.latte import Latte, LatteConfig
from vidgen_lab.latte.blocks import LatteTransformerBlock, Mlp, SpatialAttentionBlock
from vidgen_lab.latte.conditioning import (
    AdaLNSingle,
    AdaLNZero,
    LabelEmbedder,
    timestep_code,
)


def config(**changes):
    settings = {"hidden_size": 16, "depth": 2, "num_heads": 2, "sample_size": 8, "num_frames": 3}
    return LatteConfig(**settings | changes)


@pytest.mark.parametrize("modulation", ["block", "single"])
def test_a_block_is_its_formula(modulation):
    block = randomise(SpatialAttentionBlock(config(modulation=modulation)))
    x, cond = torch.randn(2, 3, 5, 16), torch.randn(2, 16 if modulation == "block" else 96)
    given, m = block(x, cond), block.modulation(cond)
    for branch, shift, scale, gate in (
        (block.attention, m.shift_attention, m.scale_attention, m.gate_attention),
        (block.mlp, m.shift_mlp, m.scale_mlp, m.gate_mlp),
    ):
        x = x + gate * branch(F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift)
    torch.testing.assert_close(given, x)


@pytest.mark.parametrize("mode", ["bfloat16", "autocast"])
def test_reduced_precision_stays_close(mode):
    """Pure bfloat16, and float32 weights under autocast: forward, backward, and right dtypes."""
    small = config(hidden_size=32, num_frames=2)
    exact, low = randomise(Latte(small)), randomise(Latte(small))
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
        model, rows = Latte(config(depth=4, modulation=modulation)), {}
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


def test_a_block_reads_its_grid_off_the_input():
    block = randomise(LatteTransformerBlock(config()))
    for frames, patches in ((1, 4), (3, 256), (16, 7)):
        x = torch.randn(1, frames, patches, 16)
        assert block(x, torch.randn(1, 16)).shape == x.shape


def test_text_enters_the_spatial_half_only():
    block = LatteTransformerBlock(config(condition="text", text_dim=6))
    assert block.spatial.cross is not None and block.temporal.cross is None
    assert LatteTransformerBlock(config()).spatial.cross is None


def test_only_time_is_causal():
    block = LatteTransformerBlock(config(causal=True))
    assert block.temporal.attention.causal and not block.spatial.attention.causal


def test_timestep_code_has_cosines_first():
    code = timestep_code(torch.tensor([0.0, 2.0]))
    assert code.shape == (2, 256)
    assert code[0].tolist() == [1.0] * 128 + [0.0] * 128
    torch.testing.assert_close(code[1, 0], torch.tensor(2.0).cos())
    torch.testing.assert_close(code[1, 128], torch.tensor(2.0).sin())


def test_labels():
    table = LabelEmbedder(3, 8)
    assert table.table.num_embeddings == 4
