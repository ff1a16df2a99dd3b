"""Latents of clips, encoded once and kept under a hash of all that they depend on.

One safetensors file per clip and not one HDF5 file for all, because a small file appears whole or
not at all, is opened only where it is needed, and has any number of readers and writers at a time.

Kept are the mean and the log-variance of the VAE's posterior, unscaled: every epoch can draw anew,
and another scaling factor costs no encoding. The hash is of content, so moving, renaming or
re-ordering clips costs nothing either, and whatever changed is simply not there yet.
"""

import warnings
import zlib
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from vidgen_lab.files import write_files
from vidgen_lab.journal import FileHashes, key_of
from vidgen_lab.progress import Progress
from vidgen_lab.training.data.clip_encoding import (
    ClipSpan,
    check_shape,
    encode_moments,
    is_video_vae,
    raw_bytes,
    read_batches,
    vae_identity,
)
from vidgen_lab.video.tensors import to_model_range

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, AutoencoderKLCogVideoX

_RECIPE = 1  # raise it when the same clip and VAE would give other latents than before


class CorruptEntry(ValueError):
    """A file of the cache is cut off or altered."""


class LatentCache:
    """Posteriors of clips in `folder`, one KEY.safetensors each.

    Holds no open file and pickles without the VAE, so workers of a DataLoader load from it.
    `scaling_factor` and `shift_factor` are from the VAE's config, applied by `load`.

    Args:
        dtype: of what is stored; None is the VAE's own.

    Raises:
        TypeError: the VAE is not diffusers' AutoencoderKL or AutoencoderKLCogVideoX.
        ValueError: it standardises its latents channel by channel.
    """

    def __init__(
        self,
        folder: str | Path,
        vae: "AutoencoderKL | AutoencoderKLCogVideoX",
        dtype: torch.dtype | None = None,
    ) -> None:
        is_video_vae(vae)
        if vae.config.get("latents_mean") is not None:
            raise ValueError("latents_mean and latents_std of this VAE's config are not supported")
        self.folder, self.vae = Path(folder), vae
        self.vae_id, self.dtype = vae_identity(vae), dtype or vae.dtype
        self.scaling_factor = float(vae.config.scaling_factor)
        self.shift_factor = float(vae.config.get("shift_factor") or 0.0)

    def __getstate__(self) -> dict[str, Any]:
        return {n: v for n, v in vars(self).items() if n != "_sha256"} | {"vae": None}

    def key(self, clip: ClipSpan) -> str:
        """The name of this clip's entry: a hash of file content, frames, size, VAE and dtype.

        The content is hashed once, and again when the file's size or time of change is another.

        Raises:
            OSError: the file is not there or cannot be read.
        """
        size = clip.height, clip.width
        content = self._sha256(clip.path)
        return key_of(_RECIPE, content, clip.frames, size, self.vae_id, str(self.dtype))

    def encode(self, clips: Iterable[ClipSpan], batch: int = 4) -> list[str]:
        """Encode what is missing or damaged; returns the keys of all clips, in their order.

        Every entry appears when it is complete, so a killed run goes on where it was.

        Args:
            clips: of any shapes; one may come several times.
            batch: clips of one shape that go through the VAE together; it changes results by
                rounding at most.

        Raises:
            ValueError: the VAE does not take a shape, before any is encoded; or batch is below 1.
            RuntimeError: the VAE is not here or was changed; or, when all others are in the cache,
                clips could not be encoded, each named with the reason.
        """
        if self.vae is None or vae_identity(self.vae) != self.vae_id:
            raise RuntimeError("the VAE is not here or was changed: make a new LatentCache with it")
        if batch < 1:
            raise ValueError(f"batch must be at least 1 clip, not {batch}")
        clips, keys, failed = list(clips), {}, {}
        for shape in {clip.shape for clip in clips}:
            check_shape(self.vae, shape)
        for clip in clips:
            try:
                keys[clip] = self.key(clip)
            except OSError as error:
                failed[clip] = str(error)
        missing = {key: clip for clip, key in keys.items() if not self._is_whole(key)}
        self.folder.mkdir(parents=True, exist_ok=True)
        with Progress(len(missing), "encode", "window", disable=not missing) as bar:
            for group, pictures in read_batches(missing.values(), batch, failed):
                moments = encode_moments(self.vae, to_model_range(pictures))
                for clip, mean, logvar in zip(group, *moments, strict=True):
                    if problem := self._write(clip, keys[clip], mean, logvar):
                        failed[clip] = problem
                bar.update(len(group))
        if failed:
            reasons = "\n".join(f"  {clip.path}: {reason}" for clip, reason in failed.items())
            raise RuntimeError(
                f"{len(failed)} of {len(keys.keys() | failed.keys())} clips could not be encoded, "
                f"the others are in the cache. Leave these out, or mend them:\n{reasons}"
            )
        return [keys[clip] for clip in clips]

    def moments(self, key: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log-variance as stored: unscaled, each [C, t, h, w] of `dtype`, on the CPU.

        Raises:
            FileNotFoundError: the entry is not there.
            CorruptEntry: it is damaged.
        """
        path = self._path(key)
        try:
            with safe_open(path, "pt") as file:
                said = file.metadata() or {}
                # Copies: a mapped file could be cut while the tensor is in use.
                mean, logvar = (file.get_tensor(name).clone() for name in ("mean", "logvar"))
        except FileNotFoundError:
            raise FileNotFoundError(f"no latents {key} in {self.folder}: encode first") from None
        except SafetensorError as error:
            raise CorruptEntry(f"{path} is damaged ({error}): encode makes it anew") from error
        if said.get("key") != key or said.get("crc32") != _checksum(mean, logvar):
            raise CorruptEntry(f"{path} is damaged (wrong checksum): encode makes it anew")
        return mean, logvar

    def load(self, key: str, generator: torch.Generator | None = None) -> torch.Tensor:
        """What a diffusion model learns: (z - shift_factor) * scaling_factor, float32 [C, t, h, w].

        z is a draw from the posterior with a generator (on the CPU), and its mean without. Raises
        as `moments` does.
        """
        z, logvar = (part.float() for part in self.moments(key))
        if generator is not None:
            z = z + torch.exp(0.5 * logvar) * torch.randn(z.shape, generator=generator)
        return (z - self.shift_factor) * self.scaling_factor

    @cached_property
    def _sha256(self) -> FileHashes:
        return FileHashes(self.folder / "hashes")

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"

    def _is_whole(self, key: str) -> bool:
        try:
            self.moments(key)
        except FileNotFoundError:
            return False
        except CorruptEntry as error:
            warnings.warn(str(error), stacklevel=3)
            return False
        return True

    def _write(self, clip: ClipSpan, key: str, mean: torch.Tensor, logvar: torch.Tensor) -> str:
        """Put one entry on the disk; returns what speaks against it, if anything."""
        mean, logvar = (part.to("cpu", self.dtype).contiguous() for part in (mean, logvar))
        if not (mean.isfinite().all() and logvar.isfinite().all()):
            return f"the VAE gives NaN or infinity in {self.dtype}: load it in float32"
        if self.key(clip) != key:
            return "the file changed while it was read: encode again"
        said = {"key": key, "crc32": _checksum(mean, logvar)}
        data = save({"mean": mean, "logvar": logvar}, said)
        write_files({self._path(key): data})
        return ""


def _checksum(*tensors: torch.Tensor) -> str:
    checksum = 0
    for tensor in tensors:
        checksum = zlib.crc32(raw_bytes(tensor), checksum)
    return f"{checksum:08x}"
