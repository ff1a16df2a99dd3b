"""Numerically the same model as diffusers' Latte and as the original, in both directions."""

import shutil

import pytest
import torch
from diffusers import LatteTransformer3DModel

from tests.latte.references import (
    LAYOUTS,
    VchitectLatte,
    inputs,
    randomise,
    reference,
    run,
    with_weights_of,
)
from vidgen_lab.latte import Latte, LatteInputError, latte_config
from vidgen_lab.latte.pipeline import VideoGenerator
from vidgen_lab.latte.vae import FrameVAE
from vidgen_lab.paths import model_dir


@pytest.mark.parametrize("layout", LAYOUTS)
def test_from_diffusers_outputs_are_equal(layout):
    theirs = reference(layout)
    ours = Latte.from_diffusers(theirs)
    data = inputs(layout)
    with torch.no_grad():
        a, b = run(theirs, **data), run(ours, **data)
    assert a.shape == b.shape
    assert a.std() > 0.1  # the comparison is about numbers, not about zeros
    assert (a - b).abs().max() <= 1e-5


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_are_equal(layout):
    """Of the input, the text and every weight, in single precision."""
    theirs = reference(layout).train()
    ours = Latte.from_diffusers(theirs)
    weight = torch.randn(run(theirs, **inputs(layout)).shape, generator=torch.manual_seed(2))
    grads = []
    for model in (theirs, ours):
        data = inputs(layout)
        data["x"].requires_grad_()
        data["text"].requires_grad_()
        (run(model, **data) * weight).mean().backward()
        grads.append((data["x"].grad, data["text"].grad))
    gap = (grads[0][0] - grads[1][0]).abs().max()
    assert grads[0][0].abs().max() > 1e-4 and gap <= 1e-6
    if ours.config.condition == "text":
        assert (grads[0][1] - grads[1][1]).abs().max() <= 1e-6
    # our weight gradients, carried into diffusers' names, against theirs
    named = {n: p.grad for n, p in theirs.named_parameters() if p.grad is not None}
    with torch.no_grad():
        for p in ours.parameters():
            p.copy_(p.grad)
    carried = dict(ours.to_diffusers().named_parameters())
    compared = 0
    for name, grad in named.items():
        if ours.config.condition == "none" and name.startswith("caption_projection"):
            continue
        assert (grad - carried[name]).abs().max() <= 1e-6, name
        compared += 1
    assert compared > 30


def test_the_whole_model_is_where_the_weights_are():
    ours = Latte.from_diffusers(reference().to("meta"))
    places = {x.device.type for x in (*ours.parameters(), *ours.buffers())}
    assert places == {"meta"}


@pytest.mark.parametrize("layout", ["text", "no cross-attention", "text, other sizes"])
def test_double_precision_agrees_to_rounding(layout):
    theirs = reference(layout).double()
    ours = Latte.from_diffusers(theirs).double()
    data = inputs(layout, dtype=torch.float64)
    # diffusers keeps its 2-D positions in float32, as we do: what is left is rounding
    with torch.no_grad():
        assert (run(theirs, **data) - run(ours, **data)).abs().max() < 1e-11


@pytest.mark.parametrize("layout", LAYOUTS)
def test_to_diffusers_and_back(layout):
    """Our own weights go out, give the same numbers there, and come back bit by bit."""
    config = Latte.from_diffusers(reference(layout)).config
    ours = randomise(Latte(config), seed=9).eval()
    theirs = ours.to_diffusers()
    assert isinstance(theirs, LatteTransformer3DModel)
    data = inputs(layout)
    with torch.no_grad():
        assert (run(theirs, **data) - run(ours, **data)).abs().max() <= 1e-5
    back = Latte.from_diffusers(theirs)
    assert back.config == config
    for name, value in ours.state_dict().items():
        assert torch.equal(value, back.state_dict()[name]), name


def test_folder_round_trip(tmp_path):
    ours = randomise(Latte.from_diffusers(reference()), seed=3)
    ours.to_diffusers().save_pretrained(tmp_path / "transformer")
    for folder in (tmp_path / "transformer", tmp_path):  # the transformer's folder, a pipeline's
        back = Latte.from_diffusers(folder)
        for name, value in ours.state_dict().items():
            assert torch.equal(value, back.state_dict()[name]), name


def test_text_mask_equals_diffusers_bias():
    """Our [B, L] mask does what diffusers does with a [B, 1, L] bias repeated for each frame."""
    theirs, data = reference(), inputs()
    ours = Latte.from_diffusers(theirs)
    mask = torch.tensor([[1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 0]], dtype=torch.bool)
    bias = torch.where(mask, 0.0, -10000.0)[:, None].repeat_interleave(3, 0)
    with torch.no_grad():
        a = theirs(
            data["x"],
            encoder_hidden_states=data["text"],
            timestep=data["t"],
            encoder_attention_mask=bias,
        ).sample
        b = ours(data["x"], data["t"], text=data["text"], text_mask=mask)
        free = run(ours, **data)
    assert (a - b).abs().max() <= 1e-5
    assert (b - free).abs().max() > 1e-3


def test_export_and_original_do_not_share_memory():
    ours = Latte.from_diffusers(reference())
    theirs = ours.to_diffusers()
    before = theirs.proj_out.weight.clone()
    with torch.no_grad():
        ours.final.proj.weight.add_(1)
    assert torch.equal(theirs.proj_out.weight, before)


def test_import_and_original_do_not_share_memory():
    theirs = reference()
    ours = Latte.from_diffusers(theirs)
    before = ours.final.proj.weight.clone()
    with torch.no_grad():
        theirs.proj_out.weight.add_(1)
    assert torch.equal(ours.final.proj.weight, before)


@pytest.mark.parametrize(
    "setting", [{"norm_type": "layer_norm"}, {"activation_fn": "geglu"}, {"norm_eps": 1e-5}]
)
def test_settings_we_cannot_honour_are_refused(setting):
    theirs = LatteTransformer3DModel(**{**dict(reference().config), **setting})
    with pytest.raises(LatteInputError, match=next(iter(setting))):
        Latte.from_diffusers(theirs)


def test_models_diffusers_does_not_have_are_refused():
    tiny = dict(hidden_size=16, depth=2, num_heads=2, num_frames=2, sample_size=8)
    with pytest.raises(LatteInputError, match="modulation.*'single'.*'block'"):
        Latte(latte_config("S/2", **tiny)).to_diffusers()
    labelled = dict(tiny, modulation="single", condition="class", num_classes=3)
    with pytest.raises(LatteInputError, match="condition"):
        Latte(latte_config("S/2", **labelled)).to_diffusers()


@pytest.mark.parametrize("classes", [0, 5])
def test_a_modulation_in_every_block_is_the_originals(classes):
    torch.manual_seed(4)
    original = VchitectLatte(classes=classes)
    ours = with_weights_of(original).eval()
    x, t = torch.randn(2, 4, 3, 8, 8), torch.tensor([10, 900])
    y = torch.tensor([0, classes]) if classes else None
    with torch.no_grad():
        expected = original(x.transpose(1, 2), t, y).transpose(1, 2)
        given = ours(x, t, labels=y)
    assert expected.std() > 0.1
    assert (expected - given).abs().max() <= 1e-5


def test_gradients_of_the_original():
    torch.manual_seed(4)
    original = VchitectLatte().double()
    ours = with_weights_of(original).double()
    x = torch.randn(2, 4, 3, 8, 8, dtype=torch.float64)
    t, y = torch.tensor([10, 900]), torch.tensor([1, 5])
    original(x.transpose(1, 2), t, y).square().mean().backward()
    ours(x, t, labels=y).square().mean().backward()
    for theirs, mine in (
        (original.blocks[1].adaLN_modulation[1].weight, ours.blocks[0].temporal.modulation.linear),
        (original.blocks[2].mlp.fc2.weight, ours.blocks[1].spatial.mlp.down),
        (original.x_embedder.proj.weight, ours.patch_embed.proj),
        (original.t_embedder.mlp[0].weight, ours.time_embed.linear_1),
    ):
        # the positions of the original are float32 tables, so are ours
        torch.testing.assert_close(mine.weight.grad, theirs.grad, rtol=1e-6, atol=1e-12)


DOORS = (Latte.from_diffusers, FrameVAE.from_diffusers, VideoGenerator.from_diffusers)


@pytest.mark.parametrize("load", DOORS)
@pytest.mark.parametrize("name", ["maxin-cn/Latte-1", "no folder", ""])
def test_a_name_that_is_no_folder_is_never_looked_for_on_the_hub(load, name, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises((LatteInputError, OSError)) as caught:
        load(name)
    assert name == "" or "expected an existing folder" in str(caught.value)


@pytest.mark.parametrize(
    ("load", "part", "name"),
    [
        (Latte.from_diffusers, "transformer", "diffusion_pytorch_model.bin"),
        (Latte.from_diffusers, "transformer", "diffusion_pytorch_model.pt"),
        (FrameVAE.from_diffusers, "vae", "diffusion_pytorch_model.bin"),
        (VideoGenerator.from_diffusers, "text_encoder", "pytorch_model.bin"),
        (VideoGenerator.from_diffusers, "text_encoder", "model.pt"),
    ],
)
def test_pickled_weights_are_never_opened(load, part, name, tmp_path, monkeypatch):
    folder = shutil.copytree(model_dir("toy-latte"), tmp_path / "model")
    for weights in (folder / part).glob("*.safetensors"):
        weights.unlink()
    (folder / part / name).write_bytes(b"a pickle that runs code")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch.load was called"))
    with pytest.raises(OSError):
        load(folder)


def test_a_model_of_another_kind_is_named():
    with pytest.raises(LatteInputError, match="expected LatteTransformer3DModel.*AutoencoderKL"):
        Latte.from_diffusers(model_dir("toy-latte") / "vae")
    with pytest.raises(LatteInputError, match="LatteTransformer3DModel.*CogVideoXTransformer3D"):
        Latte.from_diffusers(model_dir("toy-cogvideox"))
