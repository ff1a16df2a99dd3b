"""The clips to fine-tune on: any folder that `training.clips` reads, checked line by line.

CogVideo's folder (`prompts.txt`, `videos.txt`, optionally `images.txt` with first frames), Hugging
Face's VideoFolder, and what `vidgen-lab prepare` writes from chapter 2's manifest.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vidgen_lab.config import as_paths, check_ranges
from vidgen_lab.training.data.buckets import Bucket, Unfit, assign
from vidgen_lab.training.data.clip_encoding import ClipSpan
from vidgen_lab.training.data.clips import ClipRecord, read_clips
from vidgen_lab.video.clip import evenly_spaced


@dataclass(frozen=True)
class DataConfig:
    """What is trained on.

    Attributes:
        folder: of the clips, or one list of them; see `read_clips`.
        num_frames, height, width: what the model sees of each, in frames and pixels; None is what
            it was made for. A clip that is shorter or smaller is left out, by name.
        max_upscale: how many times a smaller one may be enlarged; at 1 it may not.
        captions: "description" as listed; "trigger" the trigger word alone; "both" the word before
            the description.
        trigger: that word, such as "in ink style".
        caption_dropout: share of draws without a text, below 1: it keeps guidance working.
        batch_size: clips in a micro-batch.
        workers: processes that load; 0 loads in the training's own.
        held_out: how many clips, from the end of the list, are kept for the held-out loss alone.
        prior: a folder of clips that the base model made, trained on beside: every second clip is
            one of them, which pulls a fine-tuning back to what the base could (prior preservation,
            as in DreamBooth, Ruiz et al. 2022).
    """

    folder: Path
    num_frames: int | None = None
    height: int | None = None
    width: int | None = None
    max_upscale: float = 1.0
    captions: Literal["description", "trigger", "both"] = "description"
    trigger: str = ""
    caption_dropout: float = 0.05
    batch_size: int = 1
    workers: int = 0
    held_out: int = 0
    prior: Path | None = None

    def __post_init__(self) -> None:
        as_paths(self, "folder", "prior")
        if self.captions != "description" and not self.trigger.strip():
            raise ValueError(f"captions={self.captions} needs a trigger word")
        none = dict.fromkeys(("workers", "held_out"), (0, math.inf))
        check_ranges(self, **none, batch_size=(1, math.inf), caption_dropout=(0, 1 - 1e-9))


@dataclass(frozen=True)
class TrainingClip:
    """One clip as it is learned: what is seen of the file, its text, and its first frame.

    Attributes:
        image: a picture file or frame 0 of what is seen.
    """

    id: str
    span: ClipSpan
    caption: str
    image: ClipSpan


def read_training_clips(config: DataConfig) -> tuple[list[TrainingClip], list[Unfit]]:
    """The clips of a folder as they will be learned, and those left out with the reason.

    The size in `config` must be given. Also raises what `read_clips` raises, naming the entries.

    Raises:
        ValueError: no clip fits, or images.txt does not go with the list.
    """
    records = read_clips(config.folder)
    images = _images(config.folder, records)
    bucket = Bucket(config.num_frames, config.height, config.width)
    found = assign(records, [bucket], config.max_upscale)
    size, word, clips = (config.height, config.width), config.trigger.strip(), []
    for record, _ in found.clips:
        said = record.caption
        caption = {"description": said, "trigger": word, "both": f"{word}, {said}"}[config.captions]
        span = ClipSpan(record.path, evenly_spaced(record.num_frames, config.num_frames), *size)
        image = ClipSpan(images.get(record, record.path), (0,), *size)
        clips.append(TrainingClip(record.id, span, caption, image))
    return clips, list(found.unfit)


def table_of(clips: Sequence[TrainingClip], unfit: Sequence[Unfit], most: int = 8) -> str:
    """What will be trained on and what will not, with the reason: to be read before a run."""
    lines = [f"{len(clips)} clips are trained on"]
    for clip in clips[:most]:
        frames = clip.span.frames
        speed = frames[-1] / max(1, len(frames) - 1)  # they are spread over the whole clip
        fast = f", {speed:.2f} times its speed" if speed > 1.01 else ""
        shape = "x".join(map(str, clip.span.shape))
        lines.append(f"  {clip.id}: {shape}, frames {frames[0]} to {frames[-1]}{fast}")
        lines.append(f"    {clip.caption}")
    if len(clips) > most:
        lines.append(f"  and {len(clips) - most} more")
    if unfit:
        lines.append(f"{len(unfit)} are left out")
        lines += [f"  {clip.id}: {reason}, {detail}" for clip, reason, detail in unfit]
    return "\n".join(lines)


def _images(folder: Path, records: Sequence[ClipRecord]) -> dict[ClipRecord, Path]:
    """First frames by clip, from CogVideo's images.txt if there is one."""
    folder = Path(folder)
    listing = (folder if folder.is_dir() else folder.parent) / "images.txt"
    if not listing.is_file():
        return {}
    names = [line.strip() for line in listing.read_text("utf-8-sig").splitlines() if line.strip()]
    if len(names) != len(records):
        raise ValueError(
            f"{listing} has {len(names)} lines for {len(records)} clips: line n of one belongs to "
            "line n of the other"
        )
    paths = [listing.parent / name for name in names]
    if missing := [f"line {n}, {p}" for n, p in enumerate(paths, 1) if not p.is_file()]:
        raise ValueError(f"{listing} names pictures that are not there:\n  {chr(10).join(missing)}")
    return dict(zip(records, paths, strict=True))
