"""From frames of a video file to the posterior of a VAE, and a name for the VAE that does it."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from vidgen_lab.files import plain
from vidgen_lab.training.data.dataset import VideoDataset, covered
from vidgen_lab.video.reader import VideoReader

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, AutoencoderKLCogVideoX

_AT_LOAD = ("scaling_factor", "shift_factor")
_DECODER = ("decoder.", "post_quant_conv.")
_SWITCHES = ("use_tiling", "tile_", "num_sample_frames")  # attributes that change what comes out
_FRAMES_AT_ONCE = 16  # pictures that go through a VAE of pictures together


@dataclass(frozen=True)
class ClipSpan:
    """What a model sees of a video file.

    Attributes:
        frames: numbers of the frames as shown, any sequence (`range(0, 98, 2)`).
        height, width: pixels after `video.tensors.cover`.
    """

    path: Path
    frames: Sequence[int]
    height: int
    width: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))
        object.__setattr__(self, "frames", tuple(int(i) for i in self.frames))
        if not self.frames or min(self.height, self.width) < 1:
            raise ValueError(f"{self.path}: a clip needs at least one frame of one pixel")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(frames, height, width); clips of one shape can share a batch."""
        return len(self.frames), self.height, self.width


def spans_of(dataset: VideoDataset, epoch: int = 0) -> list[ClipSpan]:
    """What the items of a data set show in one epoch, in their order.

    Windows are drawn anew in every epoch, and each is another entry of a cache: a run from cached
    latents stays with the windows of as many epochs as were encoded.
    """
    return [
        ClipSpan(record.path, dataset.window(index, epoch), bucket.height, bucket.width)
        for index, (record, bucket) in enumerate(dataset.clips)
    ]


def read_batches(
    clips: Iterable[ClipSpan], batch: int, failed: dict[ClipSpan, str]
) -> Iterator[tuple[list[ClipSpan], torch.Tensor]]:
    """Up to `batch` clips of one shape and their pictures, uint8 [B, 3, T, height, width].

    Clips that cannot be read go into `failed` with the reason. Those of one file follow each other,
    so that its index is made once.
    """
    ordered = sorted(clips, key=lambda clip: (clip.shape, clip.path, clip.frames))
    for _, alike in groupby(ordered, key=lambda clip: clip.shape):
        readable = _pictures(alike, failed)
        while group := list(islice(readable, batch)):
            yield [clip for clip, _ in group], torch.stack([pictures for _, pictures in group])


def _pictures(
    clips: Iterable[ClipSpan], failed: dict[ClipSpan, str]
) -> Iterator[tuple[ClipSpan, torch.Tensor]]:
    reader = lru_cache(1)(VideoReader)
    for clip in clips:
        try:
            pictures = covered(reader(clip.path), clip.frames, clip.height, clip.width)
        except (OSError, ValueError) as error:
            failed[clip] = str(error)
        else:
            yield clip, pictures


def is_video_vae(vae: "AutoencoderKL | AutoencoderKLCogVideoX") -> bool:
    """Whether it encodes clips (CogVideoX's) or single pictures. TypeError for any other model."""
    from diffusers import AutoencoderKL, AutoencoderKLCogVideoX

    if not isinstance(vae, AutoencoderKL | AutoencoderKLCogVideoX):
        raise TypeError(
            f"AutoencoderKL or AutoencoderKLCogVideoX of diffusers, not {type(vae).__name__}"
        )
    return isinstance(vae, AutoencoderKLCogVideoX)


def check_shape(vae: "AutoencoderKL | AutoencoderKLCogVideoX", shape: tuple[int, int, int]) -> None:
    """Refuse a shape (frames, height, width) of which the VAE makes no whole latents.

    CogVideoX's VAE takes 4k + 1 frames, or whole chunks of 8; diffusers' `_encode` says so in a
    comment and makes a latent of something else from any other number.

    Raises:
        ValueError: the VAE does not take so many frames, or such a height or width.
    """
    frames, height, width = shape
    side = 2 ** (len(vae.config.block_out_channels) - 1)
    if height % side or width % side:
        raise ValueError(f"height and width must be multiples of {side}, not {height}x{width}")
    if not is_video_vae(vae):
        return
    step, chunk = int(vae.config.temporal_compression_ratio), vae.num_sample_frames_batch_size
    if (frames - 1) % step and frames % chunk:
        raise ValueError(f"this VAE takes {step}k + 1 frames or {chunk}k, not {frames}")


def vae_identity(vae: "AutoencoderKL | AutoencoderKLCogVideoX") -> str:
    """32 hex digits for all that a posterior depends on: class, config, tiling, weights and dtype.

    The scaling factor, the decoder's weights, the device and the folder are left out: they change
    no posterior.
    """
    config = {n: v for n, v in vae.config.items() if n[0] != "_" and n not in _AT_LOAD}
    switches = {n: v for n, v in vars(vae).items() if n.startswith(_SWITCHES)}
    text = json.dumps([type(vae).__name__, plain(config), plain(switches)], sort_keys=True)
    digest = hashlib.sha256(text.encode())
    for name, weight in sorted(vae.state_dict().items()):
        if not name.startswith(_DECODER):
            digest.update(f"{name} {weight.dtype} {list(weight.shape)}".encode())
            digest.update(raw_bytes(weight))
    return digest.hexdigest()[:32]


@torch.no_grad()
def encode_moments(
    vae: "AutoencoderKL | AutoencoderKLCogVideoX", video: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and log-variance, unscaled, each [B, C, t, h, w] in the VAE's dtype and on its device.

    A VAE of pictures takes the video frame by frame, so t = T.

    Args:
        vae: of clips or of pictures, see `is_video_vae`.
        video: float [B, 3, T, H, W] in [-1, 1], of a shape that `check_shape` lets through.
    """
    video = video.to(vae.device, vae.dtype)
    if is_video_vae(vae):
        posterior = vae.encode(video).latent_dist
        return posterior.mean, posterior.logvar
    frames = video.transpose(1, 2).flatten(0, 1)  # [B*T, 3, H, W]
    parts = [vae.encode(part).latent_dist for part in frames.split(_FRAMES_AT_ONCE)]
    both = torch.cat([p.mean for p in parts]), torch.cat([p.logvar for p in parts])
    mean, logvar = (x.unflatten(0, (len(video), -1)).transpose(1, 2) for x in both)
    return mean, logvar


def raw_bytes(tensor: torch.Tensor) -> np.ndarray:
    """The tensor's memory, uint8 [bytes]; also for bfloat16, which NumPy does not know."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
