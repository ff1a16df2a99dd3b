"""Recorded runs, and the forecasts made from them: no number of seconds is written in prose."""

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from vidgen_lab.config import Checked, load
from vidgen_lab.files import read_rows
from vidgen_lab.paths import data_dir
from vidgen_lab.settings.hardware import Probe
from vidgen_lab.settings.tiers import Tier


@dataclass(frozen=True)
class Run(Checked, seconds=(1e-6, math.inf), peak_memory_gib=(1e-6, math.inf)):
    """One measured run: a line of data/runs/recorded_runs.jsonl.

    Attributes:
        task: "chapter 1", "clip" (one clip at the tier's defaults), ...
        seconds: wall time.
        peak_memory_gib: of a clip the GPU memory that PyTorch allocated on CUDA, else the process's
            resident memory; of a chapter always the resident memory of all its processes.
        device_kind: "cpu", "cuda" or "mps".
        device: its name.
        date: YYYY-MM-DD.
    """

    task: str
    tier: str
    seconds: float
    peak_memory_gib: float
    device_kind: str
    device: str
    cores: int
    date: str
    versions: dict[str, str] = field(default_factory=dict)
    model: str = ""
    note: str = ""


@dataclass(frozen=True)
class Forecast:
    """What recorded runs say about a task. `runs` may be empty: then nothing is claimed.

    Attributes:
        same_device: whether they were made on a device like this one; None if that was not asked.
    """

    task: str
    tier: str
    runs: tuple[Run, ...]
    same_device: bool | None = None

    @property
    def seconds(self) -> float | None:
        """Median wall time in seconds, or None without a recorded run."""
        return statistics.median(r.seconds for r in self.runs) if self.runs else None

    @property
    def peak_memory_gib(self) -> float | None:
        """Largest recorded peak in GiB, or None."""
        return max((r.peak_memory_gib for r in self.runs), default=None)

    def describe(self) -> str:
        """One line for people."""
        if not self.runs:
            return f"No run of {self.task} at tier {self.tier} is recorded yet: no forecast."
        last = max(self.runs, key=lambda r: r.date)
        seconds = [r.seconds for r in self.runs]
        spread = "" if len(seconds) == 1 else f" ({min(seconds):.3g} to {max(seconds):.3g} s)"
        count = "1 recorded run" if len(self.runs) == 1 else f"{len(self.runs)} recorded runs"
        caution = " Not this device: expect another time." if self.same_device is False else ""
        return (
            f"{self.task} at tier {self.tier}: about {self.seconds:.3g} s{spread}, "
            f"{self.peak_memory_gib:.1f} GiB memory; {count}, "
            f"the last on {last.date}, {last.device}, {last.cores} cores.{caution}"
        )


def runs_file() -> Path:
    return data_dir() / "runs" / "recorded_runs.jsonl"


def load_runs(path: Path | None = None) -> list[Run]:
    """Read the recorded runs. ValueError names the line that does not fit the schema."""
    path = Path(path) if path else runs_file()
    if not path.is_file():
        return []
    return read_rows(path, lambda row: load(Run, dict(row)), "recorded run")


def record_run(run: Run) -> None:
    """Append one measured run to the table."""
    with runs_file().open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(run), ensure_ascii=False, sort_keys=True) + "\n")


def forecast(
    tier: str | Tier,
    task: str | int = "clip",
    machine: Probe | None = None,
    runs: Sequence[Run] | None = None,
) -> Forecast:
    """What recorded runs say about a task at a tier; an integer task n means "chapter n".

    Runs on a device of the same name and as many cores count alone where there are any; else
    runs on the same kind of device; else, or without a machine, all. `runs`: by default the table.
    """
    tier = getattr(tier, "name", tier)
    task = f"chapter {task}" if isinstance(task, int) else task
    runs = [r for r in (load_runs() if runs is None else runs) if (r.tier, r.task) == (tier, task)]
    if machine is None:
        return Forecast(task, tier, tuple(runs))
    same_kind = [r for r in runs if r.device_kind == machine.device]
    same = [r for r in same_kind if (r.device, r.cores) == (machine.name, machine.cores)]
    return Forecast(task, tier, tuple(same or same_kind or runs), same_device=bool(same))
