"""The most memory a piece of work used."""

import threading
from contextlib import suppress
from types import TracebackType

from vidgen_lab.settings.hardware import GIB


class PeakMemory:
    """Measure a peak: ``with PeakMemory(device) as peak: ...; peak.gib``.

    On CUDA: the most GPU memory that PyTorch had allocated. Elsewhere: the largest resident
    memory of this process, weights and libraries included, looked at every `interval` seconds
    (the system's own high-water mark would remember earlier work, too). children: count the
    processes it started, too, such as the kernel of a notebook.
    """

    def __init__(self, device: str, interval: float = 0.02, children: bool = False) -> None:
        self.device = device
        self.gib = 0.0
        self._children = children
        self._interval = interval
        self._done = threading.Event()
        self._watcher: threading.Thread | None = None

    def __enter__(self) -> "PeakMemory":
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            self._look()
            self._watcher = threading.Thread(target=self._watch, daemon=True)
            self._watcher.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._watcher is None:
            import torch

            self.gib = torch.cuda.max_memory_allocated(self.device) / GIB
        else:
            self._done.set()
            self._watcher.join()
            self._look()

    def _watch(self) -> None:
        while not self._done.wait(self._interval):
            self._look()

    def _look(self) -> None:
        import psutil

        own = psutil.Process()
        total = own.memory_info().rss
        for child in own.children(recursive=True) if self._children else ():
            with suppress(psutil.Error):  # it may end while it is looked at
                total += child.memory_info().rss
        self.gib = max(self.gib, total / GIB)
