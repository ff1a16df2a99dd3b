"""The three charts draw every number they are given and say it in words."""

import io

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vidgen_lab.workbook import charts, show


@pytest.fixture
def drawn(monkeypatch):
    """The figures that charts draw, to look into."""
    seen = []
    made = show.Drawn.__init__

    def note(self, *args, **kwargs):
        made(self, *args, **kwargs)
        seen.append(self)

    monkeypatch.setattr(show.Drawn, "__init__", note)
    return seen


PICTURES = {
    "lines": lambda: charts.lines({"a": [1, 2, 0.5], "b": [3, 4, 5]}, "Two lines."),
    "panels": lambda: charts.lines({"x": {"a": [1, 2]}, "y": {"a": [1, 4]}}, "Two panels."),
    "table": lambda: charts.lines(pd.DataFrame({"a": [1, 2]}, index=[10, 20]), "A table."),
    "smooth": lambda: charts.lines({"loss": np.linspace(9, 1, 50)}, "A loss.", smooth=9),
    "bars": lambda: charts.bars({"plain": 30.0}, "Peak.", limits={"T4": 15}, form="{:.1f}"),
    "stacked": lambda: charts.bars(
        pd.DataFrame({"ff": [0.6], "attention": [0.4]}, ["2B"]), "Shares.", stacked=True,
        form="{:.0%}",
    ),
    "two bars": lambda: charts.bars({"ours": {"a": 9}, "theirs": {"a": 4, "b": 1}}, "Two."),
    "images": lambda: charts.images({"a": np.eye(4), "b": np.ones((4, 4))}, "Masks.", ["4", "16"]),
}  # fmt: skip


@pytest.mark.parametrize("name", PICTURES)
def test_every_chart_is_described_fixed_in_width_and_small(name):
    before = dict(mpl.rcParams)
    picture = PICTURES[name]()
    image = Image.open(io.BytesIO(picture.data))
    assert image.width == picture.width == 860
    assert len(picture.alt) > 15 and len(picture.data) < 60_000
    assert np.asarray(image.convert("L")).std() > 3
    assert image.convert("RGB").getpixel((1, 1)) == (251, 250, 246)  # paper, white letters or not
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lines", "Two lines. a from 1 to 0.5; b from 3 to 5."),
        ("panels", "x a from 1 to 2; y a from 1 to 4"),
        ("bars", "Peak. plain 30.0."),
        ("stacked", "2B ff 60%; 2B attention 40%"),
        ("images", "a: 4; b: 16"),
    ],
)
def test_alt_texts_carry_the_numbers(name, words):
    assert words in PICTURES[name]().alt


def test_a_dip_is_said_too():
    assert "from 1 to 1, lowest 0.4" in charts.lines({"a": [1, 0.4, 1]}, "Likeness.").alt


def test_lines_keep_their_axis_and_options_reach_matplotlib(drawn):
    data = {"a": pd.Series([5, 6], [100, 400])}
    charts.lines(data, "x", level=5.5, xlabel="steps", ylim=(0, 9), xscale="log")
    axis = drawn[0].axes
    assert axis.lines[0].get_xdata().tolist() == [100, 400]
    assert axis.lines[1].get_ydata() == [5.5, 5.5]
    assert (axis.get_xlabel(), axis.get_ylim(), axis.get_xscale()) == ("steps", (0, 9), "log")


def test_a_logarithmic_axis_has_plain_numbers(drawn):
    charts.lines({"a": pd.Series([1, 2], [0.05, 0.5])}, "x", xscale="log")
    axis = drawn[0].axes.xaxis
    shown = [axis.get_major_formatter()(v) for v in axis.get_majorticklocs()]
    assert {"0.05", "0.1", "0.2", "0.5"} <= set(shown)
    assert not any(axis.get_minor_formatter()(v) for v in axis.get_minorticklocs())


def test_bars_begin_where_the_ones_below_end_only_if_stacked(drawn):
    data = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]}, index=["x", "y"])
    charts.bars(data, "x", stacked=True)
    charts.bars(data, "x")
    stacked, side = ([p.get_x() for p in d.axes.patches] for d in drawn)
    assert stacked == [0, 0, 1, 2] and side == [0] * 4
    tops = [p.get_y() for p in drawn[1].axes.patches]
    assert len(set(tops)) == 4
