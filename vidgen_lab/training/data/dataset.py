"""Clips as training items, the same for any number of workers: `VideoDataset`.

    found = assign(read_clips(folder), [Bucket(17, 64, 96)])
    batches = BucketBatchSampler(found.clips, 4)
    loader = DataLoader(VideoDataset(found.clips), batch_sampler=batches, collate_fn=VideoCollate())

What an item shows depends on (seed, epoch, id of the clip) alone.
"""

import hashlib
import json
import math
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import Dataset, default_collate, get_worker_info

from vidgen_lab.files import write_files
from vidgen_lab.pipeline.deliver.augment import VideoAugmentationPipeline
from vidgen_lab.seeds import rng, torch_generator
from vidgen_lab.training.data.buckets import Bucket, Key
from vidgen_lab.training.data.clips import ClipRecord
from vidgen_lab.training.data.pixel_cache import PixelCache
from vidgen_lab.video.clip import Clip, evenly_spaced
from vidgen_lab.video.reader import VideoError, VideoReader
from vidgen_lab.video.sheets import clip_sheet
from vidgen_lab.video.tensors import cover

Sampling = Literal["random", "uniform", "start", "motion"]
ATTEMPTS = 20  # clips in a row that cannot be read before it is an error


class VideoDataset(Dataset):
    """Items {"video": uint8 [3, T, H, W], "caption", "id"}.

    Pixels stay whole numbers on their way to the device, a quarter of the bytes: the step makes
    them floats there, with `video.tensors.to_model_range`.

    An item is asked for by its index, or by (index, epoch) as `BucketBatchSampler` does: so the
    epoch reaches workers that live longer than one. Holds paths and no open file, so it pickles
    into spawned workers.

    Args:
        clips: `Assignment.clips`.
        sampling: which frames. "random": consecutive ones, or every bucket.stride-th, from a place
            that is drawn anew every epoch. "start": from the first. "uniform": spread over the
            whole clip. "motion": as random, but places where more moves are likelier (needs the
            cache).
        augment: crops, mirrors and colours, one draw for all frames of a clip; what the caption
            forbids is left out. Changes of time are for the pipeline: here the bucket sets the
            frames.
        cache: decoded clips, for all epochs after the first.
        quarantine: folder that remembers clips which cannot be read. In their place comes another
            one of their bucket, drawn evenly; each is tried once, by whichever worker meets it
            first, and again when its file has changed. Without it such a clip raises VideoError.
    """

    def __init__(
        self,
        clips: Sequence[tuple[ClipRecord, Bucket]],
        seed: int = 0,
        sampling: Sampling = "random",
        augment: VideoAugmentationPipeline | None = None,
        cache: PixelCache | None = None,
        quarantine: str | Path | None = None,
    ) -> None:
        if sampling == "motion" and cache is None:
            raise ValueError("sampling=motion looks at every frame first: give it a cache")
        self.clips, self.seed, self.sampling = tuple(clips), seed, sampling
        self.augment, self.cache = augment, cache
        self.quarantine = Path(quarantine) if quarantine else None
        self._alike: dict[Bucket, list[int]] = {}
        for index, (_, bucket) in enumerate(self.clips):
            self._alike.setdefault(bucket, []).append(index)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, key: int | Key) -> dict[str, Any]:
        index, epoch = key if isinstance(key, tuple) else (key, 0)
        first, problem = index, "known from before"
        for attempt in range(ATTEMPTS):
            record, bucket = self.clips[index]
            if self.quarantine is None or not self._note(record).exists():
                try:
                    return self._item(index, epoch)
                except (VideoError, OSError) as error:
                    if self.quarantine is None:
                        raise
                    problem = str(error)
                    said = {"id": record.id, "path": str(record.path), "reason": problem}
                    write_files({self._note(record): json.dumps(said)})
            draw = rng(self.seed, epoch, self.clips[first][0].id, f"instead {attempt}")
            index = int(draw.choice(self._alike[bucket]))
        raise VideoError(
            f"{ATTEMPTS} clips of bucket {bucket} in a row cannot be read ({problem}): see "
            f"{self.quarantine}, mend the files or prepare anew"
        )

    def _item(self, index: int, epoch: int) -> dict[str, Any]:
        record, bucket = self.clips[index]
        window, video = self.window(index, epoch), None
        if self.cache is not None:
            video = self.cache.read(record, bucket, window, lambda: self._decode(record, bucket))
        if video is None:  # no cache, or no room in it
            video = self._decode(record, bucket, window)
        if self.augment is not None:
            video = self._augmented(video, record, epoch)
        return {"video": video, "caption": record.caption, "id": record.id}

    def window(self, index: int, epoch: int = 0) -> Sequence[int]:
        """The frames of a clip that an epoch shows; a range, but for "uniform"."""
        record, bucket = self.clips[index]
        if self.sampling == "uniform":
            return evenly_spaced(record.num_frames, bucket.num_frames, repeat=True)
        places = record.num_frames - bucket.span + 1
        draw = rng(self.seed, epoch, record.id, "window")  # not the draws of augmentation
        if self.sampling == "motion":
            moved = self.cache.motion(record, bucket, lambda: self._decode(record, bucket))
            total = np.cumsum(moved, dtype=float)
            within = total[bucket.span - 1 :] - total[:places]  # from each place to its last frame
            chances = within + 1e-3 + 0.1 * within.mean()  # what stands still is seen now and then
            start = int(draw.choice(len(within), p=chances / chances.sum()))
        else:
            start = 0 if self.sampling == "start" else int(draw.integers(places))
        return range(start, start + bucket.span, bucket.stride)

    def report(self) -> list[dict[str, str]]:
        """The clips that could not be read, with the reason: {"id", "path", "reason"} each."""
        notes = sorted(self.quarantine.glob("*.json")) if self.quarantine else ()
        return [json.loads(note.read_text("utf-8")) for note in notes]

    def _note(self, record: ClipRecord) -> Path:
        """Where it is noted that this file, as it is now, cannot be read."""
        try:
            facts = record.path.stat()
            state = f"{record.path}/{facts.st_size}/{facts.st_mtime_ns}"
        except OSError:
            state = str(record.path)
        return self.quarantine / f"{hashlib.sha256(state.encode()).hexdigest()[:24]}.json"

    def _decode(
        self, record: ClipRecord, bucket: Bucket, window: Sequence[int] | None = None
    ) -> torch.Tensor:
        """From the file, uint8 [3, T, H, W]; the whole clip without a window."""
        reader = VideoReader(record.path)
        found = reader.info.num_frames, reader.info.height, reader.info.width
        if found != (record.num_frames, record.height, record.width):
            raise VideoError(
                f"{record.path} holds {'x'.join(map(str, found))} (frames, height, width), not "
                f"{record.num_frames}x{record.height}x{record.width} as listed: prepare anew"
            )
        window = range(record.num_frames) if window is None else window
        return covered(reader, window, bucket.height, bucket.width)

    def _augmented(self, video: torch.Tensor, record: ClipRecord, epoch: int) -> torch.Tensor:
        frames = video.permute(1, 2, 3, 0).contiguous().numpy()  # [T, H, W, 3]
        clip, draw = Clip(frames, record.fps), rng(self.seed, epoch, record.id, "augment")
        for change in (self.augment.spatial_augment, self.augment.color_augment):
            own, wanted = np.random.default_rng(draw.integers(2**63)), draw.random()
            if wanted < self.augment.settings.probability:
                clip, _ = change(clip, own, record.caption)
        return torch.from_numpy(clip.frames).permute(3, 0, 1, 2)


class VideoCollate:
    """Items of `VideoDataset` as a batch, their pixels in memory that an earlier batch has left.

    The system clears every page of memory that it gives out, which for a batch of large clips takes
    longer than copying the clips into it. For a DataLoader's `collate_fn`; its worker processes
    stack as PyTorch does, into memory that they share with the training.
    """

    def __init__(self) -> None:
        self._free: list[np.ndarray] = []

    def __getstate__(self) -> dict[str, Any]:
        return {"_free": []}

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """{"video": uint8 [B, 3, T, H, W], "caption": [...], "id": [...]}."""
        if get_worker_info() is not None:
            return default_collate(items)
        videos = [item["video"] for item in items]
        rest = [{n: value for n, value in item.items() if n != "video"} for item in items]
        return {"video": self._stacked(videos)} | default_collate(rest)

    def _stacked(self, videos: Sequence[torch.Tensor]) -> torch.Tensor:
        shape = len(videos), *videos[0].shape
        memory = self._free.pop() if self._free else np.empty(0, np.uint8)
        if memory.size < math.prod(shape):
            memory = np.empty(math.prod(shape), np.uint8)
        lent = memory[: math.prod(shape)]  # lives as long as a tensor that looks into it
        weakref.finalize(lent, self._free.append, memory).atexit = False
        return torch.stack(videos, out=torch.from_numpy(lent).view(shape))


class LatentDataset(Dataset):
    """Items {"latents": float32 [C, t, h, w], "text": [L, D], "text_mask": [L], "id"} of a cache.

    Args:
        cache: a `LatentCache`.
        windows: the spans that `cache.encode` has seen of each clip, for one epoch after the other;
            the first ones follow the last.
        records: the clips.
        texts: embedding [L, D] and mask [L] by caption.
        dropout: share of the draws, 0 .. 1, that gets the text of "" instead.
        draws: the posterior is drawn from anew every epoch; False takes its mean.
    """

    def __init__(
        self,
        cache: Any,
        windows: Sequence[Sequence[Any]],
        records: Sequence[ClipRecord],
        texts: Mapping[str, tuple[torch.Tensor, torch.Tensor]],
        dropout: float = 0.0,
        seed: int = 0,
        draws: bool = True,
    ) -> None:
        self.cache, self.records, self.texts = cache, records, texts
        self.dropout, self.seed, self.draws = dropout, seed, draws
        self.keys = [[cache.key(span) for span in spans] for spans in windows]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: int | Key) -> dict[str, Any]:
        index, epoch = key if isinstance(key, tuple) else (key, 0)
        entry, record = self.keys[epoch % len(self.keys)][index], self.records[index]
        generator = torch_generator(rng(self.seed, epoch, entry)) if self.draws else None
        silent = rng(self.seed, epoch, index, "caption").random() < self.dropout
        text, mask = self.texts["" if silent else record.caption]
        latents = self.cache.load(entry, generator)
        return {"latents": latents, "text": text, "text_mask": mask, "id": record.id}


def covered(reader: VideoReader, frames: Sequence[int], height: int, width: int) -> torch.Tensor:
    """These frames of a file as `cover` gives them, uint8 [3, T, height, width], in any order; what
    lies between a regular stride is passed over. ValueError for frames that it does not have,
    VideoError for damaged ones."""
    first, last = min(frames), max(frames)
    stride = math.gcd(*(n - first for n in frames)) or 1
    found = reader.read(first, (last - first) // stride + 1, stride).frames
    places = [(n - first) // stride for n in frames]
    in_order = places == list(range(len(found)))
    return cover(found if in_order else found[places], height, width)


def preview(dataset: VideoDataset, keys: Sequence[int | Key]) -> Clip:
    """A film of exactly what will be trained on: these items side by side under their captions."""
    clips, captions = [], []
    for key in keys:
        item = dataset[key]
        record, bucket = dataset.clips[key[0] if isinstance(key, tuple) else key]
        frames = item["video"].permute(1, 2, 3, 0).numpy()
        clips.append(Clip(frames, record.fps / bucket.stride))
        captions.append(item["caption"])
    return clip_sheet(clips, captions, columns=min(4, len(clips)))
