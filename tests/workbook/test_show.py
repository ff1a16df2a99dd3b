"""Pictures in a notebook: fixed size, small, with words; drawings that are valid and whole."""

import base64
import io
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from vidgen_lab.video.clip import Clip
from vidgen_lab.workbook import show
from vidgen_lab.workbook.notes import facts

SVG = "{http://www.w3.org/2000/svg}"
DRAWINGS = sorted(Path(show.__file__).with_name("drawings").glob("*.svg"))


def test_a_figure_is_shown_where_its_block_ends(monkeypatch):
    shown = []
    monkeypatch.setattr(show, "display", shown.append)
    before = dict(mpl.rcParams)
    with show.figure("a rising line", 2, columns=2, sharey=True) as drawn:
        left, right = drawn.axes
        left.plot([1, 2])
        assert not shown
    assert shown == [drawn.picture] and dict(mpl.rcParams) == before
    image = Image.open(io.BytesIO(drawn.picture.data))
    assert image.size == (860, 200) and drawn.picture.width == 860
    assert image.convert("RGB").getpixel((1, 1)) == (251, 250, 246)
    assert left.lines[0].get_color() == show.BLUE == mpl.colors.to_hex(left.lines[0].get_color())


def test_the_names_of_the_colours_are_those_of_the_style():
    with mpl.style.context(show.STYLE):
        cycle = mpl.rcParams["axes.prop_cycle"].by_key()["color"]
    assert tuple(mpl.colors.to_hex(colour) for colour in cycle) == show.CYCLE


def test_a_picture_insists_on_words():
    with pytest.raises(ValueError, match="alt text"), show.figure(" ", 1):
        pass
    with pytest.raises(ValueError, match="alt text"):
        show.photo(np.zeros((4, 4, 3), np.uint8), "")


def test_a_notebook_gets_the_file_its_width_and_the_words():
    """IPython 7 to 9 and nbconvert read this, and no other way of passing the words suits all."""
    shown = show.photo(np.zeros((40, 100, 3), np.uint8), "a black bar")
    data, about = shown._repr_mimebundle_(include=None, exclude=None)
    assert base64.b64decode(data["image/jpeg"]) == shown.data
    assert data["text/plain"] == "<picture: a black bar>"
    assert about == {"image/jpeg": {"width": 100, "alt": "a black bar"}}


def test_photo_keeps_its_size_up_to_the_width_of_a_page():
    shown = show.photo(np.zeros((40, 100, 3), np.uint8), "black")
    assert Image.open(io.BytesIO(shown.data)).size == (100, 40)
    wide = show.photo(np.zeros((100, 1720, 3), np.uint8), "black")
    assert Image.open(io.BytesIO(wide.data)).size == (860, 50)


def test_strips_show_every_clip_in_a_row_of_its_own():
    black = Clip(np.zeros((8, 64, 96, 3), np.uint8), 8)
    white = Clip(np.full((8, 64, 96, 3), 255, np.uint8), 8)
    shown = show.strips({"a": black, "b": white}, "black over white", num=4)
    pixels = np.asarray(Image.open(io.BytesIO(shown.data)).convert("L"))
    assert pixels.shape[1] == 4 * 192 + 3 * 4  # doubled, as many as fit on a page
    upper, lower = np.array_split(pixels, 2)
    assert upper[30:140, 10:90].max() < 30 and lower[40:140, 10:90].min() > 225


@pytest.mark.parametrize("path", DRAWINGS, ids=lambda path: path.stem)
def test_a_drawing_is_valid_svg_with_a_title_and_all_inside_the_sheet(path):
    root = ET.parse(path).getroot()
    width, height = float(root.get("width")), float(root.get("height"))
    assert width == 860 and path.stat().st_size < 20_000
    for text in root.iter(f"{SVG}text"):
        assert 0 <= float(text.get("x")) <= width and 0 <= float(text.get("y")) <= height


def test_a_drawing_shows_where_nothing_was_run_yet_and_has_words():
    bundle, _ = show.drawing("guidance")._repr_mimebundle_()
    image = ET.fromstring(bundle["text/html"].replace(">", "/>"))  # no viewer distrusts an image
    kind, _, data = image.get("src").partition(";base64,")
    assert kind == "data:image/svg+xml" and image.get("alt") in bundle["text/plain"]
    assert ET.fromstring(base64.b64decode(data)).find(f"{SVG}title").text == image.get("alt")


@pytest.mark.parametrize("path", DRAWINGS, ids=lambda path: path.stem)
def test_no_writing_runs_over_the_edge_of_its_box(path):
    root = ET.parse(path).getroot()
    boxes = [[float(r.get(k)) for k in ("x", "y", "width", "height")]
             for r in root.iter(f"{SVG}rect") if r.get("x") and r.get("rx") == "7"]  # fmt: skip
    for text in root.iter(f"{SVG}text"):
        if text.get("text-anchor") != "middle" or path.stem == "three_pipelines":
            continue
        x, y, size = (float(text.get(k)) for k in ("x", "y", "font-size"))
        half = 0.24 * size * len(text.text)  # of narrow letters
        for left, top, w, h in boxes:
            if top < y < top + h and left < x < left + w:
                assert left <= x - half and x + half <= left + w, text.text


def test_an_unknown_drawing_is_answered_with_those_there_are():
    with pytest.raises(ValueError, match="'latte'.*|.*guidance.*"):
        show.drawing("lattte")


def test_drawings_of_facts_say_what_the_facts_say():
    written = {path.stem: "".join(ET.parse(path).getroot().itertext()) for path in DRAWINGS}
    for event in facts("timeline").to_dict("records"):
        assert event["name"] in written["timeline"] and event["what"] in written["timeline"]
        assert str(event["date"])[:7] in written["timeline"]
    dates = [str(d) for d in facts("timeline").date]
    assert dates == sorted(dates)
    words = set(written["three_pipelines"].split())
    compared = facts("pipelines")
    for row in compared[compared.stage != "source"].to_dict("records"):
        assert set(" ".join((row["ours"], row["hunyuan"], row["opensora"])).split()) <= words | {""}
