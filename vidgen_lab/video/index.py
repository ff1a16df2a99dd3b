"""Which frames a video file holds and when each is shown, without decoding them.

Demuxing gives the time stamp of every packet. Whether these are the times of the *pictures* depends
on the container: MP4 and Matroska say so for each frame; AVI counts its packets in the order of
decoding, and a GIF's pictures are painted over earlier ones. So an index also says how far it can
be trusted.
"""

from contextlib import suppress
from dataclasses import dataclass

import av
import numpy as np

# Containers that keep the time of every single picture; a read after a seek checks them all.
_CLOCKED = ("mov,", "matroska", "mpegts", "flv")
# x264's early 4:4:4 streams are decoded by a rule that only the file's first packet announces.
_NEEDS_ITS_START = ("yuv444", "yuvj444", "gbr")


@dataclass(frozen=True)
class Index:
    """The frames of a file by their time stamps, and how far these can be trusted.

    Attributes:
        pts: int64 [num_frames], time stamps in ticks, rising.
        tick: seconds.
        clocked: the stamp of a decoded picture tells its number.
        seekable: decoding may begin at a key frame in the middle of the file.
    """

    pts: np.ndarray
    tick: float
    clocked: bool
    seekable: bool

    @property
    def times(self) -> np.ndarray:
        """Seconds at which the frames are shown, float64 [num_frames], the first at 0."""
        return (self.pts - self.pts[0]) * self.tick


def index_packets(
    container: av.container.InputContainer, stream: av.VideoStream
) -> tuple[Index | None, av.VideoFrame | None]:
    """(index, first picture) from demuxing the stream once and decoding no more than it takes.

    The index is None where the packets do not tell the frames: without time stamps, with doubled
    ones, when their clock is set back (recordings joined byte by byte), or when pictures precede
    the first key frame (a stream cut inside an open GOP), which may not decode and would shift
    every number. Packets in front of an edit list's start are marked to be discarded and do not
    count. The picture is None when nothing decodes.
    """
    found, first = [], None
    with suppress(av.FFmpegError):  # cut short: what was read counts
        for packet in container.demux(stream):
            first = first or _first_picture(packet)
            if packet.size:  # the flush packet at the end has none
                found.append((packet.pts, packet.dts, packet.is_keyframe, packet.is_discard))
    keys = [pts for pts, _, is_key, _ in found if is_key and pts is not None]
    stamps = [pts for pts, _, _, discarded in found if not discarded]
    clock = [dts for _, dts, _, discarded in found if not discarded and dts is not None]
    if not stamps or None in stamps or first is None or not keys:
        return None, first
    pts = np.unique(np.asarray(stamps, dtype=np.int64))
    if len(pts) < len(stamps) or keys[0] > pts[0] or (np.diff(clock) < 0).any():
        return None, first
    codec = stream.codec_context.codec
    clocked = container.format.name.startswith(_CLOCKED)
    from_start = codec.name == "h264" and first.format.name.startswith(_NEEDS_ITS_START)
    seekable = not from_start and (clocked or codec.intra_only)
    return Index(pts, float(stream.time_base), clocked or codec.intra_only, seekable), first


def _first_picture(packet: av.Packet) -> av.VideoFrame | None:
    """The picture of a packet; a key frame's at once, without what tells its place in order."""
    context, alone = packet.stream.codec_context, packet.is_keyframe and not packet.is_discard
    pictures = []
    with suppress(av.FFmpegError):
        pictures = packet.decode() or (context.decode(None) if alone else [])
    if alone:
        context.flush_buffers()  # it may have been told that nothing follows
    return next(iter(pictures), None)


def index_pictures(stamps: list[int | None], rate: float, tick: float) -> Index:
    """The index of a file that had to be decoded: stamps in ticks of `tick` seconds, as the
    pictures came, and the header's rate in frames per second. Stamps that are missing or do not
    rise (a time base too coarse, say) are replaced by an even rate."""
    count = len(stamps)
    if None not in stamps:
        pts = np.asarray(stamps, dtype=np.int64)
        if (np.diff(pts) > 0).all():
            return Index(pts, tick, clocked=False, seekable=False)
        if pts[-1] > pts[0]:
            rate = (count - 1) / (float(pts[-1] - pts[0]) * tick)
    micro = np.rint(np.arange(count) * 1e6 / rate).astype(np.int64)
    return Index(micro, 1e-6, clocked=False, seekable=False)


def frame_rate(times: np.ndarray, header_rate: float, tick: float) -> tuple[float, bool]:
    """(average frames per second, whether the rate varies) from the frames' own times in seconds.

    The header's rate (0 where it is silent) is preferred, being an exact fraction, where the times
    agree with it up to their rounding (`tick` is in seconds).
    """
    span = float(times[-1] - times[0])
    if len(times) < 2 or span <= 0:
        return header_rate or 25.0, False
    measured, gaps = (len(times) - 1) / span, np.diff(times)
    variable = bool(np.ptp(gaps) > max(2.5 * tick, 0.02 / measured))
    if header_rate and not variable:
        promised = (len(times) - 1) / header_rate
        if abs(promised - span) <= max(2 * tick, 1e-3 * promised):
            return header_rate, False
    return measured, variable
