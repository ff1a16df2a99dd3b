"""Make the pictures and videos in a notebook small enough to live in a repository.

What a chapter shows while it runs is sharp. What is committed only has to be recognised, so its
JPEG pictures and H.264 videos are coded again, more coarsely step by step, until all fits. Charts
(PNG) keep their size and their lettering, with fewer shades.
"""

import base64
import copy
import io
import re
import tempfile
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
from PIL import Image

from vidgen_lab.video.reader import read_clip
from vidgen_lab.video.writer import encode_clip

# (JPEG quality, scale, H.264 rate factor), from fine to coarse.
STEPS = ((60, 1.0, 24), (55, 0.85, 28), (50, 0.7, 32), (40, 0.6, 36), (30, 0.5, 38), (25, 0.4, 42))
_VIDEO = re.compile(r"(data:video/mp4;base64,)([A-Za-z0-9+/=]+)")


def slim(notebook: nbformat.NotebookNode, limit: int) -> nbformat.NotebookNode:
    """The notebook with its media coded just coarsely enough for `limit` bytes, if possible."""
    smaller = notebook
    for step in STEPS:
        if len(nbformat.writes(smaller).encode()) <= limit:
            break
        smaller = copy.deepcopy(notebook)
        for cell in smaller.cells:
            for output in cell.get("outputs", []):
                _recode(output.get("data", {}), *step)
    return smaller


def _recode(data: dict, quality: int, scale: float, crf: int) -> None:
    if "image/jpeg" in data:
        data["image/jpeg"] = _picture(data["image/jpeg"], quality, scale)
    if "image/png" in data and scale < 1:
        data["image/png"] = _chart(data["image/png"])
    if "text/html" in data:
        data["text/html"] = _VIDEO.sub(lambda m: m[1] + _video(m[2], crf, scale), data["text/html"])


def _picture(encoded: str, quality: int, scale: float) -> str:
    image = Image.open(io.BytesIO(base64.b64decode(encoded)))
    image = image.resize([round(side * scale) for side in image.size], Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, optimize=True, progressive=True)
    return min(encoded, base64.b64encode(buffer.getvalue()).decode(), key=len)


def _chart(encoded: str) -> str:
    image = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGBA")
    buffer = io.BytesIO()
    image.quantize(24, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return min(encoded, base64.b64encode(buffer.getvalue()).decode(), key=len)


def _video(encoded: str, crf: int, scale: float) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        path.write_bytes(base64.b64decode(encoded))
        clip = read_clip(path)
    size = [2 * round(side * scale / 2) for side in (clip.width, clip.height)]
    frames = [np.asarray(Image.fromarray(frame).resize(size)) for frame in clip.frames]
    data = encode_clip(replace(clip, frames=np.stack(frames)), crf)
    return min(encoded, base64.b64encode(data).decode(), key=len)
