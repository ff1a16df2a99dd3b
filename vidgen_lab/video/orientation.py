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

    def apply(self, picture: np.ndarray) -> np.ndarray:
        """[H, W, 3] -> the picture as shown, contiguous; the same array where nothing is to do."""
        if self == Upright():
            return np.ascontiguousarray(picture)
        import cv2  # turns a picture ten times faster than NumPy copies one

        turned = cv2.transpose(picture) if self.diagonal else np.empty_like(picture, order="C")
        if self.across or self.down:
            how = -1 if self.across and self.down else int(self.across)
            turned = cv2.flip(turned if self.diagonal else picture, how, turned)
        return turned
