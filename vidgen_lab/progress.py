"""One progress bar: tqdm's, shown as suits the place.

On a terminal tqdm's own bar, in a notebook one line that updates itself, and a plain line now and
then anywhere else (a log file, CI). Always on standard output: text on standard error would turn
up as a red box in a notebook.
"""

import html
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm.std import tqdm


@contextmanager
def quiet_loading(folder: Path) -> Iterator[None]:
    """Within the block diffusers and transformers load a model below a GiB without their bars."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    small = sum(p.stat().st_size for p in folder.rglob("*.safetensors")) < 2**30
    hidden = [bars for bars in (of_diffusers, of_transformers) if bars.is_progress_bar_enabled()]
    for bars in hidden if small else ():
        bars.disable_progress_bar()
    try:
        yield
    finally:
        for bars in hidden if small else ():
            bars.enable_progress_bar()


class Progress(tqdm):
    """A bar over items, `for clip in Progress(clips, "judging", "clip")`, or counted by hand,
    `with Progress(25, "sampling") as bar: bar.update()`.

    Args:
        work: the items, or their number; None when unknown.
        unit: the word for one step.
        even: whether the steps take about equally long; else no time left can be told.
        options: of tqdm.
    """

    monitor_interval = 0  # no thread of its own: every update looks at the clock

    def __init__(
        self,
        work: Iterable[Any] | int | None,
        label: str,
        unit: str = "step",
        even: bool = True,
        **options: Any,
    ) -> None:
        self.even, self.note, self._line, self._said = even, "", None, None
        notebook = _in_notebook()
        self.on_terminal = sys.stdout.isatty() and not notebook
        counted = work is None or isinstance(work, int)
        options = {"mininterval": 0.2 if self.on_terminal or notebook else 10.0} | options
        if not even:
            options["bar_format"] = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
        super().__init__(
            iterable=None if counted else work, total=work if counted else None, desc=label,
            unit=unit, file=sys.stdout, miniters=1, gui=not self.on_terminal, **options,
        )  # fmt: skip
        if notebook and not self.disable:
            from IPython.display import display

            self._line = display(self._bundle(), raw=True, display_id=True)

    def update(self, n: int = 1, note: str = "") -> None:
        """Record `n` more, with an optional word on what comes next or what was measured."""
        self.note = note
        if self.on_terminal and note:
            self.set_postfix_str(note, refresh=False)
        super().update(n)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        if self.on_terminal:
            super().display(msg, pos)
        elif self._line:
            self._line.update(self._bundle(), raw=True)
        elif self._said != self.n:  # the last step's line is the last line
            self._said = self.n
            print(self, file=self.fp, flush=True)

    def close(self) -> None:
        if not self.disable:
            super().close()
            if not self.on_terminal:
                self.display()

    def __str__(self) -> str:
        if self.on_terminal:
            return super().__str__()
        seconds = self.format_dict["elapsed"]
        done = str(self.n) if self.total is None else f"{self.n}/{self.total}"
        units = f"{self.unit}es" if self.unit.endswith(("s", "x", "ch", "sh")) else f"{self.unit}s"
        parts = [f"{done} {units}", duration(seconds)]
        # Not before two steps: the first is a warm-up.
        if self.even and self.total is not None and 2 <= self.n < self.total:
            parts.append(f"about {duration(seconds / self.n * (self.total - self.n))} left")
        if self.note:
            parts.append(self.note)
        return f"{self.desc}: {', '.join(parts)}"

    def _bundle(self) -> dict[str, str]:
        text = html.escape(str(self))
        if self.total is not None and self.n < self.total:
            text = f'<progress value="{self.n}" max="{self.total}"></progress> {text}'
        return {"text/plain": str(self), "text/html": text}


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


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")
