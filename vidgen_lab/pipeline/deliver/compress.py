"""Recode a video and measure what it costs and what it saves (book listing 2.L05)."""

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from skimage.metrics import structural_similarity

from vidgen_lab.pipeline.deliver.cut import resize_filter, temporary_file, verify
from vidgen_lab.pipeline.read.probing import probe_file
from vidgen_lab.video.ffmpeg import FfmpegError, local, run_ffmpeg
from vidgen_lab.video.reader import VideoReader

_ABSENT = (
    "Unknown encoder",
    "Encoder not found",
)  # what ffmpeg says of a codec it was built without


@dataclass(frozen=True)
class Compression:
    """One way of coding one video, measured. ratio: bytes before over bytes after.

    ssim: of the luma against the input, 1 = identical. seconds: of encoding.
    """

    codec: str
    crf: int
    bytes: int
    ratio: float
    ssim: float
    psnr: float
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def compress_video(
    input_path: str | Path, output_path: str | Path, codec: str = "libx264", crf: int = 23
) -> Compression:
    """Recode a video and measure what it cost and what it saved (book listing 2.L05).

    4:2:0 colour is asked for by name: without it the encoder keeps 4:4:4, which browsers refuse.
    Raises FfmpegError (unknown codec, say), VideoError and OutputError.
    """
    facts = probe_file(input_path)
    tag = ("-tag:v", "hvc1") if codec == "libx265" else ()
    with temporary_file(output_path) as temporary:
        began = time.perf_counter()
        run_ffmpeg(
            *(
                "-i",
                local(input_path),
                "-map",
                "0:v:0",
                "-vf",
                resize_filter(facts, None) or "null",
            ),
            *("-c:v", codec, *_quality(codec, crf), "-pix_fmt", "yuv420p", *tag),
            *("-fps_mode", "passthrough", "-an", "-movflags", "+faststart", local(temporary)),
        )
        seconds = time.perf_counter() - began
        verify(temporary, facts.num_frames)
        ssim, psnr = similarity(input_path, temporary)
        size = temporary.stat().st_size
    return Compression(codec, crf, size, facts.bytes / size, ssim, psnr, seconds)


def _quality(codec: str, crf: int) -> tuple:
    """How this encoder is told the quality: older ones have a fixed quantiser instead of a CRF."""
    if codec in ("libx264", "libx265"):
        return "-crf", crf, "-preset", "medium"
    if codec.startswith("lib"):
        return "-crf", crf, "-b:v", 0
    return ("-q:v", crf)


def similarity(a: str | Path, b: str | Path) -> tuple[float, float]:
    """(mean SSIM, mean PSNR in dB) of the luma of two videos, frame by frame, at the first's size.

    Raises ValueError when they have different numbers of frames.
    """
    ssims, errors = [], []
    for one, other in zip(VideoReader(a), VideoReader(b), strict=True):
        if one.shape != other.shape:
            other = cv2.resize(other, one.shape[1::-1], interpolation=cv2.INTER_AREA)
        x, y = (cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in (one, other))
        ssims.append(structural_similarity(x, y, data_range=255))
        errors.append(np.mean((x.astype(np.float32) - y) ** 2))
    error = float(np.mean(errors))
    return float(np.mean(ssims)), 10 * np.log10(255**2 / error) if error else float("inf")


def vmaf(distorted: str | Path, reference: str | Path) -> float | None:
    """VMAF, 0..100, mean over the frames; None where this ffmpeg was built without it.

    A model of people's marks, trained on full-size video: of tiny pictures take it as a ranking.
    Raises FfmpegError.
    """
    facts = probe_file(reference)
    # Frame by frame, whatever the time stamps say.
    same = f"scale={facts.width}:{facts.height}:flags=bicubic,settb=1/25,setpts=N"
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "vmaf.json"
        name = log.as_posix().replace(":", "\\\\:")
        graph = f"[0:v]{same}[a];[1:v]{same}[b];[a][b]libvmaf=log_fmt=json:log_path={name}"
        files = ("-i", local(distorted), "-i", local(reference))
        try:
            run_ffmpeg(*files, "-lavfi", graph, "-f", "null", "-")
        except FfmpegError as error:
            if "No such filter" in str(error):
                return None
            raise
        found = json.loads(log.read_text(encoding="utf-8"))
    return round(float(found["pooled_metrics"]["vmaf"]["mean"]), 1)


def compare_codecs(
    path: str | Path, folder: str | Path, choices: Sequence[tuple[str, int]] | None = None
) -> list[Compression]:
    """`compress_video` with several codecs and qualities, H.264 and H.265 by default; codecs this
    ffmpeg lacks are left out."""
    choices = choices or [("libx264", 23), ("libx264", 30), ("libx265", 23), ("libx265", 30)]
    measured = []
    for codec, crf in choices:
        try:
            out = Path(folder) / f"{Path(path).stem}_{codec}_{crf}.mp4"
            measured.append(compress_video(path, out, codec, crf))
        except FfmpegError as error:
            if not any(words in str(error) for words in _ABSENT):
                raise
    return measured
