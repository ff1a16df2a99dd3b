"""How a stored picture has to be turned, or mirrored, to be shown."""

from dataclasses import dataclass

import av
import numpy as np


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

    def turned(self, picture: np.ndarray) -> np.ndarray:
        """The picture [H, W, 3] as it is shown."""
        import cv2  # several times as fast as NumPy

        picture = cv2.transpose(picture) if self.diagonal else picture
        if self.across or self.down:
            return cv2.flip(picture, -1 if self.across and self.down else int(self.across))
        return np.ascontiguousarray(picture)
