"""The memory calculator: its forecast is the planner's, and its advice follows the controls."""

import pytest

from vidgen_lab.training.parallel.plan import plan_training
from vidgen_lab.workbook.panels.memory import MODELS, MemoryPanel


def test_it_forecasts_what_the_planner_does():
    panel = MemoryPanel(24)
    expected = plan_training("CogVideoX-2B", rank=128, tiling=True)
    assert panel.plan == expected and panel.fits == expected.fits(24)
    assert f"{expected.training_peak:.1f} GiB to train" in panel.summary()


@pytest.mark.parametrize("model", MODELS)
def test_every_control_works(model):
    panel = MemoryPanel(24)
    panel.controls["model"].value = model
    small = panel.plan.training_peak
    panel.controls["checkpointing"].value = False
    assert panel.plan.training_peak > 1.5 * small
    panel.controls["method"].value = "sft"
    assert not panel.fits and "does not fit" in panel.view.value
    panel.controls["gpus"].value = 8
    assert panel.plan.strategy == "fsdp2"


def test_a_card_that_is_too_small_is_told_so():
    panel = MemoryPanel(2)
    assert "1 x 2 GiB; 2 GiB are too little even for CogVideoX-2B" in panel.summary()
