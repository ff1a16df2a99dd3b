"""A panel on a trained Latte: choose a token and see where it looks."""

import html
from typing import Any

import ipywidgets as w
import numpy as np
from torch import Tensor

from vidgen_lab.video.clip import Clip
from vidgen_lab.video.sheets import PAGE
from vidgen_lab.workbook.panels.base import Panel, control
from vidgen_lab.workbook.show import BLUE, GREY, PURPLE, Picture, figure

ALL = -1  # a menu whose value is None shows nothing as chosen


class AttentionPanel(Panel):
    """Choose a token, a block, a head and a noise level; see where the token looks.

    clip: the clip whose latents were noised. levels: by timestep, the attention of all blocks: of a
    frame's tokens to one another, "space" [blocks, T, heads, N, N]; of a place's frames, "time"
    [blocks, N, heads, T, T]; to the prompt's tokens, "words" [blocks, heads, T*N, L]. grid: rows
    and columns of a frame's N tokens. words: the prompt's tokens. start: frame, row and column to
    begin with.
    `picture()` is the current view as a still image, which is all that a run without a front-end
    needs.
    """

    def __init__(
        self,
        clip: Clip,
        levels: dict[int, dict[str, Tensor]],
        grid: tuple[int, int],
        words: list[str],
        start: tuple[int, int, int] = (0, 0, 0),
    ) -> None:
        self.clip, self.levels, self.grid, self.words = clip, levels, grid, words
        pairs, _, count, *_ = next(iter(levels.values()))["space"].shape
        heads = [("mean of all", ALL), *((str(i + 1), i) for i in range(count))]
        blocks = [(f"{i + 1} of {pairs}", i) for i in range(pairs)]
        times = [(f"t = {t}", t) for t in levels]

        def slider(label: str, value: int, most: int) -> Any:
            about = {"value": value + 1, "min": 1, "max": most, "continuous_update": False}
            return control(w.IntSlider, label, **about)

        self.controls: dict[str, Any] = {
            "frame": slider("frame", start[0], clip.num_frames),
            "row": slider("row", start[1], grid[0]),
            "col": slider("column", start[2], grid[1]),
            "pair": control(w.Dropdown, "block", options=blocks, value=pairs // 2),
            "head": control(w.Dropdown, "head", options=heads, value=ALL),
            "level": control(w.Dropdown, "noise level", options=times),
        }
        self.view = w.Image(format="png", layout=w.Layout(width=f"{PAGE}px"))
        self.text = w.HTML()
        for each in self.controls.values():
            each.observe(self._update, names="value")
        c = self.controls
        rows = [w.HBox([c[a], c[b]]) for a, b in (("frame", "level"), ("row", "pair"))]
        self.box = w.VBox([*rows, w.HBox([c["col"], c["head"]]), self.view, self.text])
        self._update()

    @property
    def choice(self) -> dict[str, Any]:
        """What the controls say, counted from zero."""
        values = {name: control.value for name, control in self.controls.items()}
        values |= {name: values[name] - 1 for name in ("frame", "row", "col")}
        return values | {"head": None if values["head"] == ALL else values["head"]}

    def picture(self) -> Picture:
        """The current view as a still image: where the token looks, drawn and in words."""
        chosen = self.choice
        space, time, text = self._pick(**chosen)
        row, col = divmod(int(space.argmax()), self.grid[1])
        word = self.words[int(text[: len(self.words)].argmax())]
        alt = (
            f"The token at row {chosen['row'] + 1}, column {chosen['col'] + 1} of frame "
            f"{chosen['frame'] + 1} looks most at row {row + 1}, column {col + 1} of its frame "
            f"({space.max():.0%}), at frame {int(time.argmax()) + 1} of its place "
            f"({time.max():.0%}) and at the word {word!r} ({text.max():.0%})."
        )
        cell = self.clip.height // self.grid[0]
        heat = np.kron(space / space.max(), np.ones((cell, cell)))[..., None]
        grey = self.clip.frames[chosen["frame"]].mean(-1, keepdims=True) * 0.35 / 255
        glow = 0.35 * grey + 0.75 * np.array([1.0, 0.62, 0.12])
        options = {"columns": 3, "width_ratios": [1.35, 1.15, 1]}
        with figure(alt, 2.5, show=False, **options) as drawn:
            left, middle, right = drawn.axes
            left.imshow(np.clip(grey * (1 - heat) + heat * glow, 0, 1))
            edges = np.array([[0, 1, 1, 0, 0], [0, 0, 1, 1, 0]]) * cell - 0.5
            left.plot(edges[0] + chosen["col"] * cell, edges[1] + chosen["row"] * cell, "w")
            left.set(title=f"frame {chosen['frame'] + 1}", xticks=[], yticks=[])
            middle.bar(range(1, len(time) + 1), time, color=BLUE)
            middle.axhline(1 / len(time), color=GREY, lw=1, ls="--")
            middle.set(title="along time", xlabel="frame", xticks=range(1, len(time) + 1))
            places = range(len(self.words))
            right.barh(places, text[: len(self.words)], color=PURPLE)
            right.set(title="in the prompt", yticks=places, yticklabels=self.words)
            right.invert_yaxis()
            for axis in (left, right):
                axis.grid(False)
        return drawn.picture

    def _pick(
        self, level: int, frame: int, row: int, col: int, pair: int, head: int | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One token's attention: over its frame [rows, cols], over time [T], over the words [L]."""
        maps, (rows, cols) = self.levels[level], self.grid
        token, heads = row * cols + col, slice(None) if head is None else slice(head, head + 1)
        space = maps["space"][pair, frame, heads, token].mean(0).reshape(rows, cols)
        time = maps["time"][pair, token, heads, frame].mean(0)
        words = maps["words"][pair, heads, frame * rows * cols + token].mean(0)
        return space.numpy(), time.numpy(), words.numpy()

    def summary(self) -> str:
        """Where the chosen token looks most, in words."""
        return self._shown.alt

    def _update(self, _: Any = None) -> None:
        self._shown = self.picture()
        self.view.value = self._shown.data
        self.text.value = html.escape(self._shown.alt)
