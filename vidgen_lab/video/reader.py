"""Video file -> Clip, exact to the frame whatever the container does.

Frame i is the i-th picture a player shows. Where it lies is looked up in an index of packet time
stamps (demuxing only, no decoding), so a span costs one seek and a short decode. The seek is
verified; where a container seeks imprecisely (MPEG-TS, MPEG-PS) or hides its time stamps, the file
is decoded from its start instead: slower, never wrong.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from vidgen_lab.video.clip import Clip
from vidgen_lab.video.ffmpeg import local

# From 17 on PyAV converts colours and sizes on every core unless it is told otherwise.
_CONVERTS_IN_THREADS = int(av.__version__.partition(".")[0]) >= 17

# A name with a colon is a file here, never a protocol, and a playlist reaches no other machine.
FILES_ONLY = {"protocol_whitelist": "file"}


class VideoError(ValueError):
    """The file exists but is not a video that can be decoded."""


@dataclass(frozen=True)
class VideoInfo:
    """What a video file really holds; width and height as shown, so after rotation."""

    width: int
    height: int
    fps: float  # frames per second; the average where the rate varies
    num_frames: int  # counted, not the header's promise
    duration: float  # seconds, num_frames / fps
    codec: str
    pix_fmt: str
    rotation: int  # degrees counter-clockwise that the stored picture is turned: 0, 90, 180, 270
    variable_fps: bool
    has_audio: bool


def probe_video(path: str | Path) -> VideoInfo:
    """Size, rate, frame count and codec of a video file; decodes one frame.

    Raises FileNotFoundError, IsADirectoryError, or VideoError when the file is no readable video.
    """
    return VideoReader(path).info


def read_clip(
    path: str | Path, start: int = 0, num_frames: int | None = None, stride: int = 1
) -> Clip:
    """Read frames start, start + stride, ... (num_frames of them; None: up to the end).

    The clip's fps is the file's rate divided by `stride`; its meta names source and span.
    Reading many spans of one file: keep a `VideoReader`, it indexes the file once.
    Raises ValueError when the span leaves the file, VideoError when frames cannot be decoded.
    """
    return VideoReader(path).read(start, num_frames, stride)


class VideoReader:
    """Index of one video file. Holds no open handle, so it pickles into DataLoader workers.

    info: VideoInfo. times: float64 [num_frames], seconds at which the frames are shown, the first
    at 0. threads: to decode and convert with; leave 1 inside DataLoader workers.
    """

    def __init__(self, path: str | Path, threads: int = 1) -> None:
        self.path = Path(path)
        self.threads = threads
        self._converting = {"threads": threads} if _CONVERTS_IN_THREADS else {}
        if self.path.is_dir():
            raise IsADirectoryError(f"{self.path} is a folder, not a video file")
        if not self.path.exists():
            raise FileNotFoundError(f"no video file at {self.path}")
        with self._open() as container:
            stream = container.streams.video[0]
            codec, tick = stream.codec_context.name, float(stream.time_base)
            header_rate = stream.average_rate or stream.guessed_rate
            has_audio = bool(container.streams.audio)
            self._pts = _packet_times(container)
        self._seekable = self._pts is not None
        if not self._seekable:
            self._pts = self._decoded_times()
        first = next(self._decode_all(), None)
        if first is None:
            raise VideoError(f"{self.path} has a video track but not one frame that decodes")
        num_frames = len(self._pts)
        self.times = (self._pts - self._pts[0]) * tick
        fps, variable = _frame_rate(self.times, header_rate, tick)
        rotation = round((first.rotation or 0) / 90) * 90 % 360
        turned = rotation in (90, 270)
        self.info = VideoInfo(
            width=first.height if turned else first.width,
            height=first.width if turned else first.height,
            fps=fps,
            num_frames=num_frames,
            duration=num_frames / fps,
            codec=codec,
            pix_fmt=first.format.name,
            rotation=rotation,
            variable_fps=variable,
            has_audio=has_audio,
        )

    def read(self, start: int = 0, num_frames: int | None = None, stride: int = 1) -> Clip:
        """Frames start, start + stride, ... as a Clip; see `read_clip`."""
        wanted = self._span(start, num_frames, stride)
        pictures = self._seek_and_decode(wanted) if self._seekable else None
        if pictures is None:
            pictures = self._decode_from_start(wanted)
        meta = {"source": str(self.path), "start": start, "stride": stride}
        return Clip(np.stack(pictures), self.info.fps / stride, meta)

    def __iter__(self) -> Iterator[np.ndarray]:
        """All frames in order, uint8 [H, W, 3], one in memory at a time."""
        return (self._upright(frame) for frame in self._decode_all())

    def _span(self, start: int, num_frames: int | None, stride: int) -> range:
        total = self.info.num_frames
        if stride < 1:
            raise ValueError(f"stride must be at least 1, not {stride}")
        if not 0 <= start < total:
            raise ValueError(f"start must lie in 0..{total - 1}, not {start}: {self.path}")
        available = len(range(start, total, stride))
        count = available if num_frames is None else num_frames
        if not 1 <= count <= available:
            raise ValueError(
                f"{num_frames} frames from {start} at stride {stride} asked for, but {self.path} "
                f"has {total} frames: 1..{available} possible"
            )
        return range(start, start + count * stride, stride)

    def _seek_and_decode(self, wanted: range) -> list[np.ndarray] | None:
        """The wanted frames after one seek, or None when the seek turns out not to be exact."""
        places = {int(self._pts[i]): n for n, i in enumerate(wanted)}
        first, last = int(self._pts[wanted[0]]), int(self._pts[wanted[-1]])
        pictures: list[np.ndarray | None] = [None] * len(wanted)
        with self._open() as container:
            stream = container.streams.video[0]
            landed = False
            try:
                container.seek(first, stream=stream, backward=True, any_frame=False)
                for packet in container.demux(stream):
                    if not landed and packet.size:  # nothing before a key frame decodes rightly
                        if not packet.is_keyframe:
                            continue
                        if packet.pts is None or packet.pts > first:
                            return None
                        landed = True
                    for frame in packet.decode():
                        if frame.pts in places:
                            pictures[places[frame.pts]] = self._upright(frame)
                        if frame.pts is not None and frame.pts >= last:
                            return None if any(p is None for p in pictures) else pictures
            except av.FFmpegError:
                return None
        return None if any(p is None for p in pictures) else pictures

    def _decode_from_start(self, wanted: range) -> list[np.ndarray]:
        pictures, index = [], -1
        for index, frame in enumerate(self._decode_all()):
            if index in wanted:
                pictures.append(self._upright(frame))
                if len(pictures) == len(wanted):
                    return pictures
        raise VideoError(
            f"{self.path} is damaged: it announces {self.info.num_frames} frames, "
            f"decoding ends after {index + 1}"
        )

    def _decode_all(self) -> Iterator[av.VideoFrame]:
        """Every frame a player shows. Damage ends it, except in front of the first frame, where
        a recording that begins in the middle of a stream cannot be decoded yet."""
        begun = False
        with self._open() as container:
            try:
                for packet in container.demux(video=0):
                    try:
                        for frame in packet.decode():
                            begun = True
                            yield frame
                    except av.FFmpegError:
                        if begun:
                            return
            except av.FFmpegError:
                return

    def _decoded_times(self) -> np.ndarray:
        """Time stamps in ticks from decoding the whole file; frame numbers where it has none."""
        pts = [frame.pts for frame in self._decode_all()]
        if None not in pts:
            return np.asarray(pts, dtype=np.int64)
        with self._open() as container:
            stream = container.streams.video[0]
            rate = float(stream.average_rate or stream.guessed_rate or 25)
            ticks = 1 / (rate * float(stream.time_base))
        return np.rint(np.arange(len(pts)) * ticks).astype(np.int64)

    def _open(self) -> av.container.InputContainer:
        try:
            container = av.open(local(self.path), options=FILES_ONLY)
        except av.FFmpegError as err:
            size = self.path.stat().st_size
            reason = "the file is empty" if size == 0 else err.strerror
            raise VideoError(f"{self.path} is not a readable video: {reason}") from err
        if not container.streams.video:
            container.close()
            raise VideoError(f"{self.path} has no video track")
        container.streams.video[0].codec_context.thread_count = self.threads
        return container

    def _upright(self, frame: av.VideoFrame) -> np.ndarray:
        rgb = frame.to_ndarray(format="rgb24", **self._converting)
        turns = round((frame.rotation or 0) / 90) % 4
        return np.ascontiguousarray(np.rot90(rgb, turns)) if turns else rgb


def _packet_times(container: av.container.InputContainer) -> np.ndarray | None:
    """Sorted time stamps, in ticks, of the packets that will be shown; None if not to be relied on.

    Packets in front of an edit list's start are marked to be discarded and do not count. Not
    reliable: no time stamps, doubled ones, or pictures that precede the first key frame (a stream
    cut inside an open GOP), which may not decode and would shift every number.
    """
    times, first_key = [], None
    try:
        for packet in container.demux(video=0):
            if packet.size == 0:  # the flush packet at the end
                continue
            if packet.pts is None:
                return None
            if packet.is_keyframe and first_key is None:
                first_key = packet.pts
            if not packet.is_discard:
                times.append(packet.pts)
    except av.FFmpegError:
        pass  # cut short: what was read counts
    pts = np.unique(np.asarray(times, dtype=np.int64))
    reliable = 0 < len(pts) == len(times) and first_key is not None and first_key <= pts[0]
    return pts if reliable else None


def _frame_rate(times: np.ndarray, header_rate, tick: float) -> tuple[float, bool]:
    """(average frames per second, whether the rate varies) from the frames' own times in seconds.

    The header's exact fraction is preferred where the times agree with it up to their rounding.
    """
    if len(times) < 2:
        return float(header_rate or 25), False
    measured = (len(times) - 1) / (times[-1] - times[0])
    gaps = np.diff(times)
    variable = bool(np.ptp(gaps) > max(2.5 * tick, 0.02 / measured))
    if header_rate and not variable:
        span = (len(times) - 1) / float(header_rate)
        if abs(span - (times[-1] - times[0])) <= max(2 * tick, 1e-3 * span):
            return float(header_rate), False
    return measured, variable
