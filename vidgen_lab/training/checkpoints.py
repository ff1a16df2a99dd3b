"""A training run's folder: a checkpoint that a killed run continues from, and a log."""

import json
import os
import time
from pathlib import Path
from typing import Any

import torch

from vidgen_lab.files import write_files

CHECKPOINT_EVERY = 10  # lines of the log


class Run:
    """Checkpoint and log of one training in `folder`.

    `parts` is everything with a `state_dict` that the next step depends on. Whatever else a step
    needs (batch, noise, learning rate) must be a function of the step number alone; then a resumed
    run repeats an uninterrupted one bit by bit.
    """

    def __init__(self, folder: Path, parts: dict[str, Any], total: int, log_every: int):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.parts, self.total, self.log_every = folder, parts, total, log_every
        self.started = time.perf_counter()

    def resume(self, device: str = "cpu") -> int:
        """Restore every part and return the step to continue with; 0 without a checkpoint."""
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return 0
        state = torch.load(path, map_location=device, weights_only=True)
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        self._forget_after(state["step"])
        return state["step"]

    def _forget_after(self, step: int) -> None:
        """Drop the lines of the log that will be written again."""
        log = self.folder / "log.jsonl"
        lines = log.read_text().splitlines(keepends=True) if log.exists() else []
        kept = [line for line in lines if json.loads(line)["step"] <= step]
        write_files({log: "".join(kept)})

    def save(self, step: int) -> None:
        """Write the checkpoint; a kill in the middle leaves the old one whole."""
        state = {name: part.state_dict() for name, part in self.parts.items()} | {"step": step}
        temporary = self.folder / "checkpoint.tmp"
        torch.save(state, temporary)
        os.replace(temporary, self.folder / "checkpoint.pt")

    def logs_at(self, step: int) -> bool:
        return step % self.log_every == 0 or step == self.total

    def checkpoints_at(self, step: int) -> bool:
        return step % (CHECKPOINT_EVERY * self.log_every) == 0 or step == self.total

    def log(self, step: int, **numbers: float) -> None:
        """Append a line to log.jsonl and print it."""
        row = {"step": step} | {
            name: round(torch.as_tensor(value).item(), 5) for name, value in numbers.items()
        }
        row["seconds"] = round(time.perf_counter() - self.started, 1)
        with (self.folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(row) + "\n")
        print(row, flush=True)
