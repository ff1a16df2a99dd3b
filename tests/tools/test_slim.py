"""Slimming keeps every picture and every frame recognisable, and touches nothing else."""

import base64
import io

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from tools.slim import slim
from vidgen_lab.toyworld import Scene, render
from vidgen_lab.video.clip import Clip
from vidgen_lab.video.reader import read_clip
from vidgen_lab.video.show import show_videos
from vidgen_lab.workbook.show import Picture, new_figure, photo, picture

ROWS = np.linspace(0, 255, 240).astype(np.uint8)


@pytest.fixture(scope="module")
def clip() -> Clip:
    return render(Scene("ball", "red", "left", "meadow", seed=1), num_frames=9).clip


@pytest.fixture
def notebook(clip) -> nbformat.NotebookNode:
    """A photo, a chart, two videos in one output, and words."""
    noise = np.random.default_rng(0).integers(0, 60, (240, 320, 3), dtype=np.uint8)
    figure, axis = new_figure(2)
    axis.plot(ROWS)
    shown = [photo(noise + ROWS[:, None, None] // 2, "noise"), picture(figure, "a line")]
    outputs = [_output(p) for p in shown]
    outputs.append(new_output("display_data", {"text/html": show_videos([clip, clip]).data}))
    outputs.append(new_output("display_data", {"text/html": "<b>words</b>", "text/plain": "words"}))
    return new_notebook(cells=[new_markdown_cell("# Title"), new_code_cell("1", outputs=outputs)])


def _output(shown: Picture) -> nbformat.NotebookNode:
    data, about = shown._repr_mimebundle_()
    return new_output("display_data", data, metadata=about)


def _size(notebook: nbformat.NotebookNode) -> int:
    return len(nbformat.writes(notebook).encode())


def _image(data: dict, mime: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(data[mime])))


def test_what_fits_is_left_alone(notebook):
    assert slim(notebook, _size(notebook)) is notebook


def test_no_coarser_than_needed(notebook):
    size = _size(notebook)
    little, much = (_size(slim(notebook, share * size // 100)) for share in (90, 40))
    assert 0.4 * size < little <= 0.9 * size
    assert much <= 0.4 * size


def test_all_is_still_there_and_looks_alike(notebook, clip, tmp_path):
    before = nbformat.from_dict(notebook)
    small = slim(notebook, 0)  # as small as it can be
    assert notebook == before, "the notebook that is passed in stays as it is"
    nbformat.validate(small)
    photo_, chart, videos, words = (o for o in small.cells[1].outputs)
    kept = np.asarray(_image(photo_.data, "image/jpeg").convert("L").resize((1, 8)), float)[:, 0]
    assert (np.diff(kept) > 5).all(), "dark above, bright below"
    assert photo_.metadata["image/jpeg"].alt == "noise"
    assert _image(chart.data, "image/png").size == _image(_charts(notebook), "image/png").size
    assert words == notebook.cells[1].outputs[3] and small.cells[0] == notebook.cells[0]
    sources = videos.data["text/html"].split("base64,")[1:]
    assert len(sources) == 2
    path = tmp_path / "video.mp4"
    path.write_bytes(base64.b64decode(sources[1].partition('"')[0]))
    found = read_clip(path)
    assert (found.num_frames, found.fps) == (clip.num_frames, clip.fps)
    colours = [frames.mean(axis=(0, 1, 2)) for frames in (found.frames, clip.frames)]
    assert np.abs(colours[0] - colours[1]).max() < 12


def _charts(notebook: nbformat.NotebookNode) -> dict:
    return notebook.cells[1].outputs[1].data
