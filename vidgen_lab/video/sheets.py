"""Clips on one sheet: side by side as they move, or as frames in a still image."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vidgen_lab.video.clip import Clip, evenly_spaced

PAGE = 860  # pixels across a notebook's page
_TILE = (160, 320)  # a tile of a sheet is made at least, at most this wide
_GAP, _TITLE_HEIGHT, _FONT_SIZE = 4, 22, 14  # pixels


def clip_sheet(
    clips: Sequence[Clip],
    titles: Sequence[str] | None = None,
    width: int = 240,
    columns: int | None = None,
) -> Clip:
    """Clips side by side in one clip on white, each enlarged by a whole number under its title.

    The highest rate is that of the sheet; shorter clips wait at their last frame.

    Args:
        clips: one at least.
        titles: one for each clip; None for none.
        width: of a clip in pixels, at most, unless it is wider already.
        columns: default as many as fit on PAGE.
    """
    at_least_one("width", width)
    fps = max((clip.fps for clip in clips), default=1)
    length = max((round(clip.num_frames * fps / clip.fps) for clip in clips), default=1)
    tiles = []
    for clip in clips:
        factor = max(1, width // clip.width)
        at = np.minimum(np.arange(length) * clip.fps / fps, clip.num_frames - 1).astype(int)
        tiles.append(clip.frames[at].repeat(factor, axis=1).repeat(factor, axis=2))
    return Clip(_grid(tiles, titles, columns, lines=3), fps)


def film_strip(
    clips: Sequence[Clip],
    titles: Sequence[str] | None = None,
    num: int = 5,
    scale: float | None = None,
    columns: int = 1,
) -> np.ndarray:
    """One row of frames per clip, its title above -> uint8 [H, W, 3] on white.

    Args:
        clips: one at least.
        titles: one for each clip; None for none.
        num: frames of each, evenly spread; fewer where a clip has fewer.
        scale: of each frame; None enlarges toy clips by a whole number and reduces large ones.
        columns: strips side by side.
    """
    strips = [_joined(_tiles(clip, num, scale), axis=1)[None] for clip in clips]
    return _grid(strips, titles, columns, lines=1, below=_GAP)[0]


def _grid(
    tiles: Sequence[np.ndarray],
    titles: Sequence[str] | None,
    columns: int | None,
    lines: int,
    below: int = 0,
) -> np.ndarray:
    """Tiles [T, H, W, 3] in rows of so many, each under its title; below: white under a title."""
    if not tiles:
        raise ValueError("no clips to show")
    at_least_one("columns", columns)
    across = max(tile.shape[2] for tile in tiles)
    columns = columns or max(1, min(len(tiles), (PAGE + _GAP) // (across + _GAP)))
    bars = [_title_bar(title, across, lines) for title in titles_for(titles, len(tiles))]
    rows = []
    for start in range(0, len(tiles), columns):
        row = slice(start, start + columns)
        over, cells = max(map(len, bars[row])), []  # bars are of no height without a title
        for tile, bar in zip(tiles[row], bars[row], strict=True):
            white = (over - len(bar), below if over else 0), (0, 0), (0, 0)
            head = np.pad(bar, white, constant_values=255)  # the title just above its clip
            head = np.broadcast_to(head, (len(tile), *head.shape))
            cells.append(_joined([head, tile], axis=1, gap=0))
        rows.append(_joined(cells, axis=2))
    return _joined(rows, axis=1)


def write_png(sheet: np.ndarray, path: Path) -> Path:
    """A sheet, uint8 [H, W, 3], as PNG; the folder is made. OSError if it cannot be written."""
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), sheet[..., ::-1]):
        raise OSError(f"could not write {path}")
    return path


def titles_for(titles: Sequence[str] | None, count: int) -> list[str]:
    """A title for each of `count` clips, empty ones for None; ValueError for too many or too
    few."""
    if titles is None:
        return [""] * count
    if len(titles) != count:
        raise ValueError(f"{len(titles)} titles for {count} clips")
    return [str(title) for title in titles]


def at_least_one(name: str, number: int | None) -> None:
    """ValueError for a width or a number of columns that shows nothing."""
    if number is not None and number < 1:
        raise ValueError(f"{name} must be at least 1, not {number}")


def resize(frames: np.ndarray, width: int, height: int) -> np.ndarray:
    """[T, H, W, 3] -> [T, height, width, 3]: crisp when enlarging, averaged when reducing."""
    import cv2

    how = cv2.INTER_NEAREST if width >= frames.shape[2] else cv2.INTER_AREA
    return np.stack([cv2.resize(frame, (width, height), interpolation=how) for frame in frames])


def _tiles(clip: Clip, num: int, scale: float | None) -> list[np.ndarray]:
    if scale is not None and not 0 < scale <= 100:
        raise ValueError(f"scale must lie in 0..100, not {scale:g}")
    at = evenly_spaced(clip.num_frames, num)
    if scale is None:
        least, most = _TILE
        fits = (PAGE + _GAP) // num - _GAP  # pixels of the page for each tile
        if clip.width < least:
            scale = max(1, min(-(-least // clip.width), fits // clip.width))
        else:
            scale = min(1, most / clip.width)
    width, height = max(1, round(clip.width * scale)), max(1, round(clip.height * scale))
    return list(resize(clip.frames[at], width, height))


def _joined(pieces: Sequence[np.ndarray], axis: int, gap: int = _GAP) -> np.ndarray:
    """Pictures one after the other, with white in between and beside the smaller ones."""
    largest = np.max([piece.shape for piece in pieces], axis=0)
    filled = []
    for number, piece in enumerate(pieces, start=1):
        white = largest - piece.shape
        white[axis] = gap if number < len(pieces) else 0
        filled.append(np.pad(piece, [(0, n) for n in white], constant_values=255))
    return np.concatenate(filled, axis)


def _title_bar(title: str, width: int, lines: int) -> np.ndarray:
    """A title on white in at most so many lines; what does not fit ends in an ellipsis."""
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    # matplotlib carries a font for most scripts; Pillow's own lacks even accents
    typeface = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    font = ImageFont.truetype(typeface, _FONT_SIZE)
    shown, words = [], title[:1000].split()  # more fits into no bar
    while words and len(shown) < lines:
        count = len(words) if len(shown) == lines - 1 else 1
        while count < len(words) and font.getlength(" ".join(words[: count + 1])) <= width:
            count += 1
        line = " ".join(words[:count])
        while line and font.getlength(line) > width:
            line = line.rstrip("…")[:-1] + "…" if len(line) > 1 else ""
        shown, words = [*shown, line], words[count:]
    image = Image.new("RGB", (width, _TITLE_HEIGHT * len(shown)), "white")
    draw = ImageDraw.Draw(image)
    for row, line in enumerate(shown):
        place = (0, _TITLE_HEIGHT * row + _TITLE_HEIGHT // 2)
        draw.text(place, line, fill="black", font=font, anchor="lm")
    return np.asarray(image)
