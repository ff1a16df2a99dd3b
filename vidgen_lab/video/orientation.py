"""How a stored picture has to be turned, or mirrored, to be shown."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.filter import Graph


@dataclass(frozen=True)
class Upright:
    """How a stored picture is turned to be shown: mirrored along its diagonal first (rows become
    columns), then left to right, then top to bottom, where these are True."""

    diagonal: bool = False
    across: bool = False
    down: bool = False

    @classmethod
    def of(cls, frame: av.VideoFrame) -> "Upright":
        """From the display matrix that comes with the frame; reflections count too."""
        found = frame.side_data.get("DISPLAYMATRIX")
        if found is None:
            return cls()
        a, b, _, c, d = np.frombuffer(bytes(found), np.int32)[:5].tolist()
        if abs(a) >= abs(b):  # x stays x
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0)

    @property
    def filters(self) -> list[tuple[str, str]]:
        """libavfilter's names for it, with their arguments. Turning what the decoder gives costs a
        fraction of turning RGB, which is twice as large."""
        if self.diagonal:
            ways = {(0, 0): "cclock_flip", (1, 0): "clock", (0, 1): "cclock", (1, 1): "clock_flip"}
            return [("transpose", ways[self.across, self.down])]
        return [("hflip", "")] * self.across + [("vflip", "")] * self.down

    def turner(self) -> Callable[[av.VideoFrame], av.VideoFrame]:
        """Function from a stored picture to the one that is shown, whatever its size and format."""
        graphs: dict[tuple, Graph] = {}

        def turn(frame: av.VideoFrame) -> av.VideoFrame:
            if self.diagonal and not _turns(frame.format):
                frame = frame.reformat(format="rgb24")
            kind = (frame.width, frame.height, frame.format.name)
            if kind not in graphs:
                graphs[kind] = self._graph(*kind)
            graphs[kind].vpush(frame)
            return graphs[kind].vpull()

        return turn if self.filters else lambda frame: frame

    def _graph(self, width: int, height: int, pixels: str) -> Graph:
        graph = Graph()
        with suppress(AttributeError):  # PyAV before 15 has no such setting
            graph.threads = 1
        first = graph.add_buffer(width=width, height=height, format=pixels, time_base=Fraction(1))
        nodes = [first, *(graph.add(*given) for given in self.filters), graph.add("buffersink")]
        graph.link_nodes(*nodes).configure()
        return graph


def _turns(pixels: av.VideoFormat) -> bool:
    """Whether rows can become columns: colours as fine across as down, and whole bytes."""
    even = pixels.chroma_width(64) == pixels.chroma_height(64)
    return even and not (pixels.has_palette or pixels.is_bit_stream)
