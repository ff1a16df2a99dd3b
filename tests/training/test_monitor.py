"""What a run tells about itself."""

import sys

import pytest
import torch

from vidgen_lab.training.monitor import disk_forecast, peak_memory


def test_memory_is_in_bytes_whichever_unit_the_system_counts_in(monkeypatch):
    resource = pytest.importorskip("resource")
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for system, unit in (("linux", 1024), ("darwin", 1)):
        monkeypatch.setattr(sys, "platform", system)
        assert used * unit <= peak_memory(torch.device("cpu")) <= used * unit * 1.1


def test_the_disk_forecast_has_units_that_say_something(tmp_path, monkeypatch):
    monkeypatch.setattr("vidgen_lab.training.monitor.free_disk_gib", lambda folder: 2**-8)
    assert disk_forecast(tmp_path, 2**21, 1) == (
        "checkpoints of 2.0 MiB, at most 6.0 MiB of 4.0 MiB free: more than there is; "
        "lower keep_last"
    )
    with pytest.raises(OSError, match="a checkpoint takes 5.0 MiB and .* has 4.0 MiB left"):
        disk_forecast(tmp_path, 5 * 2**20, 1)
