import dataclasses

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.latte.references import randomise
from vidgen_lab.latte import Latte, LatteConfig, LatteInputError, latte_config

TINY = dict(hidden_size=16, depth=4, num_heads=2, sample_size=8, num_frames=3)
KINDS = {
    "none": {},
    "class": {"condition": "class", "num_classes": 5},
    "text": {"condition": "text", "text_dim": 6},
}


def tiny(kind="none", **overrides):
    return Latte(LatteConfig(**{**TINY, **KINDS[kind], **overrides}))


def call(model, batch=2, t=None, **overrides):
    c = model.config
    x = torch.randn(
        batch, c.in_channels, c.num_frames, 8, 8, generator=torch.Generator().manual_seed(0)
    )
    extra = {"labels": torch.zeros(batch, dtype=torch.long)} if c.condition == "class" else {}
    if c.condition == "text":
        extra = {"text": torch.ones(batch, 4, 6)}
    arguments = {"x": x, "t": torch.arange(batch) if t is None else t, **extra, **overrides}
    return model(**arguments)


# ----- sizes
@pytest.mark.parametrize(
    ("name", "count"),
    [("S/2", 32_480_672), ("B/2", 129_547_040), ("L/2", 456_815_648), ("XL/2", 673_681_568)],
)
def test_published_sizes_have_the_published_parameters(name, count):
    with torch.device("meta"):
        model = Latte(latte_config(name))
    assert model.num_parameters() == count
    d, h = model.config.depth, model.config.hidden_size
    assert count == d * (18 * h * h + 15 * h) + 3 * h * h + 309 * h + 32


def test_class_labels_and_the_text_model():
    with torch.device("meta"):
        labelled = Latte(latte_config("XL/2", condition="class", num_classes=101))
        # diffusers' Latte-1: 28 spatial *and* 28 temporal blocks, so depth 56 here
        text = dict(modulation="single", condition="text", text_dim=4096, sample_size=64)
        text = Latte(latte_config("XL/2", depth=56, **text))
    assert labelled.num_parameters() == 673_799_072
    assert text.num_parameters() == 1_057_246_880


def test_names():
    assert latte_config("S/4").patch_size == 4
    for wrong in ("M/2", "XL", "XL/0", "xl/2", "S/two", "S/²"):
        with pytest.raises(LatteInputError, match="S/2, B/2, L/2, XL/2.*given"):
            latte_config(wrong)


# ----- what it computes
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("modulation", ["block", "single"])
def test_shapes_and_conditions(kind, modulation):
    model = randomise(tiny(kind, modulation=modulation)).eval()
    out = call(model)
    assert out.shape == (2, 8, 3, 8, 8)
    assert not torch.allclose(out[0], call(model, t=torch.tensor([500, 1]))[0])  # hears the time
    if kind == "class":
        assert not torch.allclose(out, call(model, labels=torch.tensor([3, 5])))
    if kind == "text":
        assert not torch.allclose(out, call(model, text=torch.randn(2, 4, 6)))
    alone = {"none": {}, "class": {"labels": torch.zeros(1, dtype=torch.long)}}
    alone = alone.get(kind, {"text": torch.ones(1, 4, 6)})
    x = torch.randn(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(x[:1], 0, **alone), out[:1])  # samples are independent


def test_every_frame_and_patch_reaches_every_other():
    """Two pairs of blocks connect all tokens, though no block sees more than a row of the grid."""
    model = randomise(tiny()).eval()
    x = torch.randn(1, 4, 3, 8, 8)
    y = x.clone()
    y[0, :, 0, 0, 0] += 1
    moved = (model(x, 5) - model(y, 5)).abs().amax(1) > 1e-7
    assert moved.all()


def test_causal_model_does_not_see_later_frames():
    model = randomise(tiny(causal=True)).eval()
    x = torch.randn(1, 4, 3, 8, 8)
    y = x.clone()
    y[:, :, 2] += 1
    gap = (model(x, 5) - model(y, 5)).abs().amax((0, 1, 3, 4))
    assert gap[:2].max() == 0 and gap[2] > 1e-3


def test_frame_number_matters():
    model = randomise(tiny()).eval()
    x = torch.randn(1, 4, 3, 8, 8)
    assert not torch.allclose(model(x.flip(2), 5).flip(2), model(x, 5), atol=1e-3)


def test_other_sizes_and_a_single_frame():
    model = randomise(tiny()).eval()
    assert model(torch.randn(1, 4, 3, 4, 14), 5).shape == (1, 8, 3, 4, 14)
    assert model(torch.randn(2, 4, 1, 8, 8), 5).shape == (2, 8, 1, 8, 8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("modulation", ["block", "single"])
def test_blocks_start_as_the_identity_and_the_output_as_zero(kind, modulation):
    model = tiny(kind, modulation=modulation)
    seen = []
    for block in model.blocks:
        block.register_forward_hook(lambda m, i, o: seen.append((i, o)))
    assert call(model).abs().max() == 0
    for (args, out), first in zip(seen, (True, False), strict=True):
        expected = args[0] + args[4][:, None, :] if first else args[0]
        assert torch.equal(out, expected)


def test_at_step_zero_only_the_last_matrix_learns():
    """Everything behind a zero-initialised layer waits one step: no bug (upstream issue 45)."""
    model = tiny()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    target = torch.randn(2, 8, 3, 8, 8)
    moving = []
    for _ in range(3):
        optimizer.zero_grad()
        (call(model) - target).square().mean().backward()
        moving.append({n for n, p in model.named_parameters() if p.grad.abs().max() > 0})
        optimizer.step()
    assert moving[0] == {"final.proj.weight", "final.proj.bias"}
    assert "blocks.0.spatial.modulation.linear.weight" in moving[1]
    assert "blocks.0.spatial.attention.q.weight" not in moving[1]
    assert moving[2] == {n for n, _ in model.named_parameters()}


def test_gradient_checkpointing_changes_nothing():
    grads = []
    for on in (False, True):
        model = randomise(tiny("text", modulation="single"))
        model.gradient_checkpointing = on
        call(model).square().mean().backward()
        grads.append([p.grad for p in model.parameters()])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


def test_it_can_overfit_one_clip():
    """A few steps of plain training move the loss: gradients arrive where they should."""
    torch.manual_seed(0)
    model, x = tiny(learn_sigma=False), torch.randn(1, 4, 3, 8, 8)
    target = torch.randn(1, 4, 3, 8, 8)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = (model(x, 5) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_compiles_in_one_piece(kind):
    model = randomise(tiny(kind)).eval()
    torch.testing.assert_close(
        call(torch.compile(model, backend="eager", fullgraph=True)), call(model)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_lies_in_one_piece_from_the_first_block_to_the_last(kind):
    """Strided sums and norms cost 15 % of a step on a GPU; the eye does not see them."""
    model, seen = randomise(tiny(kind)), {}

    def look(name, x, out):
        seen[name] = x[0].is_contiguous() and out.is_contiguous()

    for name, module in model.named_modules():
        if name.endswith(("norm", "attention", "spatial", "temporal")):
            module.register_forward_hook(lambda _, x, out, name=name: look(name, x, out))
    call(model)
    assert len(seen) > 8 and all(seen.values()), seen


def test_autocast_turns_a_token_over_once_for_query_key_and_value():
    model, kinds = randomise(tiny()), []
    for block in model.blocks:
        for linear in (block.spatial.attention.q, block.temporal.attention.v):
            linear.register_forward_hook(lambda _, x, out: kinds.append((x[0].dtype, out.dtype)))
    with torch.autocast("cpu", torch.bfloat16):
        call(model)
    assert set(kinds) == {(torch.bfloat16, torch.bfloat16)}


def test_fused_and_written_out_attention_agree():
    model = randomise(tiny("text"))
    fused = call(model)
    with sdpa_kernel(SDPBackend.MATH):
        torch.testing.assert_close(call(model), fused, rtol=0, atol=1e-6)


def test_positions_are_not_in_the_state_dict():
    assert not [k for k in tiny().state_dict() if "position" in k]


def test_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        tiny().config.depth = 2


# ----- what it refuses
@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("none", {"x": torch.zeros(2, 4, 8, 8)}, r"5 axes .*given 4 axes \[2, 4, 8, 8\]"),
        ("none", {"x": torch.zeros(2, 3, 4, 8, 8)}, r"frames .*expected 3 \(or 1\), given 4"),
        ("none", {"x": torch.zeros(2, 3, 3, 8, 8)}, "channels: expected 4, given 3"),
        ("none", {"x": torch.zeros(2, 4, 3, 8, 9)}, "patch size 2, given 8x9"),
        ("none", {"x": torch.full((2, 4, 3, 8, 8), torch.nan)}, "finite values, given 1536 of"),
        ("none", {"t": torch.zeros(3)}, r"timesteps: expected \[2\], given \[3\]"),
        ("none", {"t": torch.tensor([0.0, torch.inf])}, "timesteps: expected finite"),
        ("none", {"text": torch.zeros(2, 4, 6)}, "expected no text, given .2, 4, 6."),
        ("class", {"labels": None}, "expected labels, given none"),
        ("class", {"labels": torch.tensor([0, 6])}, "class labels: .*given 0 .. 6"),
        ("class", {"labels": torch.zeros(3, dtype=torch.long)}, r"expected \[2\], given \[3\]"),
        ("text", {"text": None}, "expected text, given none"),
        ("text", {"text": torch.zeros(2, 4, 7)}, r"expected \[2, L, 6\], given \[2, 4, 7\]"),
        ("text", {"text": torch.full((2, 4, 6), torch.inf)}, "text embeddings: expected finite"),
        (
            "text",
            {"text_mask": torch.ones(2, 1, 4, dtype=torch.bool)},
            r"text mask: expected .* = \[2, 4\].*given .* \[2, 1, 4\]",
        ),
    ],
)
def test_wrong_inputs_are_named(kind, arguments, message):
    with pytest.raises(LatteInputError, match=message):
        call(tiny(kind), **arguments)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": 5}, "even number of blocks, given 5"),
        ({"hidden_size": 18}, "multiple of 4 and of 2 heads, given 18"),
        ({"sample_size": 9}, "multiple of the patch size 2, given 9"),
        ({"modulation": "film"}, "'block' or 'single', given 'film'"),
        ({"condition": "audio"}, "'none', 'class' or 'text', given 'audio'"),
        ({"condition": "class"}, "num_classes"),
        ({"condition": "text"}, "text_dim"),
        ({"num_frames": 0}, "at least 1, given 0"),
        ({"num_heads": 0}, "num_heads: expected at least 1, given 0"),
        ({"patch_size": 0}, "patch_size: expected at least 1, given 0"),
        ({"hidden_size": 0}, "hidden_size: expected at least 1, given 0"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(LatteInputError, match=message):
        LatteConfig(**{**TINY, **settings})


def test_the_package_is_cheap_to_import():
    import subprocess
    import sys

    code = (
        "import sys, vidgen_lab.latte; assert 'torch' not in sys.modules;"
        "from vidgen_lab.latte import Latte, DDIMSampler, FrameVAE, VideoGenerator, TextEncoder;"
        "heavy = {'diffusers', 'transformers', 'cv2', 'matplotlib'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_advertised_name_exists():
    from vidgen_lab import latte

    for name in latte.__all__:
        assert getattr(latte, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        latte.Nothing  # noqa: B018
