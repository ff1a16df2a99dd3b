"""Public benchmarks on the disk: UCF101's folders and split files."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_NAME = re.compile(r"v_(?P<label>\w+?)_g(?P<group>\d+)_c(?P<take>\d+)\.avi$")


@dataclass(frozen=True)
class LabelledClip:
    """file: below the folder of videos. group: clips cut from one film; never split them apart."""

    file: str
    label: str
    group: int
    split: str


def read_ucf101(videos: str | Path, splits: str | Path, number: int = 1) -> list[LabelledClip]:
    """The clips of UCF101 (Soomro et al. 2012) with split `number`, 1 to 3.

    videos: folder with one folder per class. splits: folder with trainlist01.txt, testlist01.txt.
    Raises FileNotFoundError naming the first clip of the lists that is not there, and ValueError
    for a name that is not of this data set or a film that lies in both lists.
    """
    videos, clips = Path(videos), []
    for split in ("train", "test"):
        listing = Path(splits) / f"{split}list{number:02d}.txt"
        for line in listing.read_text(encoding="utf-8").splitlines():
            if not line.strip():
                continue
            file = line.split()[0]
            match = _NAME.search(file)
            if match is None:
                raise ValueError(f"{file} in {listing.name} is no clip of UCF101")
            if not (videos / file).is_file():
                raise FileNotFoundError(f"{listing.name} names {file}, which is not in {videos}")
            clips.append(LabelledClip(file, match["label"], int(match["group"]), split))
    _check_groups(clips)
    return clips


def _check_groups(clips: list[LabelledClip]) -> None:
    seen: dict[tuple[str, int], str] = {}
    for clip in clips:
        if seen.setdefault((clip.label, clip.group), clip.split) != clip.split:
            raise ValueError(f"group {clip.group} of {clip.label} is in both lists: a leak")


def class_counts(clips: list[LabelledClip]) -> Mapping[str, int]:
    """Clips of each class, sorted by name."""
    labels = sorted({clip.label for clip in clips})
    return {label: sum(clip.label == label for clip in clips) for label in labels}
