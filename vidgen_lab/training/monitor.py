"""What a run tells about itself: losses, speed, memory, disk, samples; and being asked to stop."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidgen_lab.progress import Progress
from vidgen_lab.settings.hardware import GIB, free_disk_gib
from vidgen_lab.training import distributed

BANDS = 4  # of noise levels, in which the training loss is told apart
TIMING = ("seconds_per_step", "minutes_left", "peak_gib", "mfu")


class Meter:
    """Time, memory and arithmetic since the last line of the log.

    Attributes:
        flops: of one step of this process; 0 until it was counted.
        peak: FLOP/s, of which mfu is the share that was reached; measured once, as the rate of a
            large matrix product in the type that the run computes in.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.flops, self.peak = device, 0, 0.0
        self.start(0)

    def count(self, once: Callable[[], None], times: int, dtype: torch.dtype | None) -> None:
        """Count the FLOPs of `once`, which a step does so many times, and the device's rate."""
        from vidgen_lab.latte.measure import count_flops

        self.flops = max(1, count_flops(once) * times)
        self.peak = matmul_rate(self.device, dtype)

    def start(self, step: int) -> None:
        """Time the steps from this one on."""
        self._step, self._since = step, time.perf_counter()

    def row(self, step: int, steps: int) -> dict[str, float]:
        """Numbers for the log at `step` of `steps`, named in TIMING: no two runs have the same."""
        now, done = time.perf_counter(), max(1, step - self._step)
        seconds = (now - self._since) / done
        self._step, self._since = step, now
        row = {"seconds_per_step": seconds, "minutes_left": (steps - step) * seconds / 60}
        row["peak_gib"] = peak_memory(self.device) / GIB
        if self.flops and self.peak:
            row["mfu"] = self.flops / seconds / self.peak
        return row


class Window:
    """Means since the last line of the log, added up on the device without waiting for it.

    Every process adds its part; `means` adds up the parts. BANDS of noise levels are told apart.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.sums: dict[str, Tensor] = {}

    def add(
        self, loss: Tensor, losses: Tensor, numbers: dict[str, Tensor], levels: Tensor | None,
        share: float,
    ) -> None:  # fmt: skip
        """One micro-batch: its mean, its losses per sample [B], further numbers for the log, noise
        levels [B] in 0 .. 1 or None, and what it counts for: a step's shares add up to 1."""
        for name, value in ({"loss": loss} | numbers).items():
            self._add(name, share * value.float().mean())
        if levels is not None and losses.ndim:
            each = losses.flatten(1).mean(1) if losses.ndim > 1 else losses  # [B]
            band = (levels * BANDS).long().clamp(max=BANDS - 1)
            empty = torch.zeros(2, BANDS, device=self.device)
            self._add("bands", empty.index_add(1, band, torch.stack([each, torch.ones_like(each)])))

    def step(self, norm: float, share: float) -> None:
        """One step: its gradient's norm; `share` is 1 over the number of processes."""
        self._add("grad_norm", torch.tensor(norm * share, device=self.device))
        self._add("steps", torch.tensor(share, device=self.device))

    def _add(self, name: str, value: Tensor) -> None:
        self.sums[name] = self.sums[name] + value if name in self.sums else value

    def means(self) -> dict[str, float]:
        """Over steps and processes; begins anew."""
        together, self.sums = distributed.added(self.sums), {}
        steps, bands = together.pop("steps").item(), together.pop("bands", None)
        row = {"loss": 0.0}  # comes first
        row |= {name: value.item() / steps for name, value in together.items()}
        if bands is not None:
            for number, (total, count) in enumerate(bands.T.tolist()):
                if count:
                    row[f"loss_band_{number}"] = total / count
        return row

    def state_dict(self) -> dict[str, Tensor]:
        """The sums so far, by name; BANDS of them [2, BANDS]: losses and how many."""
        return {name: value.cpu() for name, value in self.sums.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from sums that were saved, on any device."""
        self.sums = {name: value.to(self.device) for name, value in state.items()}


def peak_memory(device: torch.device) -> int:
    """Bytes: allocated by PyTorch on a GPU, else the process's resident memory at its highest."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, others KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def matmul_rate(device: torch.device, dtype: torch.dtype | None) -> float:
    """FLOP/s of a product of two square matrices, float32 for None: mean of a few, warmed up."""
    from torch.utils.benchmark import Timer

    side = 8192 if device.type == "cuda" else 1024
    a = torch.ones(side, side, device=device, dtype=dtype or torch.float32)
    timer = Timer("a @ a", globals={"a": a}, num_threads=torch.get_num_threads())
    return 2 * side**3 / timer.timeit(4).mean


def disk_forecast(folder: Path, size: int, keep_last: int) -> str:
    """What the checkpoints will take: the last ones, the best, and one being written.

    Args:
        folder: of the run; it need not be there yet.
        size: of one checkpoint, in bytes.
        keep_last: how many of the last ones stay.

    Raises:
        OSError: not even one has room.
    """
    free, most = free_disk_gib(folder) * GIB, (keep_last + 2) * size
    amount = partial(Progress.format_sizeof, suffix="iB", divisor=1024)
    if size > free:
        raise OSError(
            f"a checkpoint takes {amount(size)} and {folder} has {amount(free)} left: "
            "free some, or take another folder"
        )
    room = "" if most <= free else ": more than there is; lower keep_last"
    return f"checkpoints of {amount(size)}, at most {amount(most)} of {amount(free)} free{room}"


def board(folder: Path, step: int) -> Any:
    """A TensorBoard writer that drops what a killed run wrote after `step`; None without it."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(folder / "tensorboard", purge_step=step + 1)


def write_samples(clips: Sequence[Any], folder: Path, step: int, writer: Any) -> None:
    """Clips as folder/step_00001000_0.mp4, three frames of each to TensorBoard's writer if any."""
    from vidgen_lab.video.writer import write_clip

    for number, clip in enumerate(clips):
        write_clip(clip, folder / f"step_{step:08d}_{number}.mp4")
        if writer is not None:
            shown = clip.frames[[0, len(clip.frames) // 2, -1]]
            writer.add_images(f"samples/{number}", shown, step, dataformats="NHWC")


@contextmanager
def interruptions() -> Iterator[Callable[[], bool]]:
    """Within the block Ctrl-C and SIGTERM only ask to stop; the yielded function says if they did.

    A second Ctrl-C interrupts at once. Outside the main thread signals stay as they are.
    """
    asked = threading.Event()

    def ask(number: int, frame: Any) -> None:
        if asked.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.set()
        print("stopping after this step; once more stops at once", flush=True)

    main = threading.current_thread() is threading.main_thread()
    taken = (signal.SIGINT, signal.SIGTERM) if main else ()
    before = {number: signal.signal(number, ask) for number in taken}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
