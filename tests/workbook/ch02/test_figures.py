"""Chapter 2's figures and drawings: right numbers in the alt text, fixed size, small, valid."""

import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from vidgen_lab.pipeline.deliver.compress import Compression
from vidgen_lab.pipeline.manifest import Row
from vidgen_lab.pipeline.select.balance import ConceptBalancer
from vidgen_lab.pipeline.select.gates import GateSettings
from vidgen_lab.toyworld.raw import Planted
from vidgen_lab.workbook import show as style
from vidgen_lab.workbook.ch02 import diagrams as data_diagrams
from vidgen_lab.workbook.ch02 import figures as data_figures
from vidgen_lab.workbook.notes import facts


def rows() -> list[Row]:
    clips = []
    for n in range(12):
        name = f"{n}.mp4"
        metrics = {"sharpness": 0.1 + 0.03 * n, "seconds": 2, "bright": 0.01 * n}
        clips.append(Row(name, str(n), "scenes", "kept", frames=(0, 9), metrics=metrics))
    quality = [c.to("quality") for c in clips]
    for n in range(4):
        quality[n] = clips[n].rejected("quality", "blurred", "sharpness", 0.1, 0.22)
    unique = [q.to("duplicates", group=q.clip_id) for q in quality if q.status == "kept"]
    unique[0] = unique[0].rejected("duplicates", "duplicate: of 5.mp4", "copies", 2, 1)
    broken = Row("x.mp4", "", "read", "error", reason="truncated: 3 frames")
    return [broken, *clips, *quality, *unique]


TRUTH = [Planted(f"{n}.mp4", "blur", "rejected", "blurred", n) for n in range(5)]


@pytest.fixture(scope="module")
def pictures() -> dict:
    table = rows()
    clips = [r for r in table if r.stage == "quality"]
    gates = GateSettings().by_name()
    codecs = [Compression(c, q, 1000 * q, 2.0, 0.9, 30, 0.5) for c in "ab" for q in (20, 30)]
    vectors = np.repeat(np.eye(3), (9, 2, 1), axis=0)
    curve = np.abs(np.sin(np.arange(40)))
    return {
        "funnels": data_figures.funnels(table),
        "why": data_figures.why_clips_left(table),
        "threshold": data_figures.threshold(clips, gates["min_sharpness"], TRUTH),
        "threshold without truth": data_figures.threshold(clips, gates["min_sharpness"]),
        "gates": data_figures.all_gates(clips, list(gates.values())),
        "codecs": data_figures.codec_chart(codecs),
        "rate": data_figures.rate_curve([(4, 2.0, 40.0), (32, 0.5, 30.0)]),
        "cuts": data_figures.cut_lines({"change": curve}, (10,), {"adaptive": [10], "hash": []}),
        "balance": data_figures.balance_bars(ConceptBalancer().balance_dataset(vectors)),
        "frames": data_figures.chosen_frames(curve, {"even": [0, 39], "early": [0, 3]}, (10,)),
        "motion": data_figures.measures_of_motion({"a": {"x": 1.0}, "b": {"x": 2.0}}),
        "waiting": data_figures.waiting({"wait": [0.01, 0.02], "drop": [0.005]}),
    }


def test_every_figure_is_described_fixed_in_width_and_small(pictures):
    for name, picture in pictures.items():
        image = Image.open(io.BytesIO(picture.data))
        assert image.width == round(style.WIDTH_INCHES * style.DPI), name
        assert len(picture.data) < 60_000 and len(picture.alt) > 20, name


def test_alt_texts_carry_the_numbers(pictures):
    alt = {name: picture.alt for name, picture in pictures.items()}
    assert "shots found 12, quality 8, duplicates 7" in alt["funnels"]
    assert "60%, 83%, 85%, 91%" in alt["funnels"]
    assert "quality: blurred 4" in alt["why"] and "read: truncated 1" in alt["why"]
    assert "8 kept, 4 dropped at 0.22; precision 1.00, recall 0.80" in alt["threshold"]
    assert "precision" not in alt["threshold without truth"]
    assert "sharpness 4 out" in alt["gates"]
    assert "a crf 20: 20 kB, SSIM 0.900" in alt["codecs"]
    assert "adaptive at [10]" in alt["cuts"] and "early ends at frame 3" in alt["frames"]
    assert "wait: 15 ms" in alt["waiting"]


def test_the_books_funnel_is_marked_as_illustrative(pictures):
    assert "illustrative" in pictures["funnels"].alt or "example" in pictures["funnels"].alt


def test_drawings_are_sound_svg_with_a_description():
    table = facts("pipelines")
    columns = {"ours": list(table.ours), "a": list(table.hunyuan), "b": list(table.opensora)}
    for drawing in (
        data_diagrams.stages(),
        data_diagrams.pyramid([("all", "note"), ("few", "note")]),
        data_diagrams.side_by_side(columns, list(table.stage)),
    ):
        root = ET.fromstring(drawing.svg())
        assert root.get("width") == "860" and len(drawing.alt) > 20
