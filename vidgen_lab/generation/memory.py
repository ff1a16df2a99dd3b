"""The most memory a piece of work used."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from vidgen_lab.settings.hardware import GIB


@dataclass
class Peak:
    """What `peak_memory` found, in GiB (2**30 bytes), complete when its block has ended."""

    gib: float = 0.0


@contextmanager
def peak_memory(device: str, interval: float = 0.02, children: bool = False) -> Iterator[Peak]:
    """Measure a peak: ``with peak_memory(device) as peak: ...`` and, after the block, `peak.gib`.

    On CUDA: the most GPU memory that PyTorch had allocated. Elsewhere: the largest resident memory
    of this process, weights and libraries included, looked at again and again (the system's own
    high-water mark would remember earlier work, too). On CUDA the other arguments do nothing.

    Args:
        device: as PyTorch names it: "cpu", "cuda:1".
        interval: seconds between two looks.
        children: count the processes it started, too, such as the kernel of a notebook.
    """
    peak = Peak()
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        try:
            yield peak
        finally:
            peak.gib = torch.cuda.max_memory_allocated(device) / GIB
        return
    import psutil

    own, done = psutil.Process(), threading.Event()

    def look() -> None:
        total = own.memory_info().rss
        for child in own.children(recursive=True) if children else ():
            with suppress(psutil.Error):  # it may end while it is looked at
                total += child.memory_info().rss
        peak.gib = max(peak.gib, total / GIB)

    def watch() -> None:
        while not done.wait(interval):
            look()

    look()
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()
        look()
