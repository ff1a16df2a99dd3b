import json
import warnings

import pytest

from vidgen_lab.pipeline import manifest
from vidgen_lab.pipeline.manifest import Row


def row(source="a.mp4", clip_id="0123", stage="read", status="kept", **more) -> Row:
    return Row(source, clip_id, stage, status, **more)


def test_a_row_is_one_line_that_reads_back_equal():
    awkward = row(
        "日本 'é'\n.mp4", span=(0.1, 2.0 / 3), frames=(0, 5), metrics={"b": 1.5, "a": None}
    )
    line = awkward.to_json()
    assert "\n" not in line
    assert Row(**json.loads(line)).to_json() == line
    assert Row(**json.loads(line)).source == awkward.source


def test_what_json_cannot_hold_becomes_null_and_numpy_disappears():
    import numpy as np

    line = row(metrics={"x": float("nan"), "y": np.float32(0.5), "z": np.arange(2)}).to_json()
    assert json.loads(line)["metrics"] == {"x": None, "y": 0.5, "z": [0, 1]}


def test_a_rejection_names_metric_value_and_threshold_and_an_error_a_reason():
    lost = row().rejected("quality", "blurred", "edge_steepness", 0.1, 0.3)
    assert (lost.status, lost.metric, lost.value, lost.threshold) == (
        "rejected", "edge_steepness", 0.1, 0.3,
    )  # fmt: skip
    with pytest.raises(ValueError, match="needs a reason"):
        row(status="error")
    with pytest.raises(
        ValueError, match="status must be one of kept, rejected, error, not 'dropped'"
    ):
        row(status="dropped")


def test_the_manifest_is_sorted_whatever_the_order(tmp_path):
    table = [row("b.mp4"), row("a.mp4", stage="scenes"), row("a.mp4")]
    text = manifest.manifest_text(table)
    assert text == manifest.manifest_text(reversed(table))
    (tmp_path / "m.jsonl").write_text(text, encoding="utf-8")
    assert [(r.stage, r.source) for r in manifest.read_manifest(tmp_path / "m.jsonl")] == [
        ("read", "a.mp4"), ("read", "b.mp4"), ("scenes", "a.mp4"),
    ]  # fmt: skip


NO_METRICS = row().to_json().replace('"metrics": {}', '"metrics": null').encode()


@pytest.mark.parametrize("line", [b"{torn", b'{"source": "caf\xe9"}', NO_METRICS])
def test_a_broken_manifest_names_its_line(tmp_path, line):
    (tmp_path / "m.jsonl").write_bytes(row().to_json().encode() + b"\n" + line)
    with pytest.raises(ValueError, match="line 2"):
        manifest.read_manifest(tmp_path / "m.jsonl")


def test_losing_inventing_or_doubling_a_clip_is_noticed():
    read = [row("a.mp4"), row("b.mp4")]
    given = [r.to("scenes") for r in read]
    returned = [r.to("quality") for r in given]
    manifest.check_funnel([*read, *given, *returned], "quality")
    for wrong in (returned[:1], [*returned, row("c.mp4", stage="quality")], [returned[0]] * 2):
        with pytest.raises(AssertionError, match="; lost "):
            manifest.check_funnel([*read, *given, *wrong], "quality")


def test_the_funnel_is_counted_from_the_rows_and_checked():
    read = [row("a.mp4"), row("b.mp4"), row("c.mp4", status="error", reason="damaged")]
    clips = [row("a.mp4", "1", "scenes"), row("a.mp4", "2", "scenes"), row("b.mp4", "3", "scenes")]
    quality = [clips[0].to("quality"), clips[1].failed("quality", "x")]
    quality.append(clips[2].rejected("quality", "blurred", "edge_steepness", 0, 1))
    table = [*read, *clips, *quality]
    manifest.check_funnel(table, "quality")
    assert manifest.funnel(table)["read"] == {"in": 3, "kept": 2, "rejected": 0, "error": 1}
    assert manifest.funnel(table)["quality"] == {"in": 3, "kept": 1, "rejected": 1, "error": 1}
    assert manifest.reasons(table) == {"read: damaged": 1, "quality: x": 1, "quality: blurred": 1}
    with pytest.raises(AssertionError, match="; lost "):
        manifest.check_funnel(table[:-1], "quality")
    with pytest.raises(AssertionError, match="1 in, 0 out"):
        manifest.check_funnel(table)
    with pytest.raises(AssertionError, match=r"scenes: 2 in, 1 out; lost \['b.mp4'\]"):
        manifest.check_funnel([*read, *clips[:2]], "scenes")


def test_a_manifest_of_an_earlier_version_is_read_and_said_so(tmp_path):
    old = row("a.mp4", metrics={"sharpness": 0.5, "motion": 1.0, "bright": 0})
    lost = old.rejected("quality", "blurred", "sharpness", 0.5, 0.6)
    path = tmp_path / "m.jsonl"
    path.write_text(manifest.manifest_text([old, lost]))
    with pytest.warns(UserWarning, match=r"edge_steepness \(sharpness\) and flow_speed \(motion\)"):
        read = manifest.read_manifest(path)
    assert {r.metric for r in read} == {None, "edge_steepness"}
    assert read[0].metrics == {"edge_steepness": 0.5, "flow_speed": 1.0, "bright": 0}
    path.write_text(manifest.manifest_text(read))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert manifest.read_manifest(path) == read
