"""Shapes that a batch can have, and which of them a clip gets."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vidgen_lab.training.data.clips import ClipRecord

Reason = Literal["too_short", "too_small"]


@dataclass(frozen=True, order=True)
class Bucket:
    """A shape that a batch can have: frames, and pixels."""

    num_frames: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if min(self.num_frames, self.height, self.width) < 1:
            raise ValueError(f"a bucket needs at least one frame of one pixel, not {self}")

    def __str__(self) -> str:
        return f"{self.num_frames}x{self.height}x{self.width}"

    def scale(self, height: int, width: int) -> float:
        """How many times a picture must be enlarged to cover the bucket's."""
        return max(self.height / height, self.width / width)

    def kept(self, height: int, width: int) -> float:
        """The share of a picture that the centre crop leaves, 0..1; 1 for the same aspect ratio."""
        rows, columns = self.height / height, self.width / width
        return min(rows, columns) / max(rows, columns)


@dataclass(frozen=True)
class Unfit:
    """A clip that no bucket takes, and why in words."""

    clip: ClipRecord
    reason: Reason
    detail: str


@dataclass(frozen=True)
class Assignment:
    """clips: each clip that has a bucket, with it, in the order given. unfit: all the others."""

    clips: tuple[tuple[ClipRecord, Bucket], ...]
    unfit: tuple[Unfit, ...] = ()

    @property
    def counts(self) -> dict[Bucket, int]:
        """Clips in each bucket that has any, smallest bucket first."""
        return dict(sorted(Counter(bucket for _, bucket in self.clips).items()))

    @property
    def reasons(self) -> dict[Reason, int]:
        """Clips without a bucket, by reason."""
        return dict(sorted(Counter(each.reason for each in self.unfit).items()))

    def __str__(self) -> str:
        lines = [f"{number:6d}  {bucket}" for bucket, number in self.counts.items()]
        for reason, number in self.reasons.items():
            first = next(each for each in self.unfit if each.reason == reason)
            lines.append(f"{number:6d}  {reason}, such as {first.clip.id}: {first.detail}")
        return "\n".join(lines)


def assign(
    records: Sequence[ClipRecord], buckets: Sequence[Bucket], max_upscale: float = 1.0
) -> Assignment:
    """Give each clip the bucket that keeps most of it.

    A bucket fits that has no more frames than the clip and asks for no more than `max_upscale`
    times its size. Of these the one with the most frames times the share of the picture its crop
    leaves (to one per cent): the longest where aspect ratios agree, while an upright clip is not
    cut to its middle third for a few frames more. Then most frames, then most pixels; the order of
    `buckets` does not matter.
    Raises ValueError without buckets, and when no clip fits, with the number for each reason.
    """
    if not buckets or max_upscale <= 0:
        raise ValueError(f"at least one bucket and an upscale > 0, not {buckets}, {max_upscale}")
    clips, unfit = [], []
    for record in records:
        place = _place(record, buckets, max_upscale)
        if isinstance(place, Bucket):
            clips.append((record, place))
        else:
            unfit.append(place)
    found = Assignment(tuple(clips), tuple(unfit))
    if not clips:
        raise ValueError(f"not one of {len(records)} clips fits a bucket:\n{found}")
    return found


def _place(record: ClipRecord, buckets: Sequence[Bucket], max_upscale: float) -> Bucket | Unfit:
    size = record.height, record.width
    short = [b for b in buckets if b.num_frames <= record.num_frames]
    if not short:
        least = min(b.num_frames for b in buckets)
        return Unfit(
            record, "too_short", f"{record.num_frames} frames, every bucket has {least} or more"
        )
    fitting = [b for b in short if b.scale(*size) <= max_upscale]
    if not fitting:
        scale = min(b.scale(*size) for b in short)
        detail = f"{record.height}x{record.width} enlarged {scale:.2f} times, over {max_upscale:g}"
        return Unfit(record, "too_small", detail)

    def worth(bucket: Bucket) -> tuple:
        kept = bucket.num_frames * round(bucket.kept(*size), 2)
        return kept, bucket.num_frames, bucket.height * bucket.width, bucket

    return max(fitting, key=worth)
