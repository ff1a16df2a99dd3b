"""Chapter 5's panel without a front-end: what its sliders say is what is generated with."""

import numpy as np
import pytest

from tests.finetuning.trained import trained_transformer
from tests.tiny_models import build_tiny
from tests.workbook.test_built import built
from vidgen_lab.finetuning.export import save_lora
from vidgen_lab.generation.generate import generate
from vidgen_lab.generation.loading import load_pipeline
from vidgen_lab.generation.lora import load_lora, set_scales
from vidgen_lab.generation.request import GenerationRequest

AdapterPanel = built(5, "c064a", set_scales=set_scales).AdapterPanel
REQUEST = GenerationRequest(
    "a red ball", num_inference_steps=2, guidance_scale=1.0, num_frames=9, height=32, width=32
)


@pytest.fixture
def pipe(tmp_path):
    made = load_pipeline(build_tiny(tmp_path / "model"), device="cpu")
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture
def panel(pipe, tmp_path, recwarn):
    file = save_lora(trained_transformer("2b"), tmp_path / "one.safetensors").path
    load_lora(pipe, file, scales=(0.5,))
    made = AdapterPanel(pipe, REQUEST, ["paper"])
    assert not [w for w in recwarn if issubclass(w.category, DeprecationWarning)]
    return made


def test_it_begins_with_what_is_loaded(panel):
    assert panel.scales == [0.5] and panel.request == REQUEST
    assert panel.summary().endswith("; paper 0.5")


def test_scales_beyond_the_usual_are_kept(panel, pipe):
    for scale in (2.0, -0.5):
        next(iter(pipe.adapters.values()))["scale"] = scale
        assert AdapterPanel(pipe, REQUEST, ["paper"]).scales == [scale]


def test_switched_off_it_is_the_base_model(panel, pipe):
    panel.switches["paper"].value = False
    assert panel.scales == [0.0]
    panel.start()
    panel.wait(60)
    made = panel.history[0]
    assert made.recipe["lora"][0]["scale"] == 0.0
    pipe.unload_lora_weights()
    pipe.adapters = {}
    assert np.array_equal(made.clip.frames, generate(pipe, REQUEST).clip.frames)


def test_the_slider_sets_the_strength(panel):
    panel.sliders["paper"].value = 1.25
    panel.start()
    panel.wait(60)
    assert panel.history[0].recipe["lora"][0]["scale"] == 1.25
