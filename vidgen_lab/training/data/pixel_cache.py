"""Decoded clips, ready at the size of their bucket: the second epoch decodes nothing.

An entry is a whole clip, uint8 [3, T, height, width] as a model reads it, under a hash of the
file's content and the size, so that any window of it can be read, and nothing stale is ever served.
The file is mapped into memory: a window is a view of it, and costs the one copy that puts it into a
batch.
"""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vidgen_lab.files import file_sha256, write_files
from vidgen_lab.journal import key_of
from vidgen_lab.training.data.buckets import Bucket
from vidgen_lab.training.data.clips import ClipRecord

_RECIPE = 2  # raise it when the same clip would give other pixels than before
_GREY = np.array([0.299, 0.587, 0.114], np.float32)


class PixelCache:
    """Clips in `folder`. Holds no open file, and pickles into workers."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._keys: dict[tuple, str] = {}

    def read(
        self, record: ClipRecord, bucket: Bucket, frames: Sequence[int],
        decode: Callable[[], Tensor],
    ) -> Tensor:  # fmt: skip
        """These frames, uint8 [3, n, height, width]; a clip that is not here is decoded and kept.

        decode: gives the whole clip at the bucket's size.
        """
        path, chosen = self._path(record, bucket), list(frames)
        if not path.exists():
            whole = decode()
            self._save(path, whole.contiguous().numpy())
            return whole[:, chosen]
        if isinstance(frames, range):
            chosen = slice(frames.start, frames.stop, frames.step)
        # whoever writes into it writes into a page of his own
        return torch.from_numpy(np.load(path, mmap_mode="c")[:, chosen])

    def motion(
        self, record: ClipRecord, bucket: Bucket, decode: Callable[[], Tensor]
    ) -> np.ndarray:
        """How much each frame differs from the one before, 0..255, [T]; the first counts 0."""
        path = self._path(record, bucket).with_suffix(".motion.npy")
        if path.exists():
            return np.load(path)
        whole = self.read(record, bucket, range(record.num_frames), decode)
        small = whole[..., ::4, ::4].numpy()  # [3, T, h, w]
        grey = np.tensordot(_GREY, small.astype(np.float32), 1)
        moved = np.abs(np.diff(grey, axis=0, prepend=grey[:1])).mean((1, 2))
        self._save(path, moved)
        return moved

    def _path(self, record: ClipRecord, bucket: Bucket) -> Path:
        facts = record.path.stat()
        known = (record.path, facts.st_size, facts.st_mtime_ns, facts.st_ino)
        if known not in self._keys:
            self._keys[known] = file_sha256(record.path)
        size = bucket.height, bucket.width
        return self.folder / f"{key_of(_RECIPE, self._keys[known], record.num_frames, size)}.npy"

    def _save(self, path: Path, values: np.ndarray) -> None:
        buffer = io.BytesIO()
        np.save(buffer, values)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_files({path: buffer.getvalue()})
