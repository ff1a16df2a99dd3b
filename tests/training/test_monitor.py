"""What a run tells about itself."""

import sys
from functools import partial

import pytest
import torch

from vidgen_lab.latte import Latte, LatteConfig
from vidgen_lab.training import trainer
from vidgen_lab.training.config import TrainingConfig
from vidgen_lab.training.monitor import disk_forecast, peak_memory
from vidgen_lab.training.objectives import ObjectiveConfig
from vidgen_lab.training.optim import compile_blocks


def test_memory_is_in_bytes_whichever_unit_the_system_counts_in(monkeypatch):
    resource = pytest.importorskip("resource")
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for system, unit in (("linux", 1024), ("darwin", 1)):
        monkeypatch.setattr(sys, "platform", system)
        assert used * unit <= peak_memory(torch.device("cpu")) <= used * unit * 1.1


def test_the_disk_forecast_has_units_that_say_something(tmp_path, monkeypatch):
    monkeypatch.setattr("vidgen_lab.training.monitor.free_disk_gib", lambda folder: 2**-8)
    assert disk_forecast(tmp_path, 2**21, 1) == (
        "checkpoints of 2.00MiB, at most 6.00MiB of 4.00MiB free: more than there is; "
        "lower keep_last"
    )
    with pytest.raises(OSError, match="a checkpoint takes 5.00MiB and .* has 4.00MiB left"):
        disk_forecast(tmp_path, 5 * 2**20, 1)


def test_a_compiled_run_learns_the_same_and_knows_how_much_it_computes(tmp_path, monkeypatch):
    compiling = partial(compile_blocks, backend="eager")  # needs no C++ compiler
    monkeypatch.setattr(trainer, "compile_blocks", compiling)
    histories = []
    for compiled in (False, True):
        torch.manual_seed(0)
        model = Latte(
            LatteConfig(hidden_size=24, depth=4, num_heads=2, sample_size=8, num_frames=2)
        )
        config = TrainingConfig(3, compile=compiled, log_every=1, precision="no", tensorboard=False)
        data = [{"latents": torch.randn(2, 4, 2, 8, 8)}]
        run = trainer.VideoModelTrainer(
            model, ObjectiveConfig().build(), data, tmp_path / str(compiled), config
        )
        histories.append(run.fit().history)
    assert all(row["mfu"] > 0 for rows in histories for row in rows)
    plain, compiled = ([row["loss"] for row in rows] for rows in histories)
    assert compiled == pytest.approx(plain, rel=1e-6)
