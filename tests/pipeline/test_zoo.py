"""Every bad input ends as kept, rejected or error with the reason expected; nothing hangs."""

import json

import psutil
import pytest

from tests.pipeline import zoo
from vidgen_lab.pipeline import manifest, report
from vidgen_lab.pipeline.deliver.export import write_exports
from vidgen_lab.pipeline.prepare import prepare
from vidgen_lab.pipeline.runner import Execution


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = zoo.build(tmp_path_factory.mktemp("zoo") / "videos")
    out = folder.parent / "out"
    table = prepare(folder, out, execution=Execution("process", workers=2))
    write_exports(table, out)
    ends = {}
    for row in manifest.sort_rows(table):
        ends[row.source] = row  # the last stage a file came to
    return folder, out, table, ends


@pytest.mark.parametrize("name", zoo.ZOO)
def test_status_and_reason(run, name):
    status, reason = zoo.ZOO[name][1]
    end = run[3][name]
    assert (end.status, end.reason[: len(reason)]) == (status, reason), end


def test_nothing_is_missing_and_nothing_invented(run):
    folder, out, table, ends = run
    assert set(ends) == set(zoo.ZOO) and len(zoo.ZOO) >= 40
    manifest.check_funnel(manifest.read_manifest(out / "manifest.jsonl"))
    assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) < 5 * 2**20


def test_no_process_is_left(run):
    assert not [p for p in psutil.Process().children(recursive=True) if "ffmpeg" in p.name()]


def test_every_kept_clip_was_written(run):
    _, out, table, _ = run
    kept = [r for r in table if r.stage == "split"]
    assert {p.name for p in (out / "clips").iterdir()} == {f"{r.clip_id}.mp4" for r in kept}


def test_rows_and_exports_say_which_clips_were_tone_mapped(run):
    _, out, table, _ = run
    final = [row for row in table if row.stage == "split"]
    said = {row.source: row.info["clip"].get("tone_mapped") for row in final}
    mapped = {name: curve for name, curve in said.items() if curve}
    assert mapped == {"deep.mkv": "PQ", "hlg.mkv": "HLG"}
    lines = [json.loads(line) for path in (out / "dataset").rglob("metadata.jsonl")
             for line in path.read_text(encoding="utf-8").splitlines()]  # fmt: skip
    assert {x["source"]: x["tone_mapped"] for x in lines if x["tone_mapped"]} == mapped
    lists = [path.read_text(encoding="utf-8").split() for path in out.rglob("tone_mapped.txt")]
    assert sorted(sum(lists, [])) == ["HLG", "PQ"]
    assert f"tones: 2 of {len(final)} clips were HDR" in report.summary(table)


@pytest.mark.slow
def test_again_and_with_one_process_it_is_the_same(run):
    folder, out, _, _ = run
    once = (out / "manifest.jsonl").read_bytes()
    prepare(folder, out, execution=Execution("process", workers=1))
    assert (out / "manifest.jsonl").read_bytes() == once
    prepare(folder, out.parent / "serial", execution=Execution("serial"))
    assert (out.parent / "serial" / "manifest.jsonl").read_bytes() == once
