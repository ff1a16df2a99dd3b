"""Shapes that a batch can have, which of them a clip gets, and in which order batches come.

A batch depends on (seed, epoch, its place in it) alone: not on the number of workers, nor on how
often the run was stopped and resumed.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from vidgen_lab import seeds
from vidgen_lab.training.data.clips import ClipRecord

Key = tuple[int, int]  # (index of the clip, epoch)
Reason = Literal["too_short", "too_small"]
Unfit = tuple[ClipRecord, Reason, str]


@dataclass(frozen=True, order=True)
class Bucket:
    """A shape that a batch can have: frames, and pixels.

    Attributes:
        stride: every how manieth frame of a clip is taken, beginning with the first one of its
            window.
    """

    num_frames: int
    height: int
    width: int
    stride: int = 1

    def __post_init__(self) -> None:
        if min(self.num_frames, self.height, self.width, self.stride) < 1:
            raise ValueError(f"a bucket needs at least one frame of one pixel, not {self}")

    def __str__(self) -> str:
        every = f"/{self.stride}" if self.stride > 1 else ""
        return f"{self.num_frames}{every}x{self.height}x{self.width}"

    @property
    def span(self) -> int:
        """Frames that a clip must have: those shown and those passed over between them."""
        return (self.num_frames - 1) * self.stride + 1

    def scale(self, height: int, width: int) -> float:
        """How many times a picture of these pixels must be enlarged to cover the bucket's."""
        return max(self.height / height, self.width / width)

    def kept(self, height: int, width: int) -> float:
        """The share of a picture that the centre crop leaves, 0..1; 1 for the same aspect ratio."""
        rows, columns = self.height / height, self.width / width
        return min(rows, columns) / max(rows, columns)


@dataclass(frozen=True)
class Assignment:
    """Which clip goes into which bucket.

    Attributes:
        clips: each clip that has a bucket, with it, in the order given.
        unfit: all the others, each with the reason and, in words, the detail.
    """

    clips: tuple[tuple[ClipRecord, Bucket], ...]
    unfit: tuple[Unfit, ...] = ()

    def rows(self) -> list[dict[str, str]]:
        """A row for each clip: id, bucket, or the reason why it has none."""
        placed = [(clip.id, str(bucket), "", "") for clip, bucket in self.clips]
        out = [(clip.id, "", reason, detail) for clip, reason, detail in self.unfit]
        names = "id", "bucket", "reason", "detail"
        return [dict(zip(names, row, strict=True)) for row in placed + out]

    def __str__(self) -> str:
        """How many clips each bucket has, smallest first, and how many have none, by reason."""
        counts = Counter(bucket for _, bucket in self.clips)
        lines = [f"{number:6d}  {bucket}" for bucket, number in sorted(counts.items())]
        for reason, number in sorted(Counter(reason for _, reason, _ in self.unfit).items()):
            clip, _, detail = next(each for each in self.unfit if each[1] == reason)
            lines.append(f"{number:6d}  {reason}, such as {clip.id}: {detail}")
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

    Raises:
        ValueError: no buckets; max_upscale of 0 or less; no clip fits, with the number by reason.
    """
    if not buckets or max_upscale <= 0:
        raise ValueError(f"at least one bucket and an upscale > 0, not {buckets}, {max_upscale}")
    places = [(record, _place(record, buckets, max_upscale)) for record in records]
    clips = tuple((record, place) for record, place in places if isinstance(place, Bucket))
    unfit = tuple((record, *place) for record, place in places if isinstance(place, tuple))
    found = Assignment(clips, unfit)
    if not clips:
        raise ValueError(f"not one of {len(records)} clips fits a bucket:\n{found}")
    return found


def _place(
    record: ClipRecord, buckets: Sequence[Bucket], max_upscale: float
) -> Bucket | tuple[Reason, str]:
    size = record.height, record.width
    short = [b for b in buckets if b.span <= record.num_frames]
    if not short:
        least = min(b.span for b in buckets)
        detail = f"{record.num_frames} frames, every bucket has {least} or more"
        return "too_short", detail
    fitting = [b for b in short if b.scale(*size) <= max_upscale]
    if not fitting:
        scale = min(b.scale(*size) for b in short)
        detail = f"{record.height}x{record.width} enlarged {scale:.2f} times, over {max_upscale:g}"
        return "too_small", detail

    def worth(bucket: Bucket) -> tuple:
        kept = bucket.num_frames * round(bucket.kept(*size), 2)
        return kept, bucket.num_frames, bucket.height * bucket.width, bucket

    return max(fitting, key=worth)


class BucketBatchSampler:
    """Batches of keys (index, epoch) for `VideoDataset`, each from one bucket, in shuffled order.

    A DataLoader sees the first epoch; `stream.BatchStream` asks for `batches(epoch)` itself, and
    keeps the place in them.

    Args:
        clips: `Assignment.clips`.
        batch_size: one number, or one for each bucket, whose last batch may be smaller.
        balanced: draw each clip `weight` times in an epoch, on average, instead of once.

    Raises:
        ValueError: a batch size is below 1, or the first epoch has no batch.
    """

    def __init__(
        self,
        clips: Sequence[tuple[ClipRecord, Bucket]],
        batch_size: int | Mapping[Bucket, int],
        seed: int = 0,
        balanced: bool = False,
    ) -> None:
        self.clips, self.seed, self.balanced = tuple(clips), seed, balanced
        self._members: dict[Bucket, list[int]] = {}
        for index, (_, bucket) in enumerate(self.clips):
            self._members.setdefault(bucket, []).append(index)
        given = isinstance(batch_size, Mapping)
        self._sizes = {b: batch_size.get(b, 0) if given else batch_size for b in self._members}
        for bucket, size in self._sizes.items():
            if size < 1:
                raise ValueError(f"bucket {bucket} needs a batch size of at least 1, not {size}")
        self.batches(0)  # refuses an empty data set now, not in an hour

    def batches(self, epoch: int) -> list[list[Key]]:
        """All batches of an epoch; they hang on (seed, epoch), the clips and the settings alone.
        ValueError if there is none."""
        rng = seeds.rng(self.seed, epoch)
        out = []
        for bucket in sorted(self._members):
            chosen = np.array(self._members[bucket])
            if self.balanced:
                weights = np.array([self.clips[index][0].weight for index in chosen])
                chosen = chosen.repeat(np.floor(weights + rng.random(len(chosen))).astype(int))
            chosen, size = rng.permutation(chosen).tolist(), self._sizes[bucket]
            groups = (chosen[at : at + size] for at in range(0, len(chosen), size))
            out += [[(index, epoch) for index in group] for group in groups]
        if not out:
            raise ValueError(f"epoch {epoch} has no batch: {len(self.clips)} clips, all left out")
        return [out[place] for place in rng.permutation(len(out))]

    def __iter__(self) -> Iterator[list[Key]]:
        return iter(self.batches(0))

    def __len__(self) -> int:
        return len(self.batches(0))

    def identity(self) -> dict[str, Any]:
        """What fixes the order, in plain values: a run resumes with the same alone."""
        digest = hashlib.sha256()
        for clip, bucket in self.clips:
            digest.update(f"{clip.id}\n{clip.num_frames} {clip.weight} {bucket}\n".encode())
        return {
            "clips": digest.hexdigest(),
            "batch_size": {str(bucket): size for bucket, size in sorted(self._sizes.items())},
            "seed": self.seed,
            "balanced": self.balanced,
        }
