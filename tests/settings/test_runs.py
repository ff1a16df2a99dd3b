import json
from dataclasses import asdict

import pytest

from vidgen_lab.settings import runs as runs_module
from vidgen_lab.settings.hardware import Probe
from vidgen_lab.settings.runs import Run, forecast, load_runs, record_run, runs_file
from vidgen_lab.settings.tiers import load_tiers


def run(seconds=10.0, **changes):
    facts = dict(
        task="clip",
        tier="tiny",
        seconds=seconds,
        peak_memory_gib=1.0,
        device_kind="cpu",
        device="laptop",
        cores=4,
        date="2025-01-01",
    )
    return Run(**(facts | changes))


LAPTOP = Probe("cpu", "laptop", None, 0.0, 8.0, 100.0, 4)


def test_without_a_recorded_run_nothing_is_claimed():
    empty = forecast("a100", 1, runs=[run()])
    assert empty.seconds is None and empty.peak_memory_gib is None
    assert empty.describe() == ("No run of chapter 1 at tier a100 is recorded yet: no forecast.")


def test_median_time_and_largest_memory():
    runs = [run(4), run(5, peak_memory_gib=2.5), run(60), run(1, tier="ci"), run(1, task="x")]
    found = forecast(load_tiers()["tiny"], "clip", runs=runs)
    assert (found.seconds, found.peak_memory_gib, len(found.runs)) == (5, 2.5, 3)
    assert "about 5 s (4 to 60 s)" in found.describe()


def test_this_device_counts_before_its_kind_before_any():
    gpu = run(1, device_kind="cuda", device="T4")
    other = run(20, device="server", cores=64)
    assert forecast("tiny", machine=LAPTOP, runs=[run(9), other, gpu]).seconds == 9
    assert forecast("tiny", machine=LAPTOP, runs=[run(9), other, gpu]).same_device
    elsewhere = forecast("tiny", machine=LAPTOP, runs=[other, gpu])
    assert elsewhere.seconds == 20
    assert "Not this device" in elsewhere.describe()
    assert forecast("tiny", machine=LAPTOP, runs=[gpu]).seconds == 1
    assert "Not this device" not in forecast("tiny", runs=[gpu]).describe()


def test_the_same_processor_with_other_cores_is_another_device():
    assert not forecast("tiny", machine=LAPTOP, runs=[run(cores=2)]).same_device


def test_recorded_runs_come_back(tmp_path, monkeypatch):
    path = tmp_path / "table.jsonl"
    monkeypatch.setattr(runs_module, "runs_file", lambda: path)
    runs = [
        run(task="chapter 1", versions={"torch": "2.13.0"}),
        run(3, note="Größe\u2028und Länge"),
    ]  # U+2028 ends lines, too
    for one in runs:
        record_run(one)
    assert load_runs() == load_runs(path) == runs
    assert load_runs(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hours": 3}, "no setting hours"),
        ({"seconds": 0}, "seconds must be 1e-06 or more, not 0"),
        ({"tier": None}, None),
    ],
)
def test_a_row_outside_the_schema_is_named(tmp_path, change, message):
    row = asdict(run()) | change
    if message is None:
        del row["tier"]
        message = "tier"
    path = tmp_path / "table.jsonl"
    path.write_text(json.dumps(asdict(run())) + "\n\n" + json.dumps(row) + "\n")
    with pytest.raises(ValueError, match=f"line 3 is no recorded run: .*{message}"):
        load_runs(path)


def test_the_committed_table_fits_the_schema():
    assert runs_file().is_file()
    tiers = load_tiers()
    for one in load_runs():
        assert one.tier in tiers
        assert one.device_kind in ("cpu", "cuda", "mps")
