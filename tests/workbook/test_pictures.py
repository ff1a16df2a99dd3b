"""Figures and drawings: right numbers in the alt text, fixed size, small, valid."""

import base64
import io
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vidgen_lab.video.clip import Clip
from vidgen_lab.workbook import charts
from vidgen_lab.workbook import show as style
from vidgen_lab.workbook.ch01 import diagrams, figures, toys
from vidgen_lab.workbook.notes import facts


def _steps_table() -> pd.DataFrame:
    rows = [
        {"setting": n, "seed": s, "adherence": min(1.0, n / 25), "sharpness": 10.0 * n + s,
         "seconds": 2 + 0.1 * n}
        for n in (5, 10, 25) for s in range(3)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def _pictures() -> dict:
    table = _steps_table()
    ring = toys.ring()
    points = ring.sample(50, np.random.default_rng(0))
    bands = pd.DataFrame(
        {"a": [0.1, 0.6], "b": [0.1, 0.2], "c": [0.9, 1], "d": [0, 1]}, index=[1, 2]
    )
    mass = pd.DataFrame([[0.2, 0.5, 0.3]] * 2, columns=["same frame", "other frames", "text"])
    styles = table.replace({"setting": {5: "plain", 10: "rich", 25: "poem"}})
    return {
        "growth": figures.growth([1, 49], [10, 490], [4, 400]),
        "sizes": figures.sizes({"frame": 10, "clip": 480}),
        "islands": figures.islands({"x": points, "y": points}, ring, ["8 of 8", "2 of 8"]),
        "hopping": figures.hopping({"calm": np.array([0, 8]), "wild": np.array([1, 2])}, 8),
        "exact": figures.exact_diffusion(toys.Mixture(np.array([[-1.0], [1.0]]), 0.2), steps=8),
        "swap": figures.swap_grid({"row": np.zeros((4, 6, 6, 3))}),
        "bands": figures.bands(bands),
        "parameters": figures.parameter_bars({"m": pd.Series({"ff": 60, "attention": 40})}),
        "attention": figures.attention_bars({"noise": mass, "clean": mass}, mass.iloc[0]),
        "masks": figures.attention_masks({"a": np.eye(4), "b": np.ones((4, 4))}, ["4", "16"]),
        "memory": figures.memory_bars({"plain": 30.0}, {"T4": 15}),
        "setting": charts.by_setting(table, ["adherence", "seconds"], "steps"),
        "wording": charts.by_setting(styles, ["adherence"], "wording"),
        "rating": charts.rating_bars(pd.Series({"a": 1100.0, "b": 900.0})),
        "time": charts.flow_of_time({"a": [0.9, 0.4], "b": [1, 1]}, "similarity"),
        "summary": charts.learning_summary(
            table, styles, pd.Series({"sharpness": 0.7}), "adherence"
        ),
    }


@pytest.fixture(scope="module")
def pictures() -> dict:
    return _pictures()


def test_every_figure_is_described_fixed_in_width_and_small(pictures):
    for name, picture in pictures.items():
        image = Image.open(io.BytesIO(picture.data))
        assert image.width == picture.width == style.DPI * style.WIDTH_INCHES, name
        assert len(picture.alt) > 15, name
        assert len(picture.data) < 60_000, name
        assert np.asarray(image.convert("L")).std() > 3, name


def test_alt_texts_carry_the_numbers(pictures):
    assert "49 times" in pictures["growth"].alt and "100 times" in pictures["growth"].alt
    assert "ff 60%" in pictures["parameters"].alt
    assert "text 30%" in pictures["attention"].alt
    assert "wild ends with 2" in pictures["hopping"].alt
    assert "plain 30.0" in pictures["memory"].alt
    assert "plain: 0.2, rich: 0.4, poem: 1" in pictures["wording"].alt
    assert "b 0.40" not in pictures["time"].alt and "a 0.40" in pictures["time"].alt


def test_figures_leave_matplotlib_as_it_was():
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    figures.sizes({"a": 1, "b": 2})
    assert dict(mpl.rcParams) == before


def test_half_done_waits_until_a_band_stays_ahead():
    table = pd.DataFrame(
        {"x": [0.6, 0.4, 0.7], "y": [0.9, 0.9, 0.9], "z": [0.1, 0.2, 0.3]}, index=[2, 4, 6]
    )
    half = figures.half_done(table)
    assert half["x"] == 6 and half["y"] == 2 and np.isnan(half["z"])


def test_time_model_recovers_a_straight_line():
    once, each = charts.time_model(_steps_table())
    assert once == pytest.approx(2) and each == pytest.approx(0.1)


def test_picture_insists_on_words():
    figure, _ = style.new_figure(1)
    with pytest.raises(ValueError, match="alt text"):
        style.picture(figure, " ")
    with pytest.raises(ValueError, match="alt text"):
        style.photo(np.zeros((4, 4, 3), np.uint8), "")


def test_a_notebook_gets_the_file_its_width_and_the_words():
    """IPython 7 to 9 and nbconvert read this, and no other way of passing the words suits all."""
    shown = style.photo(np.zeros((40, 100, 3), np.uint8), "a black bar")
    data, about = shown._repr_mimebundle_(include=None, exclude=None)
    assert base64.b64decode(data["image/jpeg"]) == shown.data
    assert data["text/plain"] == "<picture: a black bar>"
    assert about == {"image/jpeg": {"width": 100, "alt": "a black bar"}}


def test_photo_keeps_its_size_up_to_the_width_of_a_figure():
    shown = style.photo(np.zeros((40, 100, 3), np.uint8), "black")
    assert Image.open(io.BytesIO(shown.data)).size == (100, 40)
    wide = style.photo(np.zeros((100, 1720, 3), np.uint8), "black")
    assert Image.open(io.BytesIO(wide.data)).size == (860, 50)


@pytest.mark.parametrize(
    "drawing",
    [
        diagrams.pipeline({"text": (1, 226), "noise": (1, 13), "joint": (17776,), "video": (49,)}),
        diagrams.families(),
        diagrams.conditioning(),
        diagrams.guidance(),
        diagrams.frame_groups(17),
        diagrams.timeline(facts("timeline").to_dict("records")),
    ],
)
def test_drawings_are_valid_svg_with_a_title_inside_the_sheet(drawing):
    root = ET.fromstring(drawing.svg())
    space = "{http://www.w3.org/2000/svg}"
    assert root.find(f"{space}title").text == drawing.alt
    for text in root.iter(f"{space}text"):
        assert (
            0 <= float(text.get("x")) <= drawing.width
            and 0 <= float(text.get("y")) <= drawing.height
        )
    assert len(drawing.svg()) < 20_000


def test_frame_groups_draws_each_frame_and_each_latent():
    assert diagrams.frame_groups(17).svg().count("<rect") == 1 + 17 + 5


def test_timeline_refuses_disorder():
    events = facts("timeline").to_dict("records")
    with pytest.raises(ValueError, match="order"):
        diagrams.timeline(events[::-1])


def test_strips_show_every_clip_in_a_row_of_its_own():
    black = Clip(np.zeros((8, 64, 96, 3), np.uint8), 8)
    white = Clip(np.full((8, 64, 96, 3), 255, np.uint8), 8)
    shown = style.strips({"a": black, "b": white}, "black over white", num=4)
    pixels = np.asarray(Image.open(io.BytesIO(shown.data)).convert("L"))
    assert pixels.shape[1] == 4 * 192 + 3 * 4  # doubled, as many as fit on a page
    upper, lower = np.array_split(pixels, 2)
    assert upper[30:140, 10:90].max() < 30 and lower[40:140, 10:90].min() > 225
