"""What is in a clip: four small interfaces, and answers that need no download.

    detector.detect(clip) -> objects, the best first within a frame
    actor.act(clip) -> actions, the most certain first
    captioner.caption(clip, objects, actions) -> one sentence
    embedder.embed(clip) -> vector [D]

The first three have a name. The embedded annotators work on any video with OpenCV alone and say
only what can be seen without a trained model: that something moves, where, which way, in which
colours. `hub` has trained models behind the same interfaces.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vidgen_lab.video.clip import Clip, evenly_spaced
from vidgen_lab.video.reader import VideoReader

Object = dict[str, Any]  # frame, box [x, y, width, height] in pixels, label, score
Action = dict[str, Any]  # label, score
_CHANGED = 24  # grey levels from the background beyond which a pixel moves
_LEAST = 0.004  # share of the picture that a thing that moves fills
_SAMPLE_SIDE = 512  # pixels of the shorter side of samples, at most; models look at 224 to 448
Frames = tuple[int, int] | None  # [first, end) of a video; None: all of it


class MotionDetector:
    """Boxes of what moves against a still background (the median of the frames)."""

    name = "motion-segmentation"

    def __init__(self, samples: int = 5) -> None:
        self.samples = samples

    def detect(self, clip: Clip) -> list[Object]:
        """Objects of the sampled frames, each {frame, box [x, y, width, height] in pixels, label,
        score in 0..1}: at most five a frame, the largest first, scored by the share of the picture
        that they fill."""
        found = []
        numbers = evenly_spaced(clip.num_frames, self.samples)
        for number, mask in zip(numbers, self.masks(clip), strict=True):
            count, _, stats, _ = cv2.connectedComponentsWithStats(mask)
            sizes = stats[1:count, cv2.CC_STAT_AREA] / mask.size
            for part in np.argsort(-sizes)[:5]:
                if sizes[part] >= _LEAST:
                    box = stats[1 + part, :4].tolist()
                    score = float(min(1.0, sizes[part] * 10))
                    found.append({"frame": number, "box": box, "label": "moving", "score": score})
        return found

    def masks(self, clip: Clip) -> np.ndarray:
        """uint8 [samples, H, W], 255 where something moves."""
        some = clip.frames[evenly_spaced(clip.num_frames, 15)]
        background = np.median(some, axis=0).astype(np.uint8)
        kernel = np.ones((3, 3), np.uint8)
        frames = clip.frames[evenly_spaced(clip.num_frames, self.samples)]
        changed = [cv2.absdiff(frame, background).max(axis=2) > _CHANGED for frame in frames]
        masks = (np.uint8(mask) * 255 for mask in changed)
        return np.stack([cv2.morphologyEx(m, cv2.MORPH_CLOSE, kernel, iterations=2) for m in masks])


class FlowActions:
    """Which way things move, from optical flow: left, right, up, down, in place, or not at all."""

    name = "flow-direction"

    def act(self, clip: Clip) -> list[Action]:
        """Directions as {label, score}, the most frequent first; score: share of frame pairs."""
        if clip.num_frames < 2 or min(clip.height, clip.width) < 16:
            return [{"label": "still", "score": 1.0}]
        engine = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        votes = Counter()
        for n in evenly_spaced(clip.num_frames - 1, 6):
            pair = (cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in clip.frames[n : n + 2])
            votes[_direction(engine.calc(*pair, None))] += 1
        total = votes.total()
        return [{"label": label, "score": n / total} for label, n in votes.most_common()]


def _direction(flow: np.ndarray) -> str:
    """flow [H, W, 2] in pixels -> the side to which what moves goes."""
    length = np.hypot(flow[..., 0], flow[..., 1])
    moving = length > 0.4
    if moving.mean() < 0.002:
        return "still"
    x, y = flow[moving].mean(axis=0)
    if np.hypot(x, y) < 0.35 * length[moving].mean():
        return "in place"
    if abs(x) >= abs(y):
        return "right" if x > 0 else "left"
    return "down" if y > 0 else "up"


class TemplateCaptioner:
    """A plain sentence made of what the others found, and of colours and light."""

    name = "template"

    def caption(self, clip: Clip, objects: Sequence[Object], actions: Sequence[Action]) -> str:
        """One sentence, from what `detect` and `act` found in the clip."""
        middle = clip.frames[clip.num_frames // 2]
        level = middle.mean()
        light = "dark" if level < 70 else "bright" if level > 160 else "softly lit"
        # The word that most of the pixels would get; a mean would mix them to mud.
        pixels = cv2.resize(middle, (12, 12), interpolation=cv2.INTER_NEAREST).reshape(-1, 3)
        place = f"a {light}, mostly {_names(pixels).most_common(1)[0][0]} scene"
        label = actions[0]["label"] if actions else "still"
        if not objects or label == "still":
            return f"{place[0].upper()}{place[1:]} in which hardly anything moves."
        largest = max(objects, key=lambda o: o["box"][2] * o["box"][3])
        colour = _colour_of_thing(clip.frames[largest["frame"]], largest["box"])
        noun = largest["label"] if largest["label"] != "moving" else "shape"
        way = "moves in place" if label == "in place" else f"moves {label}"
        article = "an" if colour[0] in "aeiou" else "a"
        return f"{article.capitalize()} {colour} {noun} {way} in {place}."


class NoCaptioner:
    """Leaves the caption to somebody else."""

    name = "none"

    def caption(self, clip: Clip, objects: Sequence[Object], actions: Sequence[Action]) -> str:
        """Nothing, whatever was found."""
        return ""


class JudgeEmbedder:
    """The features of the toy world's judge: subject, colour, motion, place and style.

    A small network that has seen cartoons only. Of other footage it still tells like from unlike
    by colours, shapes and motion, but has no idea what it sees.
    """

    def embed(self, clip: Clip) -> np.ndarray:
        """A vector [D]; clips alike have vectors of a small angle."""
        import torch

        from vidgen_lab.metrics.judge import judge_input, load_judge

        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # sums in another order would be other vectors
        try:
            judge = load_judge()  # not in inference mode: all callers share it, also trainings
            with torch.inference_mode():
                return judge.features(judge_input([clip], judge.frames))[0].numpy()
        finally:
            torch.set_num_threads(threads)


# By role and short name. A text names a class of `hub`, which is imported and loaded when somebody
# asks for it.
ANNOTATORS: Mapping[str, Mapping[str, type | str]] = {
    "detector": {"motion": MotionDetector, "rtdetr": "RtDetrDetector"},
    "actor": {"flow": FlowActions, "xclip": "XClipActions"},
    "captioner": {
        "template": TemplateCaptioner, "none": NoCaptioner, "smolvlm": "SmolVlmCaptioner",
    },
    "embedder": {"judge": JudgeEmbedder, "clip": "ClipEmbedder"},
}  # fmt: skip


@lru_cache(maxsize=4)
def make(role: str, name: str, download: bool = False) -> Any:
    """The annotator of a role by its short name, made once a process.

    Trained ones are fetched only if `download` allows it.

    Raises:
        ValueError: the role has no annotator of this name.
        FileNotFoundError: weights are missing; the message names their size and licence.
    """
    if name not in ANNOTATORS[role]:
        raise ValueError(f"{role} must be one of {', '.join(ANNOTATORS[role])}, not {name!r}")
    if not isinstance(kind := ANNOTATORS[role][name], str):
        return kind()
    from vidgen_lab.pipeline.annotate import hub

    return getattr(hub, kind).load(download=download)


def annotate_clip(clip: Clip, detector: Any, actor: Any, captioner: Any) -> dict[str, Any]:
    """Objects, actions and caption of a clip, with the names of who said so.

    Frames and boxes of objects are those of the file that the clip was sampled from, if it was.
    """
    objects, actions = detector.detect(clip), actor.act(clip)
    caption = captioner.caption(clip, objects, actions)
    place = {"start": 0, "stride": 1, "reduced": 1} | clip.meta  # a whole clip has none
    for thing in objects:
        thing["frame"] = place["start"] + thing["frame"] * place["stride"]
        thing["box"] = [round(value * place["reduced"]) for value in thing["box"]]
    return {
        "objects": objects,
        "actions": actions,
        "caption": caption,
        "caption_from": captioner.name,
        "annotators": [detector.name, actor.name, captioner.name],
    }


def sample_clips(path: str | Path, frames: Sequence[Frames], samples: int = 48) -> Iterator[Clip]:
    """Of each of these clips at most `samples` frames, evenly spaced and reduced to 512 pixels of
    the shorter side at most, so that long and large clips cost no more memory than short and small
    ones; `meta["reduced"]` says how many times."""
    video, spans = VideoReader(path, shrink_to=_SAMPLE_SIDE), []
    for first, end in (span or (0, video.info.num_frames) for span in frames):
        stride = max(1, -(-(end - first) // samples))
        spans.append((first, len(range(first, end, stride)), stride))
    for clip in video.read_spans(spans):
        reduced = video.info.width / clip.width
        yield Clip(clip.frames, clip.fps, {**clip.meta, "reduced": reduced})


def colour_name(rgb: Sequence[float]) -> str:
    """A common word for a colour, (red, green, blue) in 0..255."""
    hue, saturation, value = cv2.cvtColor(np.uint8([[list(rgb)]]), cv2.COLOR_RGB2HSV)[0, 0]
    if value < 45:
        return "black"
    if saturation < 45:
        return "white" if value > 215 else "grey"
    bounds = (
        (7, "red"), (20, "orange"), (33, "yellow"), (82, "green"), (100, "turquoise"),
        (128, "blue"), (150, "purple"), (170, "pink"), (181, "red"),
    )  # fmt: skip
    return next(name for bound, name in bounds if hue < bound)


def _colour_of_thing(frame: np.ndarray, box: Sequence[int]) -> str:
    """The commonest colour in a box that is not also the commonest just around it: a thing rarely
    fills its box, so without this it would get the colour of the sky behind it."""
    x, y, w, h = (round(value) for value in box)
    margin = max(2, min(w, h) // 6)
    top, left = max(0, y - margin), max(0, x - margin)
    outer = frame[top : y + h + margin, left : x + w + margin]
    around = np.ones(outer.shape[:2], bool)
    around[y - top : y - top + h, x - left : x - left + w] = False
    inside = _names(frame[y : y + h, x : x + w].reshape(-1, 3))
    behind = next((name for name, _ in _names(outer[around]).most_common(1)), "")
    others = [(name, n) for name, n in inside.most_common() if name != behind]
    return others[0][0] if others and others[0][1] > 0.1 * inside.total() else behind


def _names(pixels: np.ndarray) -> Counter:
    """How many of at most 300 of these pixels have which colour."""
    return Counter(colour_name(pixel) for pixel in pixels[:: max(1, len(pixels) // 300)])
