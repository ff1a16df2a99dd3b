"""Signs of damage that no exception tells: what the decoder complains of, holes, a missing end."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np

# Decoders mend what they can and go on. Of their complaints these mean that a picture is wrong;
# others (an unknown SEI, a reference too many) also come with files that are in order.
_GRAVE = re.compile(
    "error while decoding|damaged|CRC mismatch|Invalid NAL|decode failed|ended prematurely|"
    "Packet mismatch|Error at MB|co located POCs|first byte of an EBML|splitting the input",
    re.IGNORECASE,
)
# What a broken download or disk leaves. Coded pictures of these kinds have no long run of zeros.
_HOLE = bytes(512)
_DENSE = frozenset({"h264", "hevc", "vp8", "vp9", "av1", "mjpeg", "theora", "wmv2", "prores"})


@contextmanager
def complaints() -> Iterator[list[tuple]]:
    """What FFmpeg complains of in this thread, as it comes.

    FFmpeg has one log a process: while one listens, others write theirs to Python's `logging`.
    """
    before, skipping = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)
    try:
        with av.logging.Capture() as heard:
            yield heard
    finally:
        av.logging.set_level(before)
        av.logging.set_skip_repeated(skipping)


def grave(heard: list[tuple]) -> bool:
    """Whether one of the complaints is; forgets them all."""
    found = any(_GRAVE.search(message) for _, _, message in heard)
    heard.clear()
    return found


def has_hole(packet: av.Packet, codec: str) -> bool:
    """Whether the packet has a long run of zeros in front of its padding."""
    if codec not in _DENSE or packet.size < len(_HOLE):
        return False
    data = bytes(packet)
    return _HOLE in data and _HOLE in data.rstrip(b"\0")


def torn_places(path: Path, container: str, pts: np.ndarray) -> set[int]:
    """Frames of an MPEG transport stream that begin after a hole in an even row of stamps, `pts`,
    and the last one, when the file breaks off inside a packet: what is lost leaves no trace."""
    if container != "mpegts" or len(pts) < 3:
        return set()
    gaps = np.diff(pts)
    usual = np.median(gaps)
    even = (np.abs(gaps - usual) <= 0.02 * usual + 1).mean() >= 0.9
    torn = set((np.flatnonzero(gaps > 1.5 * usual) + 1).tolist()) if even else set()
    size = path.stat().st_size
    return torn | {len(pts) - 1} if size % 188 and size % 192 else torn


def lacks_its_end(path: Path, container: str) -> bool:
    """Whether a file of a container that marks its end, GIF or Ogg, has no such mark."""
    if not container.startswith(("gif", "ogg")):
        return False
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 2**16))
        end = file.read()
    if container.startswith("gif"):
        return not end.rstrip(b"\0").endswith(b";")
    _, page, header = end.rpartition(b"OggS")
    return not page or len(header) < 2 or not header[1] & 4  # a page may be cut in its header
