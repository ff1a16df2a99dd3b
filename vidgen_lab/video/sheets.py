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

    width: of a clip, at most, unless it is wider already. columns: default as many as fit on PAGE.
    The highest rate is that of the sheet; shorter clips wait at their last frame.
    """
    if not clips:
        raise ValueError("no clips to show")
    at_least_one("width", width)
    at_least_one("columns", columns)
    titles = titles_for(titles, len(clips))
    fps = max(clip.fps for clip in clips)
    length = max(round(clip.num_frames * fps / clip.fps) for clip in clips)
    tiles = []
    for clip in clips:
        factor = max(1, width // clip.width)
        at = np.minimum(np.arange(length) * clip.fps / fps, clip.num_frames - 1).astype(int)
        tiles.append(clip.frames[at].repeat(factor, axis=1).repeat(factor, axis=2))
    across = max(tile.shape[2] for tile in tiles)
    columns = columns or max(1, min(len(clips), (PAGE + _GAP) // (across + _GAP)))
    bars = [_title_bar(title, across, lines=3) for title in titles]  # of no height without one
    rows = []
    for start in range(0, len(tiles), columns):
        row = slice(start, start + columns)
        over, cells = max(len(bar) for bar in bars[row]), []
        for tile, bar in zip(tiles[row], bars[row], strict=True):
            cell = np.full((length, over + tile.shape[1], across, 3), 255, np.uint8)
            cell[:, over - len(bar) : over] = bar  # just above its clip
            cell[:, over:, : tile.shape[2]] = tile
            cells.append(cell)
        rows.append(_joined(cells, axis=2))
    return Clip(_joined(rows, axis=1), fps)


def film_strip(
    clips: Sequence[Clip],
    titles: Sequence[str] | None = None,
    num: int = 5,
    scale: float | None = None,
    columns: int = 1,
) -> np.ndarray:
    """One row of `num` frames per clip, its title above -> uint8 [H, W, 3] on white.

    scale: of each frame; None enlarges toy clips by a whole number and reduces large ones.
    columns: side by side, each read from top to bottom.
    """
    if not clips:
        raise ValueError("no clips to show")
    at_least_one("columns", columns)
    strips = [_joined(_tiles(clip, num, scale), axis=1) for clip in clips]
    width = max(strip.shape[1] for strip in strips)
    rows = []
    for strip, title in zip(strips, titles_for(titles, len(clips)), strict=True):
        rows.append(_joined([_title_bar(title, width), strip], axis=0) if title else strip)
    tall = -(-len(rows) // columns)
    sides = [_joined(rows[i : i + tall], axis=0) for i in range(0, len(rows), tall)]
    return _joined(sides, axis=1)


def write_png(sheet: np.ndarray, path: Path) -> Path:
    """A sheet as PNG; the folder is made."""
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), sheet[..., ::-1]):
        raise OSError(f"could not write {path}")
    return path


def titles_for(titles: Sequence[str] | None, count: int) -> list[str]:
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
    if num < 1:
        raise ValueError(f"at least one frame has to be shown, not {num}")
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


def _joined(pieces: Sequence[np.ndarray], axis: int) -> np.ndarray:
    """Pictures one after the other, with white in between and beside the smaller ones."""
    largest = np.max([piece.shape for piece in pieces], axis=0)
    filled = []
    for number, piece in enumerate(pieces, start=1):
        white = largest - piece.shape
        white[axis] = _GAP if number < len(pieces) else 0
        filled.append(np.pad(piece, [(0, n) for n in white], constant_values=255))
    return np.concatenate(filled, axis)


def _title_bar(title: str, width: int, lines: int = 1) -> np.ndarray:
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
