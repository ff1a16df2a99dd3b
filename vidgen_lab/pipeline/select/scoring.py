"""Everything the gates need to know about a video, from decoding each frame exactly once.

One pass feeds the cut finder, the frame measures (a few times a second) and the motion measure
(neighbouring frames, a few times a second). Scores are kept by time and summed up per scene
afterwards, because a scene's end is known only later.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vidgen_lab.config import Checked
from vidgen_lab.metrics.flow import flow_magnitude
from vidgen_lab.pipeline.read import pictures
from vidgen_lab.pipeline.read.probing import Facts, probe_file
from vidgen_lab.pipeline.read.scenes import CutFinder, SceneSettings, Span, spans_between
from vidgen_lab.pipeline.select.sameness import Signature
from vidgen_lab.video.clip import Clip
from vidgen_lab.video.reader import VideoError, VideoReader

_FROZEN = 3.0  # grey levels: no block of the picture changed more than coding noise does
_CHANGED = 6.0  # grey levels by which the mean of a block has to move to count as a change
_PER_SECOND = 12.0  # moments at which it is asked whether anything changed
_BLOCKS = 16  # blocks along each side of a picture


@dataclass(frozen=True)
class ScoreSettings(Checked, samples_per_second=(0.001, 1000), max_samples=(1, 10_000)):
    """How densely a video is measured.

    Attributes:
        samples_per_second: how often the frame measures and the flow are taken.
        max_samples: at most so many thumbnails and hashes are kept of one scene.
    """

    samples_per_second: float = 4.0
    max_samples: int = 40


@dataclass(frozen=True)
class Look:
    """One frame that was measured, and a small picture of it.

    Attributes:
        measured: by the names of the metrics; the flow is to the next frame, where there is one.
        colour: the small picture, uint8 [64, 64, 3], RGB.
    """

    number: int
    measured: Mapping[str, float | None]
    colour: np.ndarray


def score_video(
    path: str | Path,
    scenes: SceneSettings = SceneSettings(),  # noqa: B008
    settings: ScoreSettings = ScoreSettings(),
) -> dict[str, Any]:
    """Probe, split and measure a video: {"facts": ..., "clips": [{frames, span, crop, metrics,
    damage, hashes, thumbs, step}]}.

    Plain values only, so that the result can be written down and sent between processes. frames
    and seconds (span) are [first, end); crop: see `crop_of`; metrics: by name, None where nothing
    was measured; damage: where a scene is damaged, or "". `Signature.of` reads the rest.

    Raises:
        VideoError: the file is no video or is cut short.
    """
    reader = VideoReader(path, shrink_to=pictures.WORK_SIDE)
    facts = probe_file(reader)
    if facts.missing:
        raise VideoError(
            f"truncated: {facts.missing} of the announced {facts.num_frames + facts.missing} "
            "frames are not in the file"
        )
    watch, sound = _Watch(facts, scenes, settings), set()
    for number, rgb, whole in reader.converted(careful=True):
        while watch.number < number:  # lost: as a player does, the picture before it stays
            watch.add(rgb if watch.last is None else watch.last)
        watch.add(rgb)
        sound |= {number} if whole else set()
    while watch.number < facts.num_frames:
        watch.add(watch.last)
    watch.look(None)
    duration = max(facts.seconds, float(reader.times[-1]) + 0.5 / facts.fps)
    spans = spans_between(watch.finder.cuts(), reader.times, duration)
    clips = [{**watch.summary(s), "damage": _damage(sound, s, reader.times)} for s in spans]
    return {"facts": facts.to_dict(), "clips": clips}


def _damage(sound: set[int], span: Span, times: np.ndarray) -> str:
    """Where a scene is damaged, in words; empty for one that is whole."""
    broken = [number for number in range(span.first, span.end) if number not in sound]
    if not broken:
        return ""
    where = f"frame {broken[0]} ({times[broken[0]]:.2f} s)"
    return f"damaged: {len(broken)} of {span.num_frames} frames, the first is {where}"


class _Watch:
    """Sees every frame once and remembers what the summaries need."""

    def __init__(self, facts: Facts, scenes: SceneSettings, settings: ScoreSettings) -> None:
        self.facts, self.settings = facts, settings
        self.finder = CutFinder(facts.fps, scenes)
        self.every = max(1, round(facts.fps / settings.samples_per_second))
        self.number = 0  # of frames so far
        self.last: np.ndarray | None = None  # of them
        self.looks: list[Look] = []
        # A player at twelve frames a second would show nothing new: the same at every rate.
        self.stride = max(1, round(facts.fps / _PER_SECOND))
        self.changes: list[float] = []  # of every so many frames, against the one before
        self._before: np.ndarray | None = None

    def add(self, rgb: np.ndarray) -> None:
        self.finder.add(rgb)
        grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        if self.number % self.stride == 0:
            self.changes.append(_block_change(self._before, grey))
            self._before = grey
        self.look(rgb)
        self.last = rgb
        self.number += 1

    def look(self, after: np.ndarray | None) -> None:
        """At the last frame, if its turn has come; after: the next one, to see what moves."""
        if self.last is None or (self.number - 1) % self.every:
            return
        small = cv2.resize(self.last, (64, 64), interpolation=cv2.INTER_AREA)
        # The edge of a bar is sharp and its black is dark, whatever the picture between them is.
        box = pictures.bar_box([cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)])
        pair = [pictures.inside(p, box) for p in (self.last, after) if p is not None]
        grey = cv2.cvtColor(pair[0], cv2.COLOR_RGB2GRAY)
        large = min(grey.shape) >= 16
        measured = {
            "edge_steepness": pictures.edge_steepness(grey) if large else None,
            "dark": float((grey <= pictures.BLACK).mean()),
            "bright": float((grey >= pictures.WHITE).mean()),
            "blank": float(grey.std() < pictures.BLANK),
            "stripes": pictures.stripes(grey),
        }
        if after is not None and large:
            # A time base of one frame; the rate of the clip turns it into seconds.
            measured["flow_speed"] = float(flow_magnitude(Clip(np.stack(pair), self.facts.fps))[0])
        self.looks.append(Look(self.number - 1, measured, small))

    def summary(self, span: Span) -> dict[str, Any]:
        looks = [look for look in self.looks if span.first <= look.number < span.end]
        thinning = -(-len(looks) // self.settings.max_samples) or 1
        greys = [cv2.cvtColor(look.colour, cv2.COLOR_RGB2GRAY) for look in looks]
        box = pictures.bar_box(greys)
        crop = crop_of(box, self.facts.width, self.facts.height)
        step, chosen = self.every * thinning / self.facts.fps, looks[::thinning]
        signature = Signature.of_looks([look.colour for look in chosen], step, box)
        top, bottom, left, right = box
        shapes = {
            "short_side": min(crop[2:] if crop else (self.facts.width, self.facts.height)),
            "bars": 1 - (bottom - top) * (right - left),
            "changing": _changing([pictures.inside(grey, box) for grey in greys]),
        }
        return {
            "frames": [span.first, span.end],
            "span": [span.start, span.stop],
            "crop": crop,
            "metrics": self._metrics(span, looks) | shapes,
            **signature.plain(),
        }

    def _metrics(self, span: Span, looks: list[Look]) -> dict[str, float | None]:
        def over(how: Callable, *names: str, within: Sequence[Look] = looks) -> dict:
            """The middle of what was measured, by name; None where nothing was."""
            values = {n: [v for k in within if (v := k.measured.get(n)) is not None] for n in names}
            return {name: float(how(known)) if known else None for name, known in values.items()}

        first, end = (-(-edge // self.stride) for edge in (span.first, span.end))
        changes = np.array(self.changes[first + 1 : end])
        inside = [k for k in looks if k.number + 1 < span.end]  # and the next frame, for the flow
        return {
            "width": self.facts.width,
            "height": self.facts.height,
            "fps": span.num_frames / span.seconds,
            "seconds": span.seconds,
            "num_frames": span.num_frames,
            "frozen": float((changes < _FROZEN).mean()) if len(changes) else 1.0,
            **over(np.median, "edge_steepness", "stripes"),
            **over(np.mean, "dark", "bright", "blank"),
            **over(np.mean, "flow_speed", within=inside),
        }


def crop_of(box: tuple[float, ...], width: int, height: int) -> list[int] | None:
    """[x, y, width, height] in pixels of what lies between black bars (`box`, see `bar_box`), even
    numbers; None without bars."""
    if box == (0.0, 1.0, 0.0, 1.0):
        return None
    sides = []
    for first, end, length in ((*box[2:], width), (*box[:2], height)):
        start, stop = -(-round(first * length) // 2) * 2, round(end * length) // 2 * 2
        sides.append((start, max(2, stop - start)))
    (x, width), (y, height) = sides
    return [x, y, width, height]


def _block_change(before: np.ndarray | None, grey: np.ndarray) -> float:
    """Largest mean change of a block (a sixteenth of each side), in grey levels: something small
    may move in a picture that stands still."""
    if before is None:
        return 0.0
    change = cv2.absdiff(before, grey)
    return float(cv2.resize(change, (_BLOCKS, _BLOCKS), interpolation=cv2.INTER_AREA).max())


def _changing(greys: list[np.ndarray]) -> float | None:
    """Share of the picture, in blocks, that ever changes in the course of a scene, 0..1; None for
    fewer than two looks.

    Means of blocks, so that grain averages out; what brightens or darkens everywhere is taken out
    first. It sees what flow cannot follow: steam, spinning, anything very slow.
    """
    if len(greys) < 2:
        return None
    means = np.stack(
        [cv2.resize(g, (_BLOCKS, _BLOCKS), interpolation=cv2.INTER_AREA) for g in greys]
    ).astype(np.float32)
    means -= np.median(means, axis=(1, 2), keepdims=True)
    return float((np.ptp(means, axis=0) > _CHANGED).mean())
