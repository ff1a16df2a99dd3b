"""How a stored picture has to be turned, or mirrored, to be shown.

That is said by three yeses or noes: mirrored along its diagonal first (rows become columns), then
left to right, then top to bottom.
"""

import av
import numpy as np


def upright(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """(diagonal, across, down) from the frame's display matrix; reflections count too."""
    found = frame.side_data.get("DISPLAYMATRIX")
    if found is None:
        return False, False, False
    a, b, _, c, d = np.frombuffer(bytes(found), np.int32)[:5].tolist()
    if abs(a) >= abs(b):  # x stays x
        return False, a < 0, d < 0
    return True, c < 0, b < 0


def turned(picture: np.ndarray, diagonal: bool, across: bool, down: bool) -> np.ndarray:
    """The picture [H, W, 3] as it is shown: mirrored along its `diagonal`, `across`, `down`."""
    import cv2  # several times as fast as NumPy

    picture = cv2.transpose(picture) if diagonal else picture
    if across or down:
        return cv2.flip(picture, -1 if across and down else int(across))
    return np.ascontiguousarray(picture)
