"""What a run tells about itself."""

import sys

import pytest
import torch

from vidgen_lab.training.monitor import peak_memory


def test_memory_is_in_bytes_whichever_unit_the_system_counts_in(monkeypatch):
    resource = pytest.importorskip("resource")
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for system, unit in (("linux", 1024), ("darwin", 1)):
        monkeypatch.setattr(sys, "platform", system)
        assert used * unit <= peak_memory(torch.device("cpu")) <= used * unit * 1.1
