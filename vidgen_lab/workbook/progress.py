"""One progress helper for the command line and the notebooks.

A bar on a terminal, one updating line in a notebook, and a plain line now and then anywhere else
(a log file, CI). Always on standard output: text on standard error would turn up as a red box in a
notebook.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class State:
    """How far the work is.

    seconds: since the start; note: a word on the present step; even: whether the steps take about
    equally long, so that the time left can be told from those done.
    """

    label: str
    done: int
    total: int | None
    seconds: float
    unit: str = "step"
    note: str = ""
    even: bool = True

    @property
    def finished(self) -> bool:
        return self.total is not None and self.done >= self.total

    @property
    def seconds_left(self) -> float | None:
        """A forecast from the steps so far; None before two of them, the first is a warm-up."""
        if self.total is None or self.done < 2 or self.finished or not self.even:
            return None
        return self.seconds / self.done * (self.total - self.done)

    def __str__(self) -> str:
        of = f"/{self.total}" if self.total is not None else ""
        parts = [f"{self.done}{of} {self.unit}s", duration(self.seconds)]
        if self.seconds_left is not None:
            parts.append(f"about {duration(self.seconds_left)} left")
        if self.note:
            parts.append(self.note)
        return f"{self.label}: {', '.join(parts)}"


Show = Callable[[State], None]


class Progress:
    """Count steps and show them where it suits: ``with Progress(25, "sampling") as p: p.update()``.

    total: number of steps, None when unknown. even: see State.
    show: called with the State after each step instead of the default display, for a panel that
        has a place of its own.
    """

    def __init__(
        self,
        total: int | None,
        label: str,
        unit: str = "step",
        show: Show | None = None,
        even: bool = True,
    ) -> None:
        self._start = time.perf_counter()
        self._state = State(label, 0, total, 0.0, unit, even=even)
        self._show = show or _default_show(self._state)
        self._show(self._state)

    @property
    def state(self) -> State:
        return self._state

    def update(self, steps: int = 1, note: str = "") -> None:
        """Record `steps` more, with an optional word on what comes next or what was measured."""
        done, seconds = self._state.done + steps, time.perf_counter() - self._start
        self._state = replace(self._state, done=done, seconds=seconds, note=note)
        self._show(self._state)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        close = getattr(self._show, "close", None)
        if close:
            close(self._state)


def track(
    items: Iterable[T], label: str, unit: str = "step", show: Show | None = None
) -> Iterator[T]:
    """Yield the items and count them: ``for clip in track(clips, "judging", "clip"): ...``."""
    total = len(items) if hasattr(items, "__len__") else None
    with Progress(total, label, unit, show) as progress:
        for item in items:
            yield item
            progress.update()


def duration(seconds: float) -> str:
    """Write seconds for people: ``0.4 s``, ``12 s``, ``3 min 05 s``, ``1 h 20 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _default_show(state: State) -> Show:
    if _in_notebook():
        return _NotebookLine(state)
    return _Bar(state) if sys.stdout.isatty() else _PlainLines()


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")


class _Bar:
    """A tqdm bar, for a terminal."""

    def __init__(self, state: State) -> None:
        from tqdm import tqdm

        shape = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
        self._bar = tqdm(
            total=state.total,
            desc=state.label,
            unit=state.unit,
            file=sys.stdout,
            bar_format=None if state.even else shape,
        )

    def __call__(self, state: State) -> None:
        if state.note:
            self._bar.set_postfix_str(state.note, refresh=False)
        self._bar.update(state.done - self._bar.n)

    def close(self, state: State) -> None:
        self._bar.close()


class _PlainLines:
    """A line every few seconds, and one at the end."""

    def __init__(self, every: float = 10.0) -> None:
        self._every = every
        self._last = 0.0

    def __call__(self, state: State) -> None:
        if state.seconds - self._last >= self._every and not state.finished:
            self._last = state.seconds
            print(state, flush=True)

    def close(self, state: State) -> None:
        print(state, flush=True)


class _NotebookLine:
    """One line that updates itself, so that a saved notebook keeps a single short output."""

    def __init__(self, state: State, every: float = 0.2) -> None:
        from IPython.display import display

        self._every = every
        self._last = 0.0
        self._handle = display(self._bundle(state), raw=True, display_id=True)

    @staticmethod
    def _bundle(state: State) -> dict[str, str]:
        import html

        bar = f'<progress value="{state.done}" max="{state.total}"></progress> '
        hidden = state.finished or state.total is None
        text = html.escape(str(state))
        return {"text/plain": str(state), "text/html": text if hidden else bar + text}

    def __call__(self, state: State) -> None:
        if state.seconds - self._last >= self._every or state.finished:
            self._last = state.seconds
            self._handle.update(self._bundle(state), raw=True)

    def close(self, state: State) -> None:
        self._handle.update(self._bundle(state), raw=True)
