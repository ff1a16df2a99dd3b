"""Drawings of chapter 2: the way of a clip, and three pipelines side by side."""

from collections.abc import Mapping, Sequence
from textwrap import wrap

from vidgen_lab.workbook.ch01.diagrams import Drawing
from vidgen_lab.workbook.show import BLUE, GREEN, GREY, ORANGE, PURPLE

SOFT = "#52616d"


def stages() -> Drawing:
    """The stages of `prepare`, what each does, and the three ways in which a clip can end."""
    d = Drawing(
        860, 236, "Eight stages from a folder to a training set; each may keep, reject or fail."
    )
    steps = (
        ("read", "probe, hash", GREY), ("scenes", "one shot each", GREY),
        ("quality", "gates", BLUE), ("duplicates", "keep one", BLUE),
        ("balance", "weights", BLUE), ("export", "cut, verify", GREEN),
        ("annotate", "boxes, words", PURPLE), ("split", "no leaks", PURPLE),
    )  # fmt: skip
    for i, (name, note, colour) in enumerate(steps):
        x = 14 + i * 106
        d.box(x, 30, 90, 58, name, colour, note)
        if i:
            d.arrow(x - 16, 59, x - 1, 59)
        d.line(x + 45, 88, x + 45, 150)
    d.line(59, 150, 801, 150)
    d.arrow(430, 150, 430, 172)
    d.box(
        170,
        174,
        520,
        46,
        "manifest.jsonl",
        ORANGE,
        "one row a clip and stage: kept · rejected (metric, value, threshold) · error (reason)",
    )
    return d


def pyramid(levels: Sequence[tuple[str, str]]) -> Drawing:
    """Thresholds that tighten stage by stage: fewer clips, larger pictures, higher demands."""
    d = Drawing(
        860,
        34 + 46 * len(levels),
        "Training sets as a pyramid: each level is smaller and stricter.",
    )
    for i, (name, note) in enumerate(levels):
        width = 560 - i * 430 / max(1, len(levels) - 1)
        colour = (GREY, BLUE, PURPLE, ORANGE, GREEN)[i % 5]
        d.box(24 + (560 - width) / 2, 16 + i * 46, width, 38, name, colour)
        d.text(604, 35 + i * 46, note, 12, SOFT, "start")
    return d


def side_by_side(columns: Mapping[str, Sequence[str]], stages: Sequence[str]) -> Drawing:
    """Pipelines as columns, stages as rows; an empty text: that pipeline has no such stage."""
    height = 58 + 50 * len(stages)
    d = Drawing(860, height, f"{', '.join(columns)} stage by stage: {', '.join(stages)}.")
    for i, (name, texts) in enumerate(columns.items()):
        x = 128 + i * 244
        colour = (GREEN, BLUE, ORANGE)[i % 3]
        d.text(x + 116, 22, name, 14, colour, bold=True)
        for row, text in enumerate(texts):
            y = 42 + row * 50
            if text:
                d.box(x, y, 232, 40, "", colour)
            lines = wrap(text, 36) or ["–"]
            for line, words in enumerate(lines):
                d.text(x + 116, y + 20 + 15 * (line - (len(lines) - 1) / 2), words, 11)
    for row, stage in enumerate(stages):
        d.text(16, 62 + row * 50, stage, 12, SOFT, "start", bold=True)
    return d
