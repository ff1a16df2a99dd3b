"""Frames as they come, through a bounded buffer (book listing 2.L07, with the buffer it lacks)."""

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from vidgen_lab.video.reader import VideoReader


@dataclass(frozen=True)
class StreamedFrame:
    """number: of the frame in the source. latency: seconds it waited in the buffer."""

    number: int
    frame: np.ndarray
    latency: float


class FrameBuffer:
    """A ring of at most `size` frames between a source and a slower or faster reader.

    full: "wait" holds the source back and loses nothing; "drop" forgets the oldest frame, as a live
    camera must. `dropped` counts them.
    """

    def __init__(self, size: int = 8, full: Literal["wait", "drop"] = "wait") -> None:
        if size < 1:
            raise ValueError(f"a buffer holds at least one frame, not {size}")
        self.size, self.full, self.dropped = size, full, 0
        self._items: deque[tuple[int, np.ndarray, float]] = deque()
        self._change = threading.Condition()
        self._closed = False
        self._error: BaseException | None = None

    def put(self, number: int, frame: np.ndarray) -> bool:
        """Add a frame; False when nobody reads any more."""
        with self._change:
            while len(self._items) >= self.size and not self._closed:
                if self.full == "drop":
                    self._items.popleft()
                    self.dropped += 1
                else:
                    self._change.wait()
            if self._closed:
                return False
            self._items.append((number, frame, time.monotonic()))
            self._change.notify_all()
            return True

    def close(self, error: BaseException | None = None) -> None:
        """No more frames; an error is raised at the reader after those that are left."""
        with self._change:
            self._closed, self._error = True, error
            self._change.notify_all()

    def __iter__(self) -> Iterator[StreamedFrame]:
        while True:
            with self._change:
                while not self._items and not self._closed:
                    self._change.wait()
                if not self._items:
                    if self._error is not None:
                        raise self._error
                    return
                number, frame, since = self._items.popleft()
                self._change.notify_all()
            yield StreamedFrame(number, frame, time.monotonic() - since)


def stream_video(
    source: str | Path | Iterable[np.ndarray],
    max_frames: int | None = None,
    buffer_size: int = 8,
    full: Literal["wait", "drop"] = "wait",
) -> Iterator[StreamedFrame]:
    """Yield frames of a file (or of any iterable) while a thread reads on, in bounded memory.

    Leaving the loop early ends the thread. Raises what the source raises.
    """
    frames = VideoReader(source) if isinstance(source, str | Path) else source
    buffer = FrameBuffer(buffer_size, full)

    def read() -> None:
        try:
            for number, frame in enumerate(frames):
                if number == max_frames or not buffer.put(number, frame):
                    break
        except BaseException as error:
            buffer.close(error)
        else:
            buffer.close()

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield from buffer
    finally:
        buffer.close()
        thread.join()
