"""Drawings of chapter 3 as SVG: the whole system, the three views of attention, one block."""

from collections.abc import Sequence

from vidgen_lab.workbook.ch01.diagrams import Drawing
from vidgen_lab.workbook.show import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, RED

NOTE = "#52616d"


def system(shapes: dict[str, Sequence[int]]) -> Drawing:
    """Prompt and noise to a clip, with the five parts of the chapter numbered.

    shapes: of text, latents, tokens and video.
    """

    def dims(key: str) -> str:
        return " × ".join(f"{n:,}" for n in shapes[key])

    d = Drawing(860, 262, "Five parts: text encoder, patches, transformer, sampler loop, decoder.")
    d.box(14, 30, 112, 52, "prompt", GREY, "words")
    d.arrow(126, 56, 158, 56)
    d.box(160, 30, 150, 52, "5 text encoder", PURPLE, dims("text"))
    d.box(14, 148, 112, 52, "noise", GREY, "one seed")
    d.arrow(126, 174, 158, 174)
    d.box(160, 148, 150, 52, "4 noisy latents", ORANGE, dims("latents"))
    d.arrow(310, 174, 344, 174)
    d.box(346, 148, 120, 52, "2 patches", GREEN, dims("tokens"))
    d.arrow(466, 174, 500, 174)
    d.line(310, 56, 552, 56, INK)
    d.arrow(552, 56, 552, 110)
    d.box(502, 112, 158, 124, "3 Latte", BLUE, "spatial, temporal,\nspatial, temporal …")
    d.arrow(660, 174, 692, 174)
    d.box(694, 148, 70, 52, "1 VAE", GREEN, "decoder")
    d.arrow(764, 174, 786, 174)
    d.box(788, 148, 60, 52, "clip", GREY)
    d.text(848, 216, dims("video"), 11, NOTE, "end")
    d.parts.append(
        f"<path d='M566 236 C566 268 235 268 235 202' fill='none' stroke='{INK}' "
        "stroke-width='1.5' stroke-dasharray='5 4' marker-end='url(#tip)'/>"
    )
    d.text(370, 222, "4 sampler: step by step less noise", 11, NOTE)
    return d


def views(frames: int = 3, side: int = 3) -> Drawing:
    """Who looks at whom: within a frame, along time, everywhere."""
    d = Drawing(860, 214, "Three views: patches of one frame, one place in all frames, everything.")
    cell, gap = 20, 24
    width = frames * side * cell + (frames - 1) * gap
    for k, (title, note) in enumerate(
        (
            ("space", "T sequences of N tokens"),
            ("time", "N sequences of T tokens"),
            ("both", "one sequence of T·N tokens"),
        )
    ):
        x0 = 24 + k * 282
        d.text(x0 + width / 2, 24, title, 14, bold=True)
        for t in range(frames):
            for r in range(side):
                for c in range(side):
                    here = (t, r, c) == (1, 1, 1)
                    seen = (t == 1, (r, c) == (1, 1), True)[k]
                    colour = RED if here else BLUE if seen else GREY
                    x = x0 + t * (side * cell + gap) + c * cell
                    d.square(x, 56 + r * cell, cell - 3, colour, strong=here or seen)
        for t in range(frames):
            middle = x0 + t * (side * cell + gap) + side * cell / 2
            d.text(middle, 136, f"frame {t + 1}", 11, NOTE)
        d.text(x0 + width / 2, 166, note, 12)
    d.text(430, 196, "red asks, blue answers; grey is not looked at", 11, NOTE)
    return d


def block() -> Drawing:
    """One spatial-temporal pair: residual stream, branches, and where the conditions enter."""
    d = Drawing(860, 286, "A spatial and a temporal block: branches beside a straight stream.")
    d.line(24, 150, 836, 150, INK)
    d.arrow(800, 150, 842, 150)
    d.text(24, 136, "stream", 12, NOTE, "start")
    stations = (
        (64, "attention\nin the frame", BLUE, True),
        (200, "read\nthe text", PURPLE, False),
        (336, "MLP", GREEN, True),
        (496, "attention\nalong time", ORANGE, True),
        (664, "MLP", GREEN, True),
    )
    for x, label, colour, gated in stations:
        d.box(x, 52, 112, 58, label, colour, "LN·(1+scale)+shift" if gated else "no norm, no gate")
        d.arrow(x + 8, 150, x + 8, 112)
        d.arrow(x + 104, 112, x + 104, 148)
        d.dot(x + 104, 150, 5, colour)
        if gated:
            d.text(x + 104, 168, "× gate", 11, NOTE)
    d.text(256, 28, "spatial block", 14, BLUE, bold=True)
    d.text(640, 28, "temporal block", 14, ORANGE, bold=True)
    d.box(64, 206, 384, 52, "timestep (and class): shift, scale, gate, twice", GREY,
          "one set per clip, for all its tokens")  # fmt: skip
    d.box(
        496,
        206,
        280,
        52,
        "the same, other weights",
        GREY,
        "frame numbers: added once, at the first",
    )
    for x in (120, 392, 552, 720):
        d.arrow(x, 206, x, 176, dashed=True)
    return d
