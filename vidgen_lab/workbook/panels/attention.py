"""Where does this token look? A picture and a panel of a trained Latte's attention."""

import html
import io
from dataclasses import dataclass
from typing import Any

import ipywidgets as w
import numpy as np
import torch
from torch import Tensor

from vidgen_lab.latte import Latte, NoiseScheduler, capture_attention
from vidgen_lab.latte.text import TextEmbedding
from vidgen_lab.video.clip import Clip
from vidgen_lab.workbook.panels.prompt import LABEL, _Panel
from vidgen_lab.workbook.show import DPI, WIDTH_INCHES, photo

ALL = -1  # a menu whose value is None shows nothing as chosen


@dataclass(frozen=True)
class AttentionMaps:
    """All attention of one forward pass on a clip of T frames of rows x cols tokens.

    space: [pairs, T, heads, N, N]; time: [pairs, N, heads, T, T]; words: [pairs, heads, T, N, L].
    Every last axis sums to 1.
    """

    space: Tensor
    time: Tensor
    words: Tensor
    rows: int
    cols: int

    @property
    def pairs(self) -> int:
        return len(self.space)

    @property
    def heads(self) -> int:
        return self.space.shape[2]


@torch.no_grad()
def look(
    model: Latte,
    scheduler: NoiseScheduler,
    latents: Tensor,
    text: TextEmbedding,
    timestep: int,
    seed: int = 0,
) -> AttentionMaps:
    """Let the model denoise one clip's latents [1, C, T, h, w] at a timestep and keep where it
    looks."""
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed))
    t = torch.tensor([timestep])
    with capture_attention(model) as maps:
        model(scheduler.add_noise(latents, noise, t), t, text=text.embeddings, text_mask=text.mask)
    rows, cols = model.patch_embed.grid(latents)
    heads, frames = model.config.num_heads, latents.shape[2]

    def stack(name: str) -> Tensor:
        return torch.stack([maps[f"blocks.{i}.{name}"][0] for i in range(model.config.pairs)])

    return AttentionMaps(
        space=stack("spatial.attention"),
        time=stack("temporal.attention").unflatten(2, (rows * cols, heads))[:, 0],
        words=stack("spatial.cross")[:, 0].unflatten(2, (frames, rows * cols)),
        rows=rows,
        cols=cols,
    )


def pick(
    maps: AttentionMaps, frame: int, row: int, col: int, pair: int, head: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One token's attention: over its frame [rows, cols], over time [T], over the words [L].

    head: a number, or None for the mean of all.
    """
    token, chosen = row * maps.cols + col, slice(None) if head is None else slice(head, head + 1)
    space = maps.space[pair, frame, chosen, token].mean(0).reshape(maps.rows, maps.cols)
    time = maps.time[pair, token, chosen, frame].mean(0)
    words = maps.words[pair, chosen, frame, token].mean(0)
    return space.numpy(), time.numpy(), words.numpy()


def share_on(maps: AttentionMaps, mask: np.ndarray, inside: bool = True) -> float:
    """How much more than evenly the tokens inside (or outside) a mask look into it, within their
    frame.

    mask: bool [T, H, W] in pixels. 1 is what even attention gives; mean over blocks and heads.
    """
    frames = mask.shape[0]
    cells = mask.reshape(frames, maps.rows, mask.shape[1] // maps.rows, maps.cols, -1)
    cells = torch.from_numpy(cells.mean(axis=(2, 4)).reshape(frames, -1) > 0.25)  # [T, N]
    ratios = []
    for t in range(frames):
        asks = cells[t] if inside else ~cells[t]
        if 0 < int(cells[t].sum()) < cells.shape[1] and bool(asks.any()):
            mass = maps.space[:, t][:, :, asks][..., cells[t]].sum(-1).mean()
            ratios.append(float(mass / cells[t].float().mean()))
    return float(np.mean(ratios))


def attention_picture(
    clip: Clip,
    maps: AttentionMaps,
    words: list[str],
    frame: int = 0,
    row: int = 0,
    col: int = 0,
    pair: int = 0,
    head: int | None = None,
) -> np.ndarray:
    """The token's three views side by side as uint8 [H, W, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from vidgen_lab.workbook.show import BLUE, PURPLE, chart_style, new_figure

    space, time, text = pick(maps, frame, row, col, pair, head)
    with chart_style():
        figure, (left, middle, right) = new_figure(2.5, 1, 3, width_ratios=[1.35, 1.15, 1])
        heat = np.kron(space / space.max(), np.ones((_cell(clip, maps),) * 2))[..., None]
        grey = clip.frames[frame].mean(-1, keepdims=True) * 0.35 / 255
        glow = np.array([1.0, 0.62, 0.12])
        left.imshow(np.clip(grey * (1 - heat) + heat * (0.35 * grey + 0.75 * glow), 0, 1))
        size = _cell(clip, maps)
        left.add_patch(_frame_around(col * size, row * size, size))
        left.set(title=f"frame {frame + 1}", xticks=[], yticks=[])
        middle.bar(range(1, len(time) + 1), time, color=BLUE)
        middle.axhline(1 / len(time), color="#8d99a3", lw=1, ls="--")
        middle.set(title="along time", xlabel="frame", xticks=range(1, len(time) + 1))
        right.barh(range(len(words)), text[: len(words)], color=PURPLE)
        right.set(title="in the prompt", yticks=range(len(words)), yticklabels=words)
        right.invert_yaxis()
        for axis in (left, right):
            axis.grid(False)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _cell(clip: Clip, maps: AttentionMaps) -> int:
    return clip.height // maps.rows


def _frame_around(x: float, y: float, size: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.5, y - 0.5), size, size, fill=False, ec="white", lw=2)


class AttentionPanel(_Panel):
    """Choose a token, a block, a head and a noise level; see where the token looks.

    clip: the clip whose latents were noised. levels: attention by timestep (`look`). words: the
    prompt's tokens. start: frame, row and column to begin with.
    `picture()` is the current view as a still image, which is all that a run without a front-end
    needs.
    """

    def __init__(
        self,
        clip: Clip,
        levels: dict[int, AttentionMaps],
        words: list[str],
        start: tuple[int, int, int] = (0, 0, 0),
    ) -> None:
        self.clip, self.levels, self.words = clip, levels, words
        first = next(iter(levels.values()))
        half = {"style": LABEL, "layout": w.Layout(width="318px"), "continuous_update": False}
        heads = [("mean of all", ALL), *((str(i + 1), i) for i in range(first.heads))]
        blocks = [(f"{i + 1} of {first.pairs}", i) for i in range(first.pairs)]
        choice = {"style": LABEL, "layout": w.Layout(width="318px")}
        self.controls: dict[str, Any] = {
            "frame": w.IntSlider(
                start[0] + 1, min=1, max=clip.num_frames, description="frame", **half
            ),
            "row": w.IntSlider(start[1] + 1, min=1, max=first.rows, description="row", **half),
            "col": w.IntSlider(start[2] + 1, min=1, max=first.cols, description="column", **half),
            "pair": w.Dropdown(
                options=blocks, value=first.pairs // 2, description="block", **choice
            ),
            "head": w.Dropdown(options=heads, value=ALL, description="head", **choice),
            "level": w.Dropdown(
                options=[(f"t = {t}", t) for t in levels], description="noise level", **choice
            ),
        }
        self.view = w.Image(format="jpeg", layout=w.Layout(width=f"{round(WIDTH_INCHES * DPI)}px"))
        self.text = w.HTML()
        for control in self.controls.values():
            control.observe(self._update, names="value")
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

    def picture(self) -> Any:
        """The current view as a still image with alt text."""
        return photo(self._pixels(), self.summary())

    def summary(self) -> str:
        """Where the chosen token looks most, in words."""
        chosen = self.choice
        maps = self.levels[chosen.pop("level")]
        space, time, text = pick(maps, **chosen)
        row, col = divmod(int(space.argmax()), maps.cols)
        word = self.words[int(text[: len(self.words)].argmax())]
        return (
            f"The token at row {chosen['row'] + 1}, column {chosen['col'] + 1} of frame "
            f"{chosen['frame'] + 1} looks most at row {row + 1}, column {col + 1} of its frame "
            f"({space.max():.0%}), at frame {int(time.argmax()) + 1} of its place "
            f"({time.max():.0%}) and at the word {word!r} ({text.max():.0%})."
        )

    def _pixels(self) -> np.ndarray:
        chosen = self.choice
        maps = self.levels[chosen.pop("level")]
        return attention_picture(self.clip, maps, self.words, **chosen)

    def _update(self, _: Any = None) -> None:
        from PIL import Image

        packed = io.BytesIO()
        Image.fromarray(self._pixels()).save(packed, format="jpeg", quality=85)
        self.view.value = packed.getvalue()
        self.text.value = html.escape(self.summary())
