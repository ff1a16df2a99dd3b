"""What a run did, for people: a table, the funnel as a figure, a sheet of borderline clips."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageOps

from vidgen_lab.pipeline.manifest import STATUSES, Row, funnel, reasons
from vidgen_lab.pipeline.select.gates import Gate, borderline, measured, quantiles
from vidgen_lab.video.reader import VideoReader

# The book's five numbers, in millions of clips. No source for them was found, so they serve as the
# shape of a funnel and not as a fact about any project.
BOOK_FUNNEL = (20.0, 12.0, 10.0, 8.5, 7.7)


def summary(rows: Sequence[Row]) -> str:
    """Clips in, kept, rejected and error for every stage, the reasons, and what is to be known of
    the clips: tones that are not the source's, captions that say nothing a trained model saw."""
    lines = [f"{'stage':<12}{'in':>7}{'kept':>7}{'rejected':>10}{'error':>7}"]
    for stage, n in funnel(rows).items():
        lines.append(f"{stage:<12}{n['in']:>7}{n['kept']:>7}{n['rejected']:>10}{n['error']:>7}")
    lines += [f"{count:>7}  {reason}" for reason, count in reasons(rows).items()]
    final = [row for row in rows if row.stage == "split"]
    if tones := sum("tone_mapped" in row.info.get("clip", {}) for row in final):
        lines.append(f"tones: {tones} of {len(final)} clips were HDR and are BT.709 now")
    said = Counter(row.info.get("caption_from") for row in final)
    poor = "sentences from a template, that say colours and motion only", "left empty"
    hint = "annotate.captioner=smolvlm describes what is seen"
    for name, what in zip(("template", "none"), poor, strict=True):
        if said[name]:
            lines.append(f"captions: {said[name]} of {len(final)} are {what}; {hint}")
    return "\n".join(lines)


def calibration(rows: Sequence[Row], gates: Sequence[Gate]) -> str:
    """For every gate the quantiles of its metric and what it would reject alone."""
    clips = [row for row in rows if row.stage == "quality"]
    lines = [f"{'metric':<16}{'5 %':>9}{'median':>9}{'95 %':>9}   {'threshold':<12}{'rejects':>8}"]
    for gate in gates:
        found = quantiles(clips, gate.metric, (0.05, 0.5, 0.95))
        lost = sum(not gate.passes(value) for value in measured(clips, gate.metric))
        shown = "".join(f"{found.get(q, float('nan')):>9.3g}" for q in (0.05, 0.5, 0.95))
        sign = ">=" if gate.least else "<="
        lines.append(f"{gate.metric:<16}{shown}   {sign} {gate.threshold:<9g}{lost:>8}")
    return "\n".join(lines)


def funnel_figure(rows: Sequence[Row]) -> Any:
    """Matplotlib figure: clips kept after every stage, and the book's shape beside it."""
    from matplotlib.figure import Figure

    counts = {stage: count for stage, count in funnel(rows).items() if stage != "read"}
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    ours, book = figure.subplots(1, 2, width_ratios=(2, 1))
    left = np.zeros(len(counts))
    for status, colour in zip(STATUSES, ("#3b6fb6", "#c9ced6", "#c0392b"), strict=True):
        numbers = [count[status] for count in counts.values()]
        bars = ours.barh(list(counts), numbers, left=left, color=colour)
        left += numbers
    ours.bar_label(bars, [f" {n['kept']} of {n['in']}" for n in counts.values()], fontsize=9)
    ours.set_xlim(0, 1.2 * left.max(initial=1))  # room for the words
    ours.invert_yaxis()
    ours.set_title("this run: kept (blue), rejected (grey), error (red)", fontsize=10)
    book.bar(range(len(BOOK_FUNNEL)), BOOK_FUNNEL, color="#d9b36c")
    book.set_xticks([])
    book.set_title("the book's example, in millions\n(illustrative)", fontsize=10)
    return figure


def borderline_sheet(
    rows: Sequence[Row], gates: Sequence[Gate], folder: Path, per_gate: int = 6, width: int = 160
) -> np.ndarray:
    """Sheet of the clips nearest to each gate's threshold, uint8 [H, W, 3]: one line a gate, each
    picture with its value, framed green where it passes and red where it does not. `folder` holds
    the videos; a picture with its frame is `width` pixels wide."""
    clips = [row for row in rows if row.stage == "quality"]
    lines, size = [], (width - 8, width * 9 // 16 - 8)
    for gate in gates:
        line = np.full((size[1] + 28, per_gate * width, 3), 255, np.uint8)
        chosen = borderline(clips, gate, per_gate)
        for place, row in enumerate(chosen):
            tile = line[:, place * width : (place + 1) * width]
            value = row.metrics[gate.metric]
            tile[:-20] = (0, 150, 60) if gate.passes(value) else (200, 40, 40)
            video, middle = VideoReader(folder / row.source, shrink_to=256), sum(row.frames) - 1
            picture = Image.fromarray(video.read(middle // 2, 1).frames[0])
            tile[4:-24, 4:-4] = ImageOps.pad(picture, size, color=(230, 230, 230))
            text, at = f"{gate.metric} {value:.3g}", (place * width + 4, len(line) - 6)
            cv2.putText(line, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (40, 40, 40), 1, 16)
        lines += [line] if chosen else []
    return np.vstack(lines) if lines else np.full((32, width, 3), 255, np.uint8)
