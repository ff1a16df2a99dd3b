"""Clip -> H.264 MP4 that every browser, notebook and player shows.

The file is encoded and read back in memory, and only then put on disk under a temporary name and
renamed: a full disk or a killed process never leaves a half-written video under the real name.
"""

import io
import warnings
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from vidgen_lab.files import write_files
from vidgen_lab.video.clip import FPS, MAX_SIDE, Clip

# Said in the file, so that no player has to guess: sRGB pictures (primaries of BT.709, sRGB curve)
# coded with the BT.601 matrix in limited range. The matrix is also what decoders that ignore such
# tags (OpenCV) assume, so the colours agree everywhere.
_BT709_PRIMARIES, _SRGB_CURVE = 1, 13


def write_clip(clip: Clip, path: str | Path, crf: int = 18) -> Path:
    """Write `clip` as MP4 (H.264, yuv420p, index first) and return the path.

    An odd width or height is padded by one repeated column or row, with a UserWarning, because
    4:2:0 colour has no odd sizes. The parent folder is created. After an error, whatever stood at
    `path` before is still there.

    Args:
        clip: what to write.
        path: ends in .mp4.
        crf: x264 quality, 0 (lossless in luma) .. 51; 18 is visually close to the original.

    Raises:
        ValueError: crf, file suffix, or a rate or size that H.264 cannot hold.
        TypeError: not a Clip.
        OSError: the folder is not writable, the path is a folder, or the disk is full.
        RuntimeError: the encoder lost frames.
    """
    path = Path(path)
    if path.suffix.lower() != ".mp4":
        raise ValueError(
            f"videos are written as .mp4, not {path.suffix or 'without suffix'}: {path}"
        )
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give a file name inside it")
    data = encode_clip(clip, crf)
    try:
        write_files({path: data})
    except OSError as err:
        raise type(err)(
            err.errno, f"could not write {len(data)} bytes: {err.strerror}", str(path)
        ) from err
    return path


def encode_clip(clip: Clip, crf: int = 18) -> bytes:
    """The MP4 file of `clip` (H.264, yuv420p) as bytes, decoded once to check that every frame is
    in it.

    Arguments and errors as of `write_clip`, which adds those of the disk.
    """
    if not isinstance(clip, Clip):
        raise TypeError(f"expected a Clip, not {type(clip).__name__}: Clip(frames, fps)")
    if not 0 <= crf <= 51:
        raise ValueError(f"crf must lie in 0..51, not {crf}")
    if max(clip.width, clip.height) > MAX_SIDE:
        size = f"{clip.width}x{clip.height}"
        raise ValueError(f"{size} is more than H.264 holds: {MAX_SIDE:,} pixels a side")
    if not FPS[0] <= clip.fps <= FPS[1]:
        raise ValueError(f"fps must lie in {FPS[0]:g}..{FPS[1]:g} to be written, not {clip.fps:g}")
    buffer = io.BytesIO()
    frames = _even(clip.frames)
    # Room for the index before the pictures, so that playing can start before all is loaded
    # (+faststart does the same afterwards, but has to reopen the file by name).
    index_bytes = 2048 + 24 * clip.num_frames
    with av.open(buffer, "w", format="mp4", options={"moov_size": str(index_bytes)}) as out:
        stream = out.add_stream("libx264", rate=Fraction(clip.fps).limit_denominator(1001))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        # else one clip becomes several files: what x264's AVX-512 code gives is not always the same
        stream.options = {"crf": str(crf), "x264-params": "cpu-independent=1"}
        context = stream.codec_context
        context.colorspace, context.color_range = Colorspace.SMPTE170M, ColorRange.MPEG
        context.color_primaries, context.color_trc = _BT709_PRIMARIES, _SRGB_CURVE
        to_yuv = {"dst_colorspace": Colorspace.SMPTE170M, "dst_color_range": ColorRange.MPEG}
        for number, rgb in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
            picture = picture.reformat(format="yuv420p", **to_yuv)
            picture.pts = number
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    data = buffer.getvalue()
    with av.open(io.BytesIO(data)) as container:
        found = sum(1 for _ in container.decode(video=0))
    if found != clip.num_frames:
        raise RuntimeError(
            f"the encoder kept {found} of {clip.num_frames} frames; nothing was written"
        )
    return data


def _even(frames: np.ndarray) -> np.ndarray:
    """[T, H, W, 3] with the last row or column repeated where H or W is odd."""
    height, width = frames.shape[1:3]
    if height % 2 == 0 and width % 2 == 0:
        return frames
    pad = ((0, 0), (0, height % 2), (0, width % 2), (0, 0))
    warnings.warn(
        f"H.264 needs even sides: {width}x{height} is written as "
        f"{width + width % 2}x{height + height % 2}, last column or row repeated",
        stacklevel=4,
    )
    return np.pad(frames, pad, mode="edge")
