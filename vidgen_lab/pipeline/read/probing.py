"""What a file claims in its header and what it holds: the difference tells damage from design."""

from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av

from vidgen_lab.video.reader import VideoInfo, VideoReader, open_video

_HDR_CURVES = {16: "PQ", 18: "HLG"}


@dataclass(frozen=True)
class Facts(VideoInfo):
    """A video file: what its frames tell, then what only the header says.

    Attributes:
        sample_aspect: width of a pixel over its height.
        hdr: "PQ" or "HLG", "" for all else.
        audio_codec: "" without sound, "unknown" where ffmpeg has no name for it.
        bits_per_second: of the whole file, sound included.
        header_frames, header_seconds: 0 where the header is silent.
        missing: frames announced but not in the file.
    """

    container: str
    bit_depth: int
    sample_aspect: float
    hdr: str
    audio_codec: str
    bytes: int
    bits_per_second: float
    header_frames: int
    header_seconds: float
    missing: int

    @property
    def seconds(self) -> float:
        return self.duration

    @property
    def disagreements(self) -> list[str]:
        """Where header and content differ, in words."""
        pairs = (
            (self.header_frames, self.num_frames, 0, "{} frames"),
            (self.header_seconds, self.duration, 1.5 / self.fps, "{:.3f} s"),
        )
        return [
            f"header says {unit.format(said)}, {unit.format(found)} are shown"
            for said, found, slack, unit in pairs
            if said and abs(said - found) > slack
        ]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"seconds": self.seconds, "disagreements": self.disagreements}


def probe_file(source: str | Path | VideoReader) -> Facts:
    """Facts of a video file, or of what a reader reads; demuxes it twice and decodes one frame.

    Raises:
        FileNotFoundError: there is no such file.
        IsADirectoryError: it is a folder.
        VideoError: it is no readable video.
    """
    reader = source if isinstance(source, VideoReader) else VideoReader(source)
    info, size = reader.info, reader.path.stat().st_size
    with open_video(reader.path) as container:
        stream, audio = container.streams.best("video"), container.streams.audio
        shape = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or 1
        sound = audio[0].codec_context if audio else None
        length = stream.duration * stream.time_base if stream.duration else None
        header = {
            "container": container.format.name,
            "bit_depth": max((c.bits for c in stream.codec_context.format.components), default=8),
            "sample_aspect": float(1 / shape if info.rotation % 180 else shape),
            "hdr": _HDR_CURVES.get(reader.transfer, ""),
            "audio_codec": sound.name if sound else "unknown" if audio else "",
            "header_frames": int(stream.frames),
            "header_seconds": float(length or (container.duration or 0) / av.time_base),
        }
        alone = len(container.streams) == 1
        stored = 0  # packets that hold a picture, also those an edit list hides
        with suppress(av.FFmpegError):  # as far as the file can be read
            for packet in container.demux(stream):
                stored += packet.size > 0
                if container.format.name == "avi" and packet.dts is not None:
                    stored = max(stored, packet.dts + 1)  # counts pictures that repeat the last
    return Facts(
        **vars(info),
        **header,
        bytes=size,
        bits_per_second=8 * size / info.duration,
        missing=_missing(header, info, stored, alone),
    )


def _missing(header: dict[str, Any], info: VideoInfo, stored: int, alone: bool) -> int:
    """Frames the header announces and the file does not hold: it was cut short.

    Without a count the announced duration decides, and only where no longer sound or subtitles
    explain it. Interlaced streams announce fields, up to twice the frames, hence the share.
    """
    if header["header_frames"]:
        gap = header["header_frames"] - stored
        return gap if gap > 2 and stored < 0.98 * header["header_frames"] else 0
    gap = header["header_seconds"] - info.duration
    if not alone or gap < max(0.5, 0.1 * header["header_seconds"]):
        return 0
    return round(gap * info.fps)
