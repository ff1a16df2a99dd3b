"""The memory plan against figures that others published."""

import re

import pytest
import torch

from vidgen_lab.cli import main
from vidgen_lab.latte import Latte, LatteConfig
from vidgen_lab.latte.measure import saved_bytes
from vidgen_lab.training.parallel.plan import BLOCK_VALUES, GIB, options, plan, plan_training

# GB as printed; diffusers documentation of CogVideoX and the CogVideo README ("minimum").
PUBLISHED = [
    (33, {}),
    (19, {"offload": "model"}),
    (11, {"offload": "model", "tiling": True}),
    (4, {"offload": "sequential", "tiling": True}),
    (5, {"model": "CogVideoX-5B", "dtype": "bfloat16", "offload": "sequential", "tiling": True}),
]


@pytest.mark.parametrize(("gigabytes", "settings"), PUBLISHED)
def test_estimate_is_near_the_published_peak(gigabytes, settings):
    assert plan(**settings).peak * GIB / 1e9 == pytest.approx(gigabytes, rel=0.3)


def test_each_option_saves_and_longer_costs_more():
    plain, parts, layers = (plan(offload=mode).peak for mode in ("none", "model", "sequential"))
    assert plain > parts > layers
    assert plan(num_frames=9).work["transformer"] < plan(num_frames=49).work["transformer"]
    assert plan(dtype="float32").weights["transformer"] == 2 * plan().weights["transformer"]


def test_fits_and_explain():
    tight = plan(offload="model", tiling=True)
    assert tight.fits(12) and not tight.fits(8)
    assert f"{tight.peak:.1f} GiB" in tight.explain()
    with pytest.raises(ValueError, match="CogVideoX-5B"):
        plan("CogVideoX-9B")


# training ---------------------------------------------------------------------------------------

# GB at 49x480x720 [training, validation]: finetrainers README and docs, CogVideo/finetune README
TRAINED = [
    ({"rank": 64}, 13, 21.5),
    ({"rank": 64, "checkpointing": False}, 45, None),
    ({"model": "CogVideoX-5B", "rank": 64}, 20.9, 30.5),
    # everything in bfloat16 there, Adam's moments too
    ({"model": "CogVideoX-5B", "weight_bytes": 2, "optimizer_bytes": 4}, 52.9, None),
    ({"weight_bytes": 2, "optimizer_bytes": 12}, 36, None),  # ZeRO keeps a float32 copy as well
]


@pytest.mark.parametrize(("settings", "training", "validation"), TRAINED)
def test_training_is_near_the_published_peaks(settings, training, validation):
    found = plan_training(**settings)
    assert found.training_peak == pytest.approx(training, rel=0.2)
    if validation:
        assert found.validation_peak == pytest.approx(validation, rel=0.15)


# GiB, without checkpointing, with an average: benchmarks/training_step.py on an H200
MEASURED = [("Latte-XL/2", 8, 58.2), ("Latte-S/2", 32, 30.3)]


@pytest.mark.parametrize(("model", "batch", "peak"), MEASURED)
def test_training_under_autocast_is_near_what_was_measured(model, batch, peak):
    size = {"height": 256, "width": 256, "num_frames": 16, "batch": batch}
    found = plan_training(model, **size, checkpointing=False, ema=True)
    assert found.training_peak == pytest.approx(peak, rel=0.1)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_activations_are_near_what_autograd_keeps(checkpointing):
    config = LatteConfig(sample_size=16, num_frames=8, hidden_size=96, depth=8, num_heads=3)
    model, tokens = Latte(config), 2 * 8 * 64
    model.gradient_checkpointing = checkpointing
    x, t = torch.randn(2, 4, 8, 16, 16), torch.zeros(2, dtype=torch.long)
    kept = saved_bytes(lambda: model(x, t), model) / (4 * tokens * 96)
    per_block = 8 * (BLOCK_VALUES if not checkpointing else 0.8)  # a checkpoint spans two blocks
    assert kept == pytest.approx(per_block, rel=0.15)


def test_what_each_strategy_shares():
    one = plan_training()
    by = {p.strategy: p for p in options(80, gpus=2)}
    assert set(by) == {"ddp", "zero2", "fsdp2", "tensor", "pipeline", "context"}
    assert by["ddp"].training == one.training
    assert by["zero2"].training["optimizer"] == one.training["optimizer"] / 2
    assert by["zero2"].training["weights"] == one.training["weights"]
    assert one.training["weights"] / 2 < by["fsdp2"].training["weights"] < one.training["weights"]
    assert by["context"].training["activations"] == one.training["activations"] / 2
    assert by["context"].training["weights"] == one.training["weights"]
    assert one.validation_peak != one.training_peak
    fits = [p.fits(24) for p in options(24, gpus=2, rank=64)]
    assert fits == sorted(fits, reverse=True) and fits[0]
    assert "heads" in str(pytest.raises(ValueError, plan_training, strategy="tensor", gpus=7).value)
    with pytest.raises(ValueError, match="Latte-XL/2"):
        plan_training("Latte-XXL/2")
    for wrong, said in (
        ({"rank": -4}, "rank -4: nothing"),
        ({"gpus": 0}, "0 GPUs"),
        ({"width": -8}, "480x-8 pixels"),
    ):
        with pytest.raises(ValueError, match=said):
            plan_training(**wrong)


def test_the_command_says_what_fits(capsys):
    line = ["plan", "Latte-XL/2", "--size", "16x256x256", "--batch", "8", "--gpu-gib", "80"]
    assert main([*line, "--gpus", "4"]) == 0
    out = capsys.readouterr().out
    assert out.count("fits") >= 5 and "fsdp2 on 4" in out
    assert "with training.gradient_checkpointing=true" in out  # or the plan does not hold
    assert main(["plan", "CogVideoX-5B", "--gpu-gib", "0"]) == 1
    assert "name its memory, such as --gpu-gib 24" in capsys.readouterr().err
    assert main(["plan", "Latte-XL/2", "--gpu-gib", "24"]) == 0  # as in the README, at its own size
    small = capsys.readouterr().out
    assert main(["plan", "Latte-XL/2", "--gpu-gib", "24", "--size", "16x256x256"]) == 0
    assert capsys.readouterr().out == small
    assert main(["plan", "CogVideoX-5B", "--gpu-gib", "16"]) == 1
    out = capsys.readouterr().out
    assert "does not fit" in out and "or LoRA" in out
    enough = re.search(r"nothing fits: (\d+) GiB would do", out)[1]
    assert main(["plan", "CogVideoX-5B", "--gpu-gib", enough]) == 0
