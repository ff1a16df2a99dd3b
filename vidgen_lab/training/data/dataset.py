"""Batches of clips of many sizes: every batch has one shape, and every draw can be repeated.

What a step trains on depends on (seed, epoch, place in the epoch) alone: not on the number of
workers, nor on how often the run was stopped and resumed.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, Sampler

from vidgen_lab.pipeline.deliver.augment import rng_for
from vidgen_lab.training.data.buckets import Bucket
from vidgen_lab.training.data.clips import ClipRecord
from vidgen_lab.video.reader import VideoError, VideoReader
from vidgen_lab.video.tensors import to_model_range

Key = tuple[int, int]  # (index of the clip, epoch)


class ClipDataset(Dataset):
    """Clips as training items: {"video": float [3, T, H, W] in [-1, 1], "caption", "id"}.

    clips: `Assignment.clips`. An item is asked for by its index, or by (index, epoch) as
    `BucketBatchSampler` does: so the epoch reaches workers that live longer than one. Holds paths
    and no open file, so it pickles into spawned workers.
    An item raises VideoError when its file cannot be read or is not what the list says.
    """

    def __init__(self, clips: Sequence[tuple[ClipRecord, Bucket]], seed: int = 0) -> None:
        self.clips, self.seed = tuple(clips), seed

    def __len__(self) -> int:
        return len(self.clips)

    def window(self, index: int, epoch: int = 0) -> range:
        """The frames of a clip that an epoch shows: consecutive, at the clip's own rate; where they
        begin hangs on (seed, epoch, id of the clip) alone."""
        record, bucket = self.clips[index]
        rng = rng_for(self.seed, epoch, f"{record.id}/window")  # not the draws of augmentation
        start = int(rng.integers(record.num_frames - bucket.num_frames + 1))
        return range(start, start + bucket.num_frames)

    def __getitem__(self, key: int | Key) -> dict[str, Any]:
        index, epoch = key if isinstance(key, tuple) else (key, 0)
        record, bucket = self.clips[index]
        reader = VideoReader(record.path)
        found = reader.info.num_frames, reader.info.height, reader.info.width
        if found != (record.num_frames, record.height, record.width):
            raise VideoError(
                f"{record.path} holds {'x'.join(map(str, found))} (frames, height, width), not "
                f"{record.num_frames}x{record.height}x{record.width} as listed: prepare anew"
            )
        frames = reader.read(self.window(index, epoch).start, bucket.num_frames).frames
        video = to_model_range(cover(frames, bucket.height, bucket.width))
        return {"video": video.contiguous(), "caption": record.caption, "id": record.id}


def cover(frames: np.ndarray, height: int, width: int) -> torch.Tensor:
    """Resize frames, uint8 [T, H, W, 3], to cover height x width, and cut out the centre.

    Returns uint8 [3, T, height, width]. Nothing is distorted; what is made smaller is smoothed.
    """
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)  # [T, 3, H, W]
    rows, columns = pixels.shape[-2:]
    scale = max(height / rows, width / columns)
    if scale != 1:
        size = max(height, round(rows * scale)), max(width, round(columns * scale))
        pixels = F.interpolate(pixels, size, mode="bilinear", antialias=True)
    top, left = (pixels.shape[-2] - height) // 2, (pixels.shape[-1] - width) // 2
    return pixels[..., top : top + height, left : left + width].transpose(0, 1)  # [3, T, h, w]


class BucketBatchSampler(Sampler[list[Key]]):
    """Batches of keys (index, epoch) for `ClipDataset`, each from one bucket, in shuffled order.

    batch_size: one number, or one for each bucket. drop_last: leave out a bucket's last batch when
    it is not full (other clips in every epoch). balanced: draw each clip `weight` times in an
    epoch, on average, instead of once.

    Iterating gives what is left of the epoch and does not move on by itself: a loader with workers
    draws ahead of the training. `advance` counts a batch as trained on; `ClipLoader` calls it.
    Raises ValueError for a batch size below 1, and when drop_last would leave clips out for ever.
    """

    def __init__(
        self,
        clips: Sequence[tuple[ClipRecord, Bucket]],
        batch_size: int | Mapping[Bucket, int],
        seed: int = 0,
        drop_last: bool = False,
        balanced: bool = False,
    ) -> None:
        self.clips, self.seed = tuple(clips), seed
        self.drop_last, self.balanced = drop_last, balanced
        self.epoch, self.position = 0, 0
        self._members: dict[Bucket, list[int]] = {}
        for index, (_, bucket) in enumerate(self.clips):
            self._members.setdefault(bucket, []).append(index)
        self._sizes = _batch_sizes(batch_size, self._members, drop_last)
        self._left = self.batches(0)

    def batches(self, epoch: int) -> list[list[Key]]:
        """All batches of an epoch; they hang on (seed, epoch), the clips and the settings alone."""
        rng = np.random.default_rng((self.seed, epoch))
        out = []
        for bucket in sorted(self._members):
            chosen = np.array(self._members[bucket])
            if self.balanced:
                weights = np.array([self.clips[index][0].weight for index in chosen])
                chosen = chosen.repeat(np.floor(weights + rng.random(len(chosen))).astype(int))
            chosen, size = rng.permutation(chosen).tolist(), self._sizes[bucket]
            end = len(chosen) // size * size if self.drop_last else len(chosen)
            groups = (chosen[at : at + size] for at in range(0, end, size))
            out += [[(index, epoch) for index in group] for group in groups]
        if not out:
            raise ValueError(f"epoch {epoch} has no batch: {len(self.clips)} clips, all left out")
        return [out[place] for place in rng.permutation(len(out))]

    def __iter__(self) -> Iterator[list[Key]]:
        return iter(self._left[self.position :])

    def __len__(self) -> int:
        """Batches left in this epoch."""
        return len(self._left) - self.position

    def advance(self) -> None:
        """Count one batch as trained on; after the last one the next epoch begins."""
        self._go_to(self.epoch, self.position + 1)

    def state_dict(self) -> dict[str, Any]:
        """Where the training stands, in plain values, and what it was set to."""
        return {"epoch": self.epoch, "position": self.position, **self._identity()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` stands; ValueError if it comes from other clips or settings."""
        own = self._identity()
        other = [name for name in own if state.get(name) != own[name]]
        if other:
            raise ValueError(
                f"the saved place belongs to another data set: {', '.join(other)} changed since; "
                "resume with the same clips, buckets and settings, or begin a new run"
            )
        self._go_to(state["epoch"], state["position"])

    def _go_to(self, epoch: int, position: int) -> None:
        if epoch != self.epoch:
            self._left = self.batches(epoch)
        if position >= len(self._left):
            epoch, position = epoch + 1, 0
            self._left = self.batches(epoch)
        self.epoch, self.position = epoch, position

    def _identity(self) -> dict[str, Any]:
        digest = hashlib.sha256()
        for clip, bucket in self.clips:
            digest.update(f"{clip.id}\n{clip.num_frames} {clip.weight} {bucket}\n".encode())
        return {
            "clips": digest.hexdigest(),
            "batch_size": {str(bucket): size for bucket, size in sorted(self._sizes.items())},
            "seed": self.seed,
            "drop_last": self.drop_last,
            "balanced": self.balanced,
        }


def _batch_sizes(
    wanted: int | Mapping[Bucket, int], members: Mapping[Bucket, Sequence[int]], drop_last: bool
) -> dict[Bucket, int]:
    sizes = {b: wanted.get(b, 0) if isinstance(wanted, Mapping) else wanted for b in members}
    for bucket, size in sizes.items():
        if size < 1:
            raise ValueError(f"bucket {bucket} needs a batch size of at least 1, not {size}")
        if drop_last and len(members[bucket]) < size:
            raise ValueError(
                f"bucket {bucket} has {len(members[bucket])} clips, fewer than its batch of {size}:"
                " with drop_last they would never be seen; take a smaller batch or fewer buckets"
            )
    return sizes


class ClipLoader:
    """A `DataLoader` over both that knows what the training has had, not what was loaded ahead.

    A loop over it runs to the end of the epoch, the next loop through the next one. A batch is
    {"video": float [B, 3, T, H, W] in [-1, 1], "caption": list, "id": list}. Save `state_dict()`
    with the weights after a step, and the resumed run gets the batches the first would have had.
    workers: processes, spawned once and kept; 0 loads in this one. prefetch: batches each worker
    has ready, so memory holds at most workers * prefetch + 1 batches.
    """

    def __init__(
        self,
        dataset: ClipDataset,
        sampler: BucketBatchSampler,
        workers: int = 0,
        prefetch: int = 2,
        pin_memory: bool = False,
    ) -> None:
        if dataset.clips != sampler.clips:
            raise ValueError("data set and sampler must be made from the same clips")
        self.sampler = sampler
        spawned = {
            "multiprocessing_context": "spawn", "persistent_workers": True,
            "prefetch_factor": prefetch,
        }  # fmt: skip
        self._loader = DataLoader(
            dataset,
            batch_sampler=sampler,
            num_workers=workers,
            pin_memory=pin_memory,
            generator=torch.Generator(),  # else every epoch draws from the training's own noise
            **(spawned if workers else {}),
        )

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self._loader:
            self.sampler.advance()
            yield batch

    def __len__(self) -> int:
        """Batches left in this epoch."""
        return len(self.sampler)

    def state_dict(self) -> dict[str, Any]:
        """The sampler's; see `BucketBatchSampler.state_dict`."""
        return self.sampler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The sampler's; see `BucketBatchSampler.load_state_dict`."""
        self.sampler.load_state_dict(state)
