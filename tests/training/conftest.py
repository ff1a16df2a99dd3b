"""What the tests of the recipes share: a training that is killed half-way."""

import pytest

from vidgen_lab.training import checkpoints


class Killed(Exception):
    """Stands in for kill -9 right after a checkpoint."""


@pytest.fixture
def dying(monkeypatch):
    """Make the next training die at its first checkpoint, which comes after two steps."""
    save = checkpoints.Run.save

    def save_then_die(run, step):
        save(run, step)
        if step < run.total:
            raise Killed

    monkeypatch.setattr(checkpoints, "CHECKPOINT_EVERY", 1)
    monkeypatch.setattr(checkpoints.Run, "save", save_then_die)
