"""A training run's folder: settings, log and checkpoints, from which a killed run continues.

    run.json         who this run is, with which settings, seed and code
    log.jsonl        one line of numbers for every step that was logged
    checkpoints/step_00001000/
        checkpoint.json    step, what else lies here with size and checksum; written last
        *.safetensors      weights, averaged weights
        *.pt               optimizers, position in the data, random states; loads weights_only

A checkpoint is written under another name and renamed when it is whole: what bears the name is
complete, whenever the power fails. A torn or foreign one is passed over with the reason.
"""

import io
import json
import math
import os
import shutil
import uuid
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from vidgen_lab import __version__
from vidgen_lab.files import read_lines, write_files
from vidgen_lab.paths import code_version
from vidgen_lab.training.config import TrainingConfig

try:
    import fcntl
except ImportError:  # Windows: two runs in one folder are the user's to avoid
    fcntl = None

FORMAT = "vidgen-lab training checkpoint 1"
# What a resumed run may change without being another run: none of it touches a number.
FREE_SETTINGS = ("keep_last", "checkpoint_every", "checkpoint_minutes", "tensorboard", "measure")


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or read. One line: which, why, and what to do."""


@dataclass(frozen=True)
class TrainingResult:
    """How `fit` ended.

    Attributes:
        step: the last one that was done.
        interrupted: by Ctrl-C or a signal; call again to go on.
        resumed_from: the step at which it began; 0 for a new run.
        history: the lines of the log.
    """

    step: int
    interrupted: bool
    resumed_from: int
    history: list[dict[str, float]] = field(repr=False)


class RunFolder:
    """The folder of one run. Of several processes all may read; the first alone writes."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.log_file = self.folder / "log.jsonl"
        self.checkpoints = self.folder / "checkpoints"
        self._about = self.folder / "run.json"
        self.id = self._code = ""

    # one run at a time ----------------------------------------------------------------------

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other runs out, as long as this process lives; RuntimeError if one is in."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("a+") as file:
            try:  # of the process and not the file: workers that outlive a killed run hold it not
                if fcntl is not None:
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.seek(0)
                raise RuntimeError(
                    f"another run (process {file.read().strip() or '?'}) trains in {self.folder}: "
                    "wait for it, stop it, or take another folder"
                ) from None
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield

    def agree(self, settings: Mapping[str, Any], allow: Sequence[str] = ()) -> dict[str, Any]:
        """Whether a run with these settings may begin here, or go on.

        Sets `id` to that of the run. Returns what changed, as {name: (before, now)}.

        Args:
            settings: all that the run depends on, nested; see `settings_of_a_run`.
            allow: dotted names of settings that may have changed, or their last parts.

        Raises:
            ValueError: others have changed, with the difference; or there are checkpoints and no
                run.json that tells whose they are.
        """
        if not self._candidates():
            self.id = uuid.uuid4().hex
            return {}
        if not self._about.exists():
            raise ValueError(
                f"{self.checkpoints} holds checkpoints, but {self._about} is not there to say of "
                "which run: put it back, or take another folder"
            )
        before = json.loads(self._about.read_text("utf-8"))
        self.id, self._code = before["id"], before["code"]
        changed = difference(before["settings"], _plain(settings))
        allowed = {*allow, *FREE_SETTINGS}
        if refused := [n for n in changed if not {n, n.rpartition(".")[2]} & allowed]:
            said = "; ".join(f"{n}: {a!r} -> {b!r}" for n, (a, b) in changed.items())
            if "micro_batches" in refused:
                said += ", which is processes times training.accumulation"
            flags = " ".join(f"--allow {name}" for name in refused)
            raise ValueError(
                f"{self.folder} holds a run with other settings ({said}): set them back, take "
                f"another folder, or go on all the same with {flags} "
                f"(in Python fit(allow={refused}))"
            )
        return changed

    def tell(self, settings: Mapping[str, Any]) -> None:
        """Write down who this run is, and by which versions of the code, one after the other."""
        code = dict.fromkeys(filter(None, [*self._code.split(", "), code_version()]))
        about = {"id": self.id, "version": __version__, "code": ", ".join(code)}
        about |= {"torch": torch.__version__, "settings": _plain(settings)}
        write_files({self._about: json.dumps(about, indent=2) + "\n"})

    # log ------------------------------------------------------------------------------------

    def log(self, row: Mapping[str, float]) -> None:
        """Append one line."""
        with self.log_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def history(self) -> list[dict[str, float]]:
        """All lines of the log that are whole."""
        return read_lines(self.log_file)

    def was_measured(self, step: int) -> bool:
        """Whether the log has the held-out loss of a step."""
        return any(row["step"] == step and "loss" not in row for row in self.history())

    def forget_after(self, step: int) -> None:
        """Drop the lines that will be written again."""
        kept = [json.dumps(row) + "\n" for row in self.history() if row["step"] <= step]
        write_files({self.log_file: "".join(kept)})

    # checkpoints ----------------------------------------------------------------------------

    def save(
        self,
        step: int,
        tensors: Mapping[str, Mapping[str, torch.Tensor]],
        states: Mapping[str, Any],
        keep_last: int,
    ) -> None:
        """Write the checkpoint of a step and remove old ones.

        A kill or an error in between leaves the checkpoints of other steps as they were;
        CheckpointError if it cannot be written.

        Args:
            step: how many are done.
            tensors: by NAME and name, become NAME.safetensors.
            states: of tensors and plain values, become NAME.pt.
            keep_last: how many of the newest stay, at least 1; the best one stays as well.
        """
        final = self.checkpoints / f"step_{step:08d}"
        part = self.checkpoints / f".{uuid.uuid4().hex}.part"
        try:
            part.mkdir(parents=True)
            files = {f"{n}.safetensors": save(_own(t)) for n, t in tensors.items()}
            files |= {f"{name}.pt": _pickled(state) for name, state in states.items()}
            about = {name: [len(data), zlib.crc32(data)] for name, data in files.items()}
            said = {"format": FORMAT, "run": self.id, "step": step, "files": about}
            for name, data in files.items():
                write_files({part / name: data})
            write_files({part / "checkpoint.json": json.dumps(said, indent=2)})
            _discard(final)
            part.rename(final)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"the checkpoint of step {step} was not written: {error}"
            ) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
        self._remove_old(step, keep_last)

    def latest(self) -> "Checkpoint | None":
        """The newest whole checkpoint of this run; warns of every newer one that is not."""
        for path in self._candidates():
            try:
                return Checkpoint(path, self.id)
            except CheckpointError as error:
                warnings.warn(f"{error}; the one before it is used", stacklevel=2)
        return None

    def best_step(self) -> int:
        """The step of the lowest held-out loss in the log, -1 without any. Step 0, which has no
        checkpoint, does not count."""
        rows = [row for row in self.history() if row["step"] and "held_out" in row]
        losses = {row["step"]: row["held_out"] for row in rows if math.isfinite(row["held_out"])}
        return min(losses, key=losses.get, default=-1)

    def _candidates(self) -> list[Path]:
        """Newest first; whatever else lies in the folder is no checkpoint."""
        found = self.checkpoints.glob("step_" + "[0-9]" * 8)
        return sorted((path for path in found if path.is_dir()), reverse=True)

    def _remove_old(self, step: int, keep_last: int) -> None:
        """What is newer than `step` was passed over: it does not count, and is not touched."""
        best, last = f"step_{self.best_step():08d}", f"step_{step:08d}"
        for path in [p for p in self._candidates() if p.name <= last][max(1, keep_last) :]:
            if path.name != best:
                _discard(path)
        for left in (*self.checkpoints.glob(".*.old"), *self.checkpoints.glob(".*.part")):
            shutil.rmtree(left, ignore_errors=True)  # of runs that were killed


class Checkpoint:
    """One whole checkpoint of the run with this id ("" takes any), checked against its checksums
    when opened: CheckpointError for a torn or foreign one."""

    def __init__(self, path: str | Path, run: str = "") -> None:
        self.path = Path(path)
        try:
            said = json.loads((self.path / "checkpoint.json").read_text("utf-8"))
            self.step, self.files, belongs = said["step"], said["files"], said["run"]
            foreign = said["format"] != FORMAT
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{self.path} is no whole checkpoint ({error})") from None
        if foreign or (run and belongs != run):
            raise CheckpointError(f"{self.path} belongs to another run or another program")
        for name, (size, checksum) in self.files.items():
            file = self.path / name
            whole = file.is_file() and file.stat().st_size == size
            if not whole or zlib.crc32(np.memmap(file, mode="r")) != checksum:
                raise CheckpointError(f"{self.path} is damaged: {name} is missing, cut or altered")

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        """What was saved as NAME.safetensors, by name, on the CPU; shapes and types as they
        were."""
        return load_file(self.path / f"{name}.safetensors")

    def state(self, name: str) -> Any:
        """What was saved as NAME.pt, on the CPU. CheckpointError if nothing was."""
        if f"{name}.pt" not in self.files:
            raise CheckpointError(f"{self.path} has no {name}: it is of a run without one")
        return torch.load(self.path / f"{name}.pt", map_location="cpu", weights_only=True)


def settings_of_a_run(
    config: TrainingConfig, processes: int, others: Mapping[str, Any]
) -> dict[str, Any]:
    """All that a resumed run must have as it was, or be allowed to change."""
    micro_batches = config.accumulation * processes
    return {"training": asdict(config), **others, "micro_batches": micro_batches}


def difference(before: Any, now: Any, name: str = "") -> dict[str, tuple[Any, Any]]:
    """{dotted name: (before, now)} of every leaf in which two nested settings differ."""
    if not (isinstance(before, Mapping) and isinstance(now, Mapping)):
        return {} if before == now else {name: (before, now)}
    changed = {}
    for key in before.keys() | now.keys():
        inner = f"{name}.{key}" if name else key
        changed |= difference(before.get(key), now.get(key), inner)
    return dict(sorted(changed.items()))


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(settings, default=str))


def _own(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """On the CPU, each with memory of its own: safetensors refuses what is shared."""
    return {name: t.detach().to("cpu").contiguous().clone() for name, t in tensors.items()}


def _pickled(state: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _discard(path: Path) -> None:
    """Remove a checkpoint so that at no moment half of it bears its name."""
    if path.exists():
        old = path.with_name(f".{uuid.uuid4().hex}.old")
        path.rename(old)
        shutil.rmtree(old, ignore_errors=True)
