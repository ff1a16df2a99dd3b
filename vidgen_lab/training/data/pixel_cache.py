"""Decoded clips, ready at the size of their bucket: the second epoch decodes nothing.

An entry is a whole clip, uint8 [3, T, height, width] as a model reads it, under a hash of the
file's content and the size, so that any window of it can be read, and nothing stale is ever served.
"npy" maps the file into memory: a window is a view of it, and costs the one copy that puts it into
a batch. "hdf5" is the book's way, for comparison.
"""

import io
import math
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
    """Clips in `folder`. Holds no open file, and pickles into workers.

    Args:
        layout: "npy" or "hdf5" (needs h5py).
        max_gib: what may lie there; a clip beyond it is decoded anew each time.
    """

    def __init__(self, folder: str | Path, layout: str = "npy", max_gib: float = math.inf) -> None:
        if layout not in ("npy", "hdf5"):
            raise ValueError(f"a cache is laid out as npy or hdf5, not {layout!r}")
        self.folder, self.layout, self.max_gib = Path(folder), layout, max_gib
        self._keys: dict[tuple, str] = {}
        self._is_full = False

    def read(
        self, record: ClipRecord, bucket: Bucket, frames: Sequence[int],
        decode: Callable[[], Tensor],
    ) -> Tensor | None:  # fmt: skip
        """These frames, uint8 [3, n, height, width]; a clip that is not here is decoded and kept.

        `decode` gives the whole clip at the bucket's size. None when there is no room for it.
        """
        path = self._path(record, bucket)
        if not path.exists():
            if self._is_full:
                return None
            whole = decode()
            if self._has_no_room(whole.nbytes):
                return None
            self._write(path, whole.contiguous().numpy())
            return whole[:, list(frames)]
        chosen = list(frames)
        if isinstance(frames, range):
            chosen = slice(frames.start, frames.stop, frames.step)
        if self.layout == "npy":  # whoever writes into it writes into a page of his own
            return torch.from_numpy(np.load(path, mmap_mode="c")[:, chosen])
        import h5py

        with h5py.File(path) as file:
            return torch.from_numpy(file["video"][:, chosen])

    def motion(
        self, record: ClipRecord, bucket: Bucket, decode: Callable[[], Tensor]
    ) -> np.ndarray:
        """How much each frame differs from the one before, 0..255, [T], the first 0; see `read`."""
        path = self._path(record, bucket).with_suffix(".motion.npy")
        if path.exists():
            return np.load(path)
        whole = self.read(record, bucket, range(record.num_frames), decode)
        small = (decode() if whole is None else whole)[..., ::4, ::4].numpy()  # [3, T, h, w]
        grey = np.tensordot(_GREY, small.astype(np.float32), 1)
        moved = np.abs(np.diff(grey, axis=0, prepend=grey[:1])).mean((1, 2))
        self._write(path, moved)
        return moved

    def _path(self, record: ClipRecord, bucket: Bucket) -> Path:
        facts = record.path.stat()
        known = (record.path, facts.st_size, facts.st_mtime_ns, facts.st_ino)
        if known not in self._keys:
            self._keys[known] = file_sha256(record.path)
        size = bucket.height, bucket.width
        key = key_of(_RECIPE, self._keys[known], record.num_frames, size)
        return self.folder / f"{key}.{'npy' if self.layout == 'npy' else 'h5'}"

    def _has_no_room(self, size: int) -> bool:
        if self.max_gib < math.inf:
            there = (
                sum(f.stat().st_size for f in self.folder.glob("*")) if self.folder.exists() else 0
            )
            self._is_full = there + size > self.max_gib * 2**30
        return self._is_full

    def _write(self, path: Path, values: np.ndarray) -> None:
        """As the path's ending says."""
        buffer = io.BytesIO()
        if path.suffix == ".npy":
            np.save(buffer, values)
        else:
            import h5py

            with h5py.File(buffer, "w") as file:
                file.create_dataset("video", data=values, chunks=(3, 1, *values.shape[2:]))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_files({path: buffer.getvalue()})
