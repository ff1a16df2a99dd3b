"""The clips of a training set: reads back the lists that `prepare` and `toyworld` write.

    metadata.jsonl, .csv        Hugging Face VideoFolder
    open_sora.csv               Open-Sora
    prompts.txt + videos.txt    CogVideo
    prompt.txt + videos.txt     finetrainers

A folder may hold several of them about the same clips; the first in this order is read. What comes
out is the same whichever it is, but for the weights, which metadata.jsonl alone knows.
`vidgen_lab.training.data.dataset` makes batches of the clips.
"""

import csv
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidgen_lab.video.reader import probe_video

LAYOUTS = {
    "VideoFolder": ("metadata.jsonl",),
    "VideoFolder as CSV": ("metadata.csv",),
    "Open-Sora": ("open_sora.csv",),
    "CogVideo": ("prompts.txt", "videos.txt"),
    "finetrainers": ("prompt.txt", "videos.txt"),
}
_VIDEO, _CAPTION = ("file_name", "path"), ("text", "caption", "prompt")


@dataclass(frozen=True)
class ClipRecord:
    """One clip of a training set, before anything of it is decoded.

    Attributes:
        id: the video's path as listed, so it stays when the folder moves; a video listed twice with
            two captions has one id.
        path: of the file.
        caption: one line, runs of white space made one.
        num_frames: counted.
        height, width: pixels as shown, after rotation.
        fps: frames per second.
        weight: how often to draw the clip in an epoch, on average; the pipeline's balancing sets
            it.
    """

    id: str
    path: Path
    caption: str
    num_frames: int
    height: int
    width: int
    fps: float
    weight: float = 1.0


def read_clips(folder: str | Path) -> list[ClipRecord]:
    """The clips of a prepared folder, in the order of its list.

    Frames, size and rate are taken from the list where it has all four, else each video is probed
    once (one frame decoded). An empty caption is an error: it would train the unconditional branch
    without anybody having asked for it.

    Args:
        folder: for instance OUT/dataset/train of `vidgen-lab prepare SRC OUT`; or one list in it,
            which chooses that list and may then have any name.

    Raises:
        FileNotFoundError: there is no list, or videos are not there.
        ValueError: a list is unreadable or empty, lists have unequal lengths, captions are empty.
        VideoError: files are no videos.
    """
    listing, records, refused = _find_list(Path(folder)), [], []
    for number, row in enumerate(_read_rows(listing), 1):
        try:
            records.append(_record(listing.parent, row))
        except (FileNotFoundError, ValueError) as error:  # VideoError is one
            video = _first(row, _VIDEO, "?")
            refused.append(type(error)(f"entry {number}, {video}: {error}"))
    if refused:
        raise type(refused[0])(
            f"{len(refused)} of {len(records) + len(refused)} videos in {listing} cannot be used; "
            "mend them, take them out of the list, or run vidgen-lab prepare, which does: "
            + _some([str(error) for error in refused], "; ", 20)
        )
    return records


def _find_list(place: Path) -> Path:
    """The list to read: `place` itself, or the first one in the folder."""
    if place.is_file():
        return place
    if not place.exists():
        raise FileNotFoundError(f"no folder {place}: name one that vidgen-lab prepare has written")
    found = _lists_in(place)
    if not found:
        looked = ", ".join(f"{' + '.join(files)} ({name})" for name, files in LAYOUTS.items())
        near = [str(p) for p in (*place.glob("*/"), *place.glob("*/*/")) if _lists_in(p)]
        hint = f"lists lie in {_some(sorted(near))}: name that folder" if near else (
            "vidgen-lab prepare SRC OUT writes them all, into OUT/dataset/SPLIT"
        )  # fmt: skip
        raise FileNotFoundError(f"no list of clips in {place}: looked for {looked}; {hint}")
    return found


def _lists_in(folder: Path) -> Path | None:
    complete = (f for f in LAYOUTS.values() if all((folder / name).is_file() for name in f))
    return next((folder / files[0] for files in complete), None)


def _read_rows(listing: Path) -> list[dict[str, Any]]:
    """One mapping a clip, whatever the layout."""
    kind = listing.suffix.lower()
    try:
        if kind == ".csv":
            with listing.open(encoding="utf-8-sig", newline="") as file:
                rows = list(table := csv.DictReader(file))
        elif kind == ".jsonl":
            lines = enumerate(_lines(listing), 1)
            rows = [_json_object(listing, number, line) for number, line in lines if line.strip()]
        elif kind == ".txt":
            rows = _read_pairs(listing)
        else:
            raise ValueError(
                f"{listing} is no list of clips: .jsonl, .csv, or .txt beside a videos.txt"
            )
    except csv.Error as error:
        raise ValueError(f"{listing}, line {table.line_num + 1}: {error}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{listing} is no UTF-8 text ({error}): save it as such") from None
    if not rows:
        raise ValueError(f"{listing} lists no clip")
    return rows


def _read_pairs(listing: Path) -> list[dict[str, Any]]:
    """Two text files, a prompt and a video in the same line."""
    beside = listing.with_name("videos.txt")
    if not beside.is_file() or listing.name == beside.name:
        raise FileNotFoundError(f"a list of prompts and videos.txt beside it, not {listing} alone")
    prompts, videos = _lines(listing), _lines(beside)
    while videos and not videos[-1].strip():
        videos.pop()
    while len(prompts) > len(videos) and not prompts[-1].strip():
        prompts.pop()
    if len(prompts) != len(videos):
        raise ValueError(
            f"{listing} has {len(prompts)} lines and {beside.name} has {len(videos)}: line n of "
            "one belongs to line n of the other, so a caption must not contain a line break"
        )
    pairs = zip(prompts, videos, strict=True)
    return [{"path": video.strip() or None, "text": prompt} for prompt, video in pairs]


def _lines(path: Path) -> list[str]:
    """Lines without their ends. Not splitlines: a caption may hold the odd Unicode line break."""
    return [line.removesuffix("\r") for line in path.read_text("utf-8-sig").split("\n")]


def _json_object(listing: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as err:
        raise ValueError(f"{listing}, line {number} is no JSON: {err.msg}") from err
    except RecursionError:
        raise ValueError(f"{listing}, line {number} is no JSON: nested too deeply") from None
    if not isinstance(row, dict):
        raise ValueError(f"{listing}, line {number} is no JSON object")
    if wrong := _implausible(listing.parent, row):
        raise ValueError(f"{listing}, line {number}: {wrong}")
    return row


def _implausible(root: Path, row: Mapping[str, Any]) -> str | None:
    """What a line of VideoFolder cannot say: a video outside the folder, half a frame."""
    video = str(_first(row, _VIDEO, ""))
    top = os.path.abspath(root)
    whole = os.path.join(os.path.normpath(os.path.join(top, video)), "")
    if not whole.startswith(os.path.join(top, "")) or "\0" in video:
        return f"{video!r} lies outside the list's folder"
    for name in ("num_frames", "height", "width"):
        number = _number(row.get(name))
        if number is not None and not _is_count(number):
            return f"{name} is {number:g}, which is no number of frames or pixels"
    return None


def _is_count(number: float) -> bool:
    return number.is_integer() and number < 2**31


def _first(row: Mapping[str, Any], names: Sequence[str], missing: Any) -> Any:
    """The first of the named columns that is there."""
    return next((row[name] for name in names if row.get(name) is not None), missing)


def _record(root: Path, row: Mapping[str, Any]) -> ClipRecord:
    video, caption = _first(row, _VIDEO, None), _first(row, _CAPTION, "")
    for value, names in ((video, _VIDEO), (caption, _CAPTION)):
        if value is None or not set(names) & set(row):
            fields = ", ".join(map(str, row)) or "none"
            raise ValueError(f"names no {' or '.join(names)}; its fields are {fields}")
    # White space in a caption is layout; in a file name it is part of the name.
    path, caption = root / str(video), " ".join(str(caption).split())
    if not path.is_file():
        raise FileNotFoundError("there is no such file")
    if not caption:
        raise ValueError("its caption is empty: caption it")
    inside = path.relative_to(root) if path.is_relative_to(root) else path
    facts = _facts(row)
    if facts is None:
        info = probe_video(path)
        facts = info.num_frames, info.height, info.width, info.fps
    weight = _number(row.get("weight"))
    return ClipRecord(inside.as_posix(), path, caption, *facts, 1.0 if weight is None else weight)


def _facts(row: Mapping[str, Any]) -> tuple[int, int, int, float] | None:
    """(frames, height, width, rate) if the list has all four, and all make sense."""
    found = [_number(row.get(name)) for name in ("num_frames", "height", "width", "fps")]
    if not all(found) or not all(_is_count(number) for number in found[:3]):  # None, zero, half
        return None
    return int(found[0]), int(found[1]), int(found[2]), found[3]


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _some(names: Sequence[str], between: str = ", ", most: int = 5) -> str:
    """The first few, and how many more."""
    rest = len(names) - most
    return between.join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
