"""Drawings of chapter 1 as SVG: sharp at any zoom, a few kilobytes each, drawn by this code."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from vidgen_lab.workbook.show import BLUE, GREEN, GREY, INK, ORANGE, PAPER, PURPLE, RED, TINTS

FONT = "font-family='Helvetica, Arial, sans-serif'"


@dataclass
class Drawing:
    """A sheet to draw on. Coordinates are pixels from the top left corner."""

    width: int
    height: int
    alt: str
    parts: list[str] = field(default_factory=list)

    def text(
        self,
        x: float,
        y: float,
        line: str,
        size: int = 13,
        colour: str = INK,
        anchor: str = "middle",
        bold: bool = False,
    ) -> None:
        """One line of text whose vertical middle is y."""
        weight = " font-weight='bold'" if bold else ""
        self.parts.append(
            f"<text x='{x:g}' y='{y + size * 0.35:g}' font-size='{size}' fill='{colour}' "
            f"text-anchor='{anchor}'{weight}>{escape(line)}</text>"
        )

    def box(
        self, x: float, y: float, w: float, h: float, label: str, colour: str = BLUE, note: str = ""
    ) -> None:
        """A rounded box with a label (lines split at newline) and a smaller note below it."""
        self.parts.append(
            f"<rect x='{x:g}' y='{y:g}' width='{w:g}' height='{h:g}' rx='7' "
            f"fill='{TINTS[colour]}' stroke='{colour}' stroke-width='1.4'/>"
        )
        lines = [(part, 13, INK) for part in label.split("\n")]
        lines += [(part, 11, "#52616d") for part in note.split("\n") if part]
        top = y + h / 2 - (len(lines) - 1) * 8
        for i, (line, size, colour_of_line) in enumerate(lines):
            self.text(x + w / 2, top + i * 16, line, size, colour_of_line)

    def arrow(
        self, x0: float, y0: float, x1: float, y1: float, label: str = "", dashed: bool = False
    ) -> None:
        """A straight arrow; its label stands just above the middle."""
        dash = " stroke-dasharray='5 4'" if dashed else ""
        self.parts.append(
            f"<line x1='{x0:g}' y1='{y0:g}' x2='{x1:g}' y2='{y1:g}' stroke='{INK}' "
            f"stroke-width='1.5' marker-end='url(#tip)'{dash}/>"
        )
        if label:
            self.text((x0 + x1) / 2, min(y0, y1) + abs(y1 - y0) / 2 - 9, label, 11, "#52616d")

    def dot(self, x: float, y: float, radius: float = 5, colour: str = BLUE) -> None:
        self.parts.append(f"<circle cx='{x:g}' cy='{y:g}' r='{radius:g}' fill='{colour}'/>")

    def square(self, x: float, y: float, side: float, colour: str, strong: bool = True) -> None:
        fill = colour if strong else TINTS[colour]
        self.parts.append(
            f"<rect x='{x:g}' y='{y:g}' width='{side:g}' height='{side:g}' rx='2' fill='{fill}' "
            f"stroke='{colour}'/>"
        )

    def line(self, x0: float, y0: float, x1: float, y1: float, colour: str = GREY) -> None:
        self.parts.append(
            f"<line x1='{x0:g}' y1='{y0:g}' x2='{x1:g}' y2='{y1:g}' stroke='{colour}' "
            "stroke-width='1.2'/>"
        )

    def svg(self) -> str:
        """The whole drawing as SVG text, with its description inside."""
        return (
            f"<svg xmlns='http://www.w3.org/2000/svg' width='{self.width}' height='{self.height}' "
            f"viewBox='0 0 {self.width} {self.height}' role='img' {FONT}>"
            f"<title>{escape(self.alt)}</title>"
            "<defs><marker id='tip' viewBox='0 0 10 10' refX='9' refY='5' markerWidth='7' "
            f"markerHeight='7' orient='auto'><path d='M0 0L10 5L0 10z' fill='{INK}'/></marker>"
            "</defs>"
            f"<rect width='100%' height='100%' rx='10' fill='{PAPER}'/>{''.join(self.parts)}</svg>"
        )

    def show(self) -> Any:
        """The drawing as a notebook output."""
        from IPython.display import SVG

        return SVG(self.svg(), metadata={"alt": self.alt})


def pipeline(shapes: dict[str, Sequence[int]]) -> Drawing:
    """Prompt to video in five stations, labelled with the tensor shapes of a trace.

    shapes: what `anatomy.trace_shapes` returns (keys text, noise, tokens, joint, video).
    """

    def dims(key: str) -> str:
        return " × ".join(f"{n:,}" for n in shapes[key])

    d = Drawing(860, 250, "Text to video: prompt, text encoder, denoising loop, decoder, frames.")
    d.box(16, 34, 120, 56, "your prompt", GREY, "words")
    d.arrow(136, 62, 176, 62)
    d.box(178, 34, 150, 56, "T5 text encoder", PURPLE, dims("text"))
    d.box(16, 156, 120, 56, "random noise", GREY, "one seed")
    d.arrow(136, 184, 176, 184)
    d.box(178, 156, 150, 56, "noisy latents", ORANGE, dims("noise"))
    d.arrow(328, 62, 396, 104)
    d.arrow(328, 184, 396, 146)
    note = f"{dims('joint')} tokens\ntext and video together"
    d.box(398, 82, 190, 86, "diffusion transformer", BLUE, note)
    d.arrow(588, 125, 638, 125)
    d.box(640, 97, 92, 56, "3-D VAE", GREEN, "decoder")
    d.arrow(732, 125, 756, 125)
    d.box(758, 97, 90, 56, "frames", GREY, "")
    d.text(848, 170, dims("video"), 11, "#52616d", "end")
    d.parts.append(
        f"<path d='M540 170 C540 236 446 236 446 172' fill='none' stroke='{INK}' "
        "stroke-width='1.5' marker-end='url(#tip)'/>"
    )
    d.text(493, 234, "repeat: remove a little noise", 11, "#52616d")
    return d


def families() -> Drawing:
    """GAN, VAE and diffusion: what is trained against what, one row each."""
    d = Drawing(860, 330, "Three families of generative models drawn as three rows of boxes.")
    rows = (
        (
            RED,
            "GAN",
            "a forger and a detective train against each other",
            ("noise", "generator", "fake clip", "discriminator", "real or fake?"),
        ),
        (
            GREEN,
            "VAE",
            "squeeze through a narrow door, rebuild on the other side",
            ("clip", "encoder", "mean and spread", "decoder", "rebuilt clip"),
        ),
        (
            BLUE,
            "diffusion",
            "learn one small clean-up, repeat it many times",
            ("noise", "denoiser", "a little cleaner", "denoiser", "clip"),
        ),
    )
    for row, (colour, name, motto, stations) in enumerate(rows):
        y = 18 + row * 104
        d.text(24, y + 12, name, 15, colour, "start", bold=True)
        d.text(118, y + 12, motto, 12, "#52616d", "start")
        for i, station in enumerate(stations):
            x = 24 + i * 167
            network = station in ("generator", "discriminator", "encoder", "decoder", "denoiser")
            d.box(x, y + 30, 136, 42, station, colour if network else GREY)
            if i:
                d.arrow(x - 31, y + 51, x - 2, y + 51)
    d.text(710, 317, "… twenty to fifty times, always the same network", 11, "#52616d")
    return d


def conditioning() -> Drawing:
    """Three ways for words to reach the picture: joint, cross and adaptive."""
    alt = "Joint attention, cross-attention and adaptive normalisation side by side."
    d = Drawing(860, 236, alt)
    for x, title, who in (
        (24, "joint attention", "CogVideoX, HunyuanVideo, Open-Sora 2"),
        (312, "cross-attention", "Wan, Latte-1 (spatial blocks only)"),
        (600, "adaptive normalisation", "class labels and time steps, DiT"),
    ):
        d.text(x + 118, 22, title, 14, INK, bold=True)
        d.text(x + 118, 216, who, 11, "#52616d")
    for i in range(8):
        d.square(36 + i * 27, 52, 20, PURPLE if i < 3 else ORANGE)
        d.square(36 + i * 27, 150, 20, PURPLE if i < 3 else ORANGE)
    for i in range(8):
        for j in range(8):
            d.line(46 + i * 27, 73, 46 + j * 27, 149, "#c9cfd4")
    d.text(142, 190, "one row, everyone sees everyone", 11)
    for i in range(5):
        d.square(350 + i * 32, 150, 20, ORANGE)
    for j in range(3):
        d.square(382 + j * 32, 52, 20, PURPLE)
        for i in range(5):
            d.line(360 + i * 32, 149, 392 + j * 32, 73, "#c9cfd4")
    d.text(430, 190, "video asks, words only answer", 11)
    d.square(708, 52, 20, PURPLE)
    d.box(652, 88, 132, 34, "scale, shift, gate", GREY)
    d.arrow(718, 73, 718, 87)
    for i in range(5):
        d.square(644 + i * 32, 150, 20, ORANGE)
        d.arrow(718, 122, 654 + i * 32, 148)
    d.text(718, 190, "one message for all tokens", 11)
    return d


def guidance() -> Drawing:
    """Classifier-free guidance: two predictions, one step, and where the negative prompt sits."""
    alt = "Guidance runs the model twice and walks away from the negative prediction."
    d = Drawing(860, 190, alt)
    d.box(20, 30, 210, 44, "prompt", PURPLE)
    d.box(20, 112, 210, 44, "negative prompt (or nothing)", RED)
    d.arrow(230, 52, 300, 52)
    d.arrow(230, 134, 300, 134)
    d.box(302, 30, 170, 44, "transformer", BLUE, "")
    d.box(302, 112, 170, 44, "the same transformer", BLUE, "")
    d.arrow(472, 52, 560, 84, "")
    d.arrow(472, 134, 560, 106, "")
    rule = "negative + g × (positive − negative)"
    d.box(562, 66, 276, 58, rule, GREEN, "g = guidance scale; 1 switches it off")
    return d


def frame_groups(num_frames: int, stride: int = 4) -> Drawing:
    """How a causal video VAE folds frames into latent frames: one, then groups of `stride`."""
    groups = [1] + [min(stride, num_frames - i) for i in range(1, num_frames, stride)]
    step = 800 / (num_frames + 0.6 * len(groups))
    d = Drawing(860, 120, f"{num_frames} frames become {len(groups)} latent frames.")
    x = 30.0
    for index, size in enumerate(groups):
        colour = (ORANGE, BLUE, GREEN, PURPLE)[index % 4]
        for i in range(size):
            d.square(x + i * step, 22, step * 0.82, colour, strong=False)
        middle = x + size * step / 2
        d.arrow(middle - 2, 26 + step * 0.9, middle - 2, 78)
        d.square(middle - 12, 80, 20, colour)
        x += (size + 0.6) * step
    return d


def timeline(events: Sequence[dict[str, Any]]) -> Drawing:
    """A dated line.

    events: dicts with `date` (ISO text), `name`, `what` and `family`, oldest first; ValueError
    when they are out of order.
    """
    from datetime import date

    colours = {"GAN": RED, "VAE": GREEN, "diffusion": BLUE, "transformer": PURPLE}
    days = [date.fromisoformat(str(e["date"])).toordinal() for e in events]
    if days != sorted(days):
        raise ValueError("time line events must be in order of their dates")
    height = 34 + 31 * len(events)
    d = Drawing(860, height, "Time line of video generation from VAEs and GANs to transformers.")
    x, top, bottom = 96, 26, d.height - 22
    d.line(x, top, x, bottom)
    for i, event in enumerate(events):
        y = top + i * 31
        colour = colours[event["family"]]
        d.text(x - 16, y, str(event["date"])[:7], 12, "#52616d", "end")
        d.dot(x, y, 6, colour)
        d.text(x + 18, y, event["name"], 13, colour, "start", bold=True)
        d.text(x + 206, y, event["what"], 12, INK, "start")
    return d
