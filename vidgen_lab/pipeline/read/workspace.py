"""The folders of a project, a gallery of what is in one, and what raw video would weigh."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vidgen_lab.pipeline.read.probing import Facts, probe_file
from vidgen_lab.pipeline.read.sources import find_videos
from vidgen_lab.video.reader import VideoError, VideoReader

FOLDERS = ("raw", "filtered", "scenes", "frames", "augmented", "annotations", "exports", "logs")


class Workspace:
    """The folders of chapter 2 below one root (book listing 2.L01); made with their parents.

    `workspace.frames` is the path of the folder "frames".
    """

    def __init__(self, root: str | Path, folders: Sequence[str] = FOLDERS) -> None:
        self.root, self.folders = Path(root), tuple(folders)
        for name in self.folders:
            (self.root / name).mkdir(parents=True, exist_ok=True)

    def __getattr__(self, name: str) -> Path:
        if name != "folders" and name in self.folders:
            return self.root / name
        raise AttributeError(f"no folder {name!r} in this workspace")


class Gallery:
    """The videos of a folder: a table of facts and a sheet of thumbnails (2.L02-03)."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.facts: dict[str, Facts] = {}
        self.errors: dict[str, str] = {}
        for source in find_videos(folder):
            try:
                self.facts[source.name] = probe_file(source.path)
            except (VideoError, OSError) as error:
                self.errors[source.name] = str(error)

    def stats(self) -> Any:
        """pandas DataFrame, one line a readable video."""
        import pandas as pd

        names = ["width", "height", "fps", "num_frames", "seconds", "bytes", "codec", "audio_codec"]
        table = [{"file": f, **{n: getattr(v, n) for n in names}} for f, v in self.facts.items()]
        return pd.DataFrame(table, columns=["file", *names])

    def sheet(self, columns: int = 4, width: int = 200) -> np.ndarray:
        """The middle frame of every video with its name, uint8 [H, W, 3]."""
        tiles = [_tile(self.folder / name, name, f, width) for name, f in self.facts.items()]
        if not tiles:
            raise ValueError(f"no readable video in {self.folder}: {self.errors}")
        tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)
        return np.vstack([np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)])


def _tile(path: Path, name: str, facts: Facts, width: int) -> np.ndarray:
    import cv2

    height = width * 9 // 16
    picture = VideoReader(path).read(facts.num_frames // 2, 1).frames[0]
    scale = min(width / picture.shape[1], height / picture.shape[0])
    size = [max(1, round(s * scale)) for s in picture.shape[1::-1]]
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    tile = np.full((height + 22, width, 3), 255, np.uint8)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    tile[top : top + size[1], left : left + size[0]] = small
    text = _label(name, width // 7)
    cv2.putText(tile, text, (3, height + 15), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (60,) * 3, 1, 16)
    return tile


def _label(name: str, room: int) -> str:
    """What of a file name fits into so many letters of OpenCV's font, which knows ASCII alone."""
    plain = unicodedata.normalize("NFKD", name)
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    plain = plain.encode("ascii", "replace").decode()
    return plain if len(plain) <= room else Path(plain).stem[-room:]


@dataclass(frozen=True)
class RawVideo:
    """What a video is and what it would weigh uncompressed, in bytes."""

    facts: Facts
    rgb_bytes: int  # 8 bits for each of three colours
    yuv420_bytes: int  # 8 bits, colour at half the size both ways

    @property
    def compression(self) -> float:
        """How many times smaller the file is than its raw 4:2:0 pictures."""
        return self.yuv420_bytes / self.facts.bytes

    def __str__(self) -> str:
        f = self.facts
        return (
            f"{f.width}x{f.height}, {f.fps:.3f} fps, {f.num_frames} frames, {f.seconds:.2f} s; raw "
            f"RGB {self.rgb_bytes / 1e9:.3f} GB ({self.rgb_bytes / 2**30:.3f} GiB), "
            f"the file is {self.compression:.0f} times smaller than raw 4:2:0"
        )


def analyze_raw_video(video_path: str | Path) -> RawVideo:
    """Facts and uncompressed size of a video (book listing 2.L04)."""
    facts = probe_file(video_path)
    pixels = facts.width * facts.height * facts.num_frames
    return RawVideo(facts, pixels * 3, pixels * 3 // 2)


def tools_available() -> Any:
    """pandas DataFrame of the tools this chapter stands on: tool, version, and what it is for."""
    import re

    import av
    import cv2
    import pandas as pd
    import scenedetect

    from vidgen_lab.video.ffmpeg import encoders, run_ffmpeg

    banner = run_ffmpeg("-version").decode("utf-8", "replace")
    found = re.search(r"ffmpeg version (\S+)", banner)
    here = encoders()
    codecs = [n for n in ("libx264", "libx265", "libsvtav1", "libvpx-vp9") if n in here]
    rows = [
        ("OpenCV", cv2.__version__, "one frame: measure, resize, warp, optical flow"),
        ("PyAV", av.__version__, "read: every frame with its time stamp, in this process"),
        (
            "FFmpeg",
            found[1] if found else "?",
            "write: cut, scale, encode with " + ", ".join(codecs),
        ),
        ("PySceneDetect", scenedetect.__version__, "where one shot ends and the next begins"),
    ]
    return pd.DataFrame(rows, columns=["tool", "version", "job"]).set_index("tool")
