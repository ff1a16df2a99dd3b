import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from tests.pipeline.samples import moving, save
from vidgen_lab.pipeline.deliver.cut import OutputError
from vidgen_lab.pipeline.deliver.provenance import (
    check_checksums,
    check_history,
    history,
    rebuild_clip,
    without_licence,
    write_checksums,
)
from vidgen_lab.pipeline.manifest import read_manifest
from vidgen_lab.pipeline.prepare import Execution, prepare


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("life")
    for seed in (1, 2):
        save(moving(seed), folder / "in" / f"{seed}.mp4")
    (folder / "in" / "rights.csv").write_text("file,licence,url,consent\n1.mp4,CC0,,\n")
    prepare(folder / "in", folder / "out", execution=Execution("serial"))
    return folder, read_manifest(folder / "out" / "manifest.jsonl")


def test_a_clip_tells_its_life_from_the_file_to_the_split(run):
    _, rows = run
    clip = next(r for r in rows if r.stage == "split")
    links = history(rows, clip.clip_id)
    stages = [link.stage for link in links]
    assert stages[:3] == ["read", "scenes", "quality"] and stages[-1] == "split"
    assert "CC0" in " ".join(link.what for link in links) or clip.source == "2.mp4"
    check_history(rows, clip.clip_id, links[-1].digest)
    with pytest.raises(ValueError, match="no clip"):
        history(rows, "nobody")


def test_a_changed_or_missing_row_breaks_the_chain(run):
    _, rows = run
    clip = next(r for r in rows if r.stage == "split")
    signed = history(rows, clip.clip_id)[-1].digest
    place = next(
        i for i, r in enumerate(rows) if r.stage == "quality" and r.clip_id == clip.clip_id
    )
    softer = replace(rows[place], metrics={**rows[place].metrics, "edge_steepness": 0.9})
    for tampered in ([*rows[:place], softer, *rows[place + 1 :]], rows[:place] + rows[place + 1 :]):
        with pytest.raises(ValueError, match="not those that were signed"):
            check_history(tampered, clip.clip_id, signed)


def test_the_manifest_rebuilds_a_clip_and_refuses_another_source(run, tmp_path):
    folder, rows = run
    clip = next(r for r in rows if r.stage == "split")
    again = rebuild_clip(clip, folder / "in", tmp_path / "again.mp4")
    assert again.read_bytes() == (folder / "out" / clip.info["clip"]["file"]).read_bytes()
    save(moving(9), tmp_path / clip.source)
    with pytest.raises(OutputError, match="not the file"):
        rebuild_clip(clip, tmp_path, tmp_path / "x.mp4")


def test_clips_without_a_licence_are_listed(run):
    assert without_licence(run[1]) == ["2.mp4"]


def test_a_hand_over_is_checked_by_anyone(tmp_path):
    names = ["a/x.mp4", "日本 two.mp4"]
    names += ["new\nline \\n.mp4"] if os.name != "nt" else []
    names += ["caf\udce9.mp4"] if sys.platform == "linux" else []
    for name in names:
        path = tmp_path / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(repr(name).encode())
    listing = write_checksums(tmp_path / "videos", tmp_path / "list.sha256")
    assert check_checksums(tmp_path / "videos", listing) == {}
    if shutil.which("sha256sum"):
        tool = ["sha256sum", "--check", "--strict", str(listing)]
        subprocess.run(tool, cwd=tmp_path / "videos", check=True, capture_output=True)
    (tmp_path / "videos" / "a" / "x.mp4").write_bytes(b"another cut")
    (tmp_path / "videos" / "日本 two.mp4").rename(tmp_path / "videos" / "moved.mp4")
    assert check_checksums(tmp_path / "videos", listing) == {
        "a/x.mp4": "changed",
        "moved.mp4": "not listed",
        "日本 two.mp4": "missing",
    }
