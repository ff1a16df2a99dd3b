import pytest

from tests.pipeline.samples import blurred, moving, save
from tests.workbook.test_built import built
from vidgen_lab.pipeline.select.gates import GateSettings
from vidgen_lab.toyworld.raw import Planted
from vidgen_lab.workbook.panels.threshold import ThresholdPanel


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("panel")
    for seed in (1, 2, 3):
        save(moving(seed), folder / f"good{seed}.mp4")
    save(blurred(moving(4)), folder / "soft.mp4")
    return folder, [
        row
        for path in sorted(folder.glob("*.mp4"))
        for row in built(2, "filtering").filtered(path, GateSettings().gates())
    ]


def opened(folder, rows, truth):
    return ThresholdPanel(rows, folder, GateSettings(), truth, "min_edge_steepness")


TRUTH = [Planted("soft.mp4", "blur", "rejected", "blurred", 0)]


def test_the_panel_shows_what_is_kept_and_dropped_without_a_click(clips):
    folder, rows = clips
    panel = opened(folder, rows, TRUTH)
    assert "keeps 3 of 4" in panel.summary()
    html = panel.view.value
    assert "just kept" in html and "just dropped" in html and ", blur" in html
    assert "precision 1.00, recall 1.00" in html
    assert html.count("<img") == 1 + 4
    bundle = panel._repr_mimebundle_()
    assert "keeps 3 of 4" in bundle["text/plain"]


def test_clips_that_nothing_measured_are_an_error_in_words(clips):
    with pytest.raises(ValueError, match="no clip was measured"):
        opened(clips[0], [], [])


def test_moving_the_slider_changes_the_settings_and_the_picture(clips):
    folder, rows = clips
    panel = opened(folder, rows, TRUTH)
    before = panel.view.value
    panel.slider.value = panel.slider.max
    assert panel.settings.min_edge_steepness == pytest.approx(panel.slider.max, abs=0.01)
    assert panel.view.value != before and "keeps 1 of 4" in panel.summary()
    assert panel.settings.max_bright == 0.3


def test_another_gate_keeps_what_was_set_before(clips):
    folder, rows = clips
    panel = opened(folder, rows, [])
    panel.slider.value = panel.slider.min
    low = panel.settings.min_edge_steepness
    panel.gate_menu.value = "min_side"
    assert panel.slider.value == pytest.approx(64, abs=0.2) == panel.settings.min_side
    panel.gate_menu.value = "min_edge_steepness"
    assert panel.slider.value == pytest.approx(low, abs=1e-3)
