"""The prompt panel without a front-end: values, a generation by click, cancelling, errors."""

import time
from types import SimpleNamespace

import pytest

from tests.tiny_models import build_tiny
from vidgen_lab.generation.loading import load_pipeline
from vidgen_lab.generation.request import GenerationRequest, RequestError
from vidgen_lab.workbook.panels.prompt import HISTORY, PromptPanel

REQUEST = GenerationRequest(
    "a red ball",
    negative_prompt="rose",
    num_inference_steps=2,
    guidance_scale=3.0,
    num_frames=9,
    height=32,
    width=32,
    seed=7,
)
PATIENCE = 60  # seconds; a generation takes a fraction of one


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return load_pipeline(build_tiny(tmp_path_factory.mktemp("model")), device="cpu")


@pytest.fixture
def panel(pipe, recwarn) -> PromptPanel:
    # ipywidgets 7 reports arguments it does not know as DeprecationWarning only
    made = PromptPanel(pipe, REQUEST, ideas=["a blue star", "the ocean"])
    assert not [w for w in recwarn if issubclass(w.category, DeprecationWarning)]
    return made


def test_untouched_panel_gives_back_the_request(panel):
    assert panel.request == REQUEST
    assert "red ball" in panel.summary() and "seed 7" in panel.summary()


def test_a_large_seed_is_kept(pipe):
    assert PromptPanel(pipe, REQUEST.with_(seed=2**40)).request.seed == 2**40


def test_a_panel_without_a_prompt_can_be_shown(panel):
    panel.controls["prompt"].value = " "
    assert "seed 7" in panel._repr_mimebundle_()["text/plain"]


def test_controls_edit_the_request(panel):
    panel.controls["prompt"].value = "a star"
    panel.controls["num_inference_steps"].value = 5
    panel.controls["seed"].value = 11
    expected = REQUEST.with_(prompt="a star", num_inference_steps=5, seed=11)
    assert panel.request == expected


def test_ideas_fill_the_prompt(panel):
    picker = panel.box.children[0]
    picker.value = "a blue star"
    assert panel.request.prompt == "a blue star"


def test_words_without_effect_are_named_beside_the_clip(pipe):
    panel = PromptPanel(pipe, REQUEST.with_(prompt="a red ball on a <skateboard>"))
    for model, shown in (("somebody/else", False), ("toy-cogvideox", True)):
        panel.pipe = SimpleNamespace(loaded=SimpleNamespace(name=model))
        panel.start()
        panel.wait(PATIENCE)  # this pipeline makes nothing; the words are told before
        assert ("Ignored: skateboard" in panel.words.value) == shown


def test_frame_counts_on_offer_are_legal(panel):
    assert set(panel.controls["num_frames"].options) == {9}


def test_click_generates_and_fills_the_shelf(panel):
    panel.generate_button.click()
    assert panel.generate_button.disabled and not panel.cancel_button.disabled
    panel.wait(PATIENCE)
    assert not panel.running
    assert len(panel.history) == 1
    assert panel.history[0].recipe["seed"] == 7
    assert panel.shelf.value.count("(seed") == 2 and "a red ball" in panel.shelf.value
    assert panel.bar.value == panel.bar.max == 2
    assert not panel.generate_button.disabled and panel.cancel_button.disabled
    assert panel.now.value == ""


def test_history_keeps_all_but_shows_the_newest(panel):
    for seed in range(HISTORY + 1):
        panel.controls["seed"].value = seed
        panel.start()
        panel.wait(PATIENCE)
    assert len(panel.history) == HISTORY + 1
    assert panel.shelf.value.count("(seed") == 2 * HISTORY  # alt and title
    assert "seed 0" not in panel.shelf.value
    newest, next_newest = panel.shelf.value.index("seed 4"), panel.shelf.value.index("seed 3")
    assert newest < next_newest


def test_cancel_keeps_nothing_and_frees_the_panel(panel):
    panel.controls["num_inference_steps"].value = 60
    panel.preview = False
    panel.start()
    while panel.bar.value == 0 and panel.running:
        time.sleep(0.005)
    panel.cancel_button.click()
    panel.wait(PATIENCE)
    assert panel.history == []
    assert "Cancelled" in panel.status.value
    assert panel.bar.value < 60
    panel.controls["num_inference_steps"].value = 2
    panel.start()
    panel.wait(PATIENCE)
    assert len(panel.history) == 1


def test_errors_are_shown_and_leave_the_panel_usable(panel):
    panel.controls["prompt"].value = "  "
    panel.start()
    assert not panel.running and "empty" in panel.status.value
    with pytest.raises(RequestError):
        _ = panel.request
    panel.controls["prompt"].value = "a ball " * 50  # too long, found when the work begins
    panel.start()
    panel.wait(PATIENCE)
    assert "shorten" in panel.status.value and not panel.generate_button.disabled


def test_prompt_cannot_smuggle_markup_into_the_page(panel):
    panel.controls["prompt"].value = "<b>ball</b>"
    panel.start()
    panel.wait(PATIENCE)
    assert panel.history and "<b>ball" not in panel.shelf.value


def test_bundle_has_a_view_and_words_for_the_headless(panel):
    bundle = panel._repr_mimebundle_()
    view = bundle["application/vnd.jupyter.widget-view+json"]
    assert view["model_id"] == panel.box.model_id
    assert bundle["text/plain"] == panel.summary()
