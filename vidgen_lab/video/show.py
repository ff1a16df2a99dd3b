"""Look at clips: in a notebook as they move, as contact sheets and film strips in a still image.

Short clips of small frames become animated PNGs, which every viewer of notebooks plays: GitHub,
nbviewer, VS Code, Colab and exported pages. Longer and larger ones become H.264 in a video element.
"""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vidgen_lab.video.clip import Clip
from vidgen_lab.video.reader import probe_video, read_clip
from vidgen_lab.video.writer import encode_clip

SMALL = (50, 40_000)  # at most so many frames of so many pixels are shown as an animated PNG
PAGE = 860  # pixels across a notebook's page
_APNG_BYTES = 1_000_000  # noise does not compress: beyond this H.264 is the better choice
_QUALITIES = (24, 28, 33, 38)  # x264 crf, tried in turn until the size fits
_TILE = (160, 320)  # a tile of a sheet is made at least, at most this wide
_GAP, _TITLE_HEIGHT, _FONT_SIZE = 4, 22, 14  # pixels


@dataclass(frozen=True)
class Embedded:
    """A moving picture for a notebook; leave it last in a cell. Plain text where nothing moves.

    data: HTML that shows it, also fit for an ipywidgets.HTML. text: what it shows, in words.
    image, metadata: the animated PNG and how large to show it, if it is one.
    """

    data: str
    text: str
    image: bytes | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:
        if self.image is None:
            return {"text/html": self.data, "text/plain": self.text}, {}
        shown = {"image/png": base64.b64encode(self.image).decode("ascii")}
        return shown | {"text/plain": self.text}, {"image/png": dict(self.metadata)}

    def __repr__(self) -> str:
        return self.text


def show_video(
    video: Clip | str | Path, width: int = 480, max_mb: float = 4, alt: str | None = None
) -> Embedded:
    """Show a clip or file in a notebook, playing over and over.

    A clip within SMALL is embedded frame by frame at its true size, with at most 256 colours, and
    shown enlarged; a larger one as H.264 with controls. A browser-ready file is embedded unchanged
    if it fits.
    width: as shown, in pixels. Smaller pictures are enlarged by a whole number; larger ones are
    reduced.
    max_mb: limit of the embedded size (2^20 bytes of base64 text); quality is lowered as far as
    needed, and ValueError raised if that is not enough.
    alt: description for screen readers; by default the clip's prompt and size.
    """
    small = _small(video)
    if small is not None:
        size = _shown_size(small.width, small.height, width)
        shown = _animated(small, size, alt or _words(video, small), max_mb)
        if shown is not None:
            return shown
    shown_width, shown_height, data, words = _encode(video, width, max_mb)
    text = alt or words
    label = html.escape(text, quote=True)
    source = base64.b64encode(data).decode("ascii")
    markup = (
        f'<video width="{shown_width}" height="{shown_height}" aria-label="{label}" '
        f'title="{label}" style="image-rendering: pixelated; max-width: 100%; height: auto" '
        f'controls loop muted autoplay playsinline src="data:video/mp4;base64,{source}">'
        f"{label}</video>"
    )
    return Embedded(markup, f"<video: {text}>")


def show_videos(
    videos: Sequence[Clip | str | Path],
    titles: Sequence[str] | None = None,
    width: int = 240,
    max_mb: float = 4,
) -> Embedded:
    """Several clips side by side, each under its title; `max_mb` is the limit of all together.

    Clips within SMALL share one animated PNG.
    """
    if not videos:
        raise ValueError("no videos to show")
    titles = _titles(titles, len(videos))
    small = [_small(video) for video in videos]
    if all(clip is not None for clip in small):
        words = [t or _words(v, c) for t, v, c in zip(titles, videos, small, strict=True)]
        sheet = clip_sheet(small, titles, width)
        shown = _animated(sheet, (sheet.width, sheet.height), "; ".join(words), max_mb)
        if shown is not None:
            return shown
    cells, words = [], []
    for video, title in zip(videos, titles, strict=True):
        shown = show_video(video, width, max_mb / len(videos), alt=title or None)
        caption = f"<figcaption>{html.escape(title)}</figcaption>" if title else ""
        style = f"margin: 0; max-width: {width}px"
        cells.append(f'<figure style="{style}">{caption}{shown.data}</figure>')
        words.append(shown.text)
    grid = '<div style="display: flex; flex-wrap: wrap; gap: 12px; align-items: flex-end">'
    return Embedded(grid + "".join(cells) + "</div>", " ".join(words))


def animated_png(clip: Clip, colours: int = 256) -> bytes:
    """The clip as an animated PNG file that plays over and over, with one palette for all frames.

    Frames that equal the one before only lengthen its time.
    """
    from PIL import Image

    palette, coded = _palette(clip.frames, colours)  # [colours, 3], [T, H, W]
    pictures = [Image.fromarray(frame) for frame in coded]
    for one in pictures:
        one.putpalette(palette.tobytes())
    packed = io.BytesIO()
    first, *rest = pictures
    first.save(packed, "PNG", save_all=True, append_images=rest, duration=1000 / clip.fps, loop=0)
    return packed.getvalue()


def _palette(frames: np.ndarray, colours: int) -> tuple[np.ndarray, np.ndarray]:
    """Colours [N, 3] and, for every pixel, the number of the nearest [T, H, W]; both uint8."""
    from PIL import Image
    from scipy.spatial import KDTree

    packed = frames.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    used, numbers = np.unique(packed, return_inverse=True)
    every = np.stack([used >> 16, used >> 8 & 255, used & 255], axis=1).astype(np.uint8)
    if len(every) <= colours:
        return every, numbers.reshape(packed.shape).astype(np.uint8)
    pixels = frames.reshape(-1, 3)
    some = pixels[:: max(1, len(pixels) // 30_000)]  # all of them would take seconds
    found = Image.fromarray(some[None]).quantize(
        colours - 2, Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE
    )
    palette = np.array([*found.getpalette()[: 3 * (colours - 2)], *(255,) * 3, *(0,) * 3], np.uint8)
    palette = palette.reshape(-1, 3)  # white and black are exact: the page is white
    nearest = KDTree(palette.astype(float)).query(every.astype(float))[1]
    return palette, nearest[numbers].reshape(packed.shape).astype(np.uint8)


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
    _at_least_one("width", width)
    _at_least_one("columns", columns)
    titles = _titles(titles, len(clips))
    fps = max(clip.fps for clip in clips)
    length = max(round(clip.num_frames * fps / clip.fps) for clip in clips)
    tiles = []
    for clip in clips:
        factor = max(1, width // clip.width)
        at = np.minimum(np.arange(length) * clip.fps / fps, clip.num_frames - 1).astype(int)
        tiles.append(clip.frames[at].repeat(factor, axis=1).repeat(factor, axis=2))
    across = max(tile.shape[2] for tile in tiles)
    columns = columns or max(1, min(len(clips), (PAGE + _GAP) // (across + _GAP)))
    bars = [_title_bar(title, across, lines=3) if title else None for title in titles]
    rows = []
    for start in range(0, len(tiles), columns):
        row = slice(start, start + columns)
        tall = max(tile.shape[1] for tile in tiles[row])
        over = max((bar.shape[0] for bar in bars[row] if bar is not None), default=0)
        sheet = np.full((length, over + tall, columns * (across + _GAP) - _GAP, 3), 255, np.uint8)
        for x, (tile, bar) in enumerate(zip(tiles[row], bars[row], strict=True)):
            left = x * (across + _GAP)
            sheet[:, over : over + tile.shape[1], left : left + tile.shape[2]] = tile
            if bar is not None:  # just above its clip
                sheet[:, over - len(bar) : over, left : left + across] = bar
        rows.append(sheet)
    return Clip(_join(rows, axis=1), fps)


def contact_sheet(
    clip: Clip, num: int = 8, columns: int = 4, scale: float | None = None
) -> np.ndarray:
    """`num` frames evenly spread from first to last, in rows -> uint8 [H, W, 3] on white.

    scale: of each frame; None enlarges toy clips by a whole number and reduces large ones.
    """
    _at_least_one("columns", columns)
    tiles = _tiles(clip, num, scale, columns)
    columns = min(columns, len(tiles))
    blank = np.full_like(tiles[0], 255)
    tiles = [*tiles, *[blank] * (-len(tiles) % columns)]
    rows = [_join(tiles[i : i + columns], axis=1) for i in range(0, len(tiles), columns)]
    return _join(rows, axis=0)


def film_strip(
    clips: Sequence[Clip],
    titles: Sequence[str] | None = None,
    num: int = 5,
    scale: float | None = None,
) -> np.ndarray:
    """One row of `num` frames per clip, its title above -> uint8 [H, W, 3] on white.

    scale: of each frame; None enlarges toy clips by a whole number and reduces large ones.
    """
    if not clips:
        raise ValueError("no clips to show")
    strips = [_join(_tiles(clip, num, scale, num), axis=1) for clip in clips]
    width = max(strip.shape[1] for strip in strips)
    rows = []
    for strip, title in zip(strips, _titles(titles, len(clips)), strict=True):
        filled = np.full((strip.shape[0], width, 3), 255, np.uint8)
        filled[:, : strip.shape[1]] = strip
        if title:
            rows.append(_title_bar(title, width))
        rows.append(filled)
    return _join(rows, axis=0)


def _small(video: Clip | str | Path) -> Clip | None:
    """The clip, if it is one for an animated PNG."""
    if not isinstance(video, Clip):
        info = probe_video(video)
        if not _within(info.num_frames, info.width, info.height):
            return None
        video = read_clip(video)
    return video if _within(video.num_frames, video.width, video.height) else None


def _within(num_frames: int | None, width: int, height: int) -> bool:
    return (num_frames or 0) <= SMALL[0] and width * height <= SMALL[1]


def _animated(clip: Clip, size: tuple[int, int], words: str, max_mb: float) -> Embedded | None:
    """An animated PNG, unless it would be too large."""
    data = animated_png(clip)
    if len(data) > min(_APNG_BYTES, max_mb * 2**20 * 3 / 4):
        return None
    label = html.escape(words, quote=True)
    markup = (
        f'<img width="{size[0]}" height="{size[1]}" alt="{label}" title="{label}" '
        'style="image-rendering: pixelated; max-width: 100%; height: auto" '
        f'src="data:image/png;base64,{base64.b64encode(data).decode("ascii")}">'
    )
    about = {"width": size[0], "height": size[1], "alt": words}
    return Embedded(markup, f"<video: {words}>", data, about)


def _words(video: Clip | str | Path, clip: Clip) -> str:
    if isinstance(video, Clip):
        return _describe(clip)
    return f"{Path(video).name}, {clip.num_frames} frames, {clip.width}x{clip.height}"


def _encode(video: Clip | str | Path, width: int, max_mb: float) -> tuple[int, int, bytes, str]:
    """(width and height to show, MP4 bytes, description) within the size limit."""
    limit = int(max_mb * 2**20 * 3 / 4)  # base64 writes 4 letters for 3 bytes
    words = ""
    if not isinstance(video, Clip):
        path, info = Path(video), probe_video(video)
        words = f"{path.name}, {info.num_frames} frames, {info.width}x{info.height}"
        ready = (info.codec, info.pix_fmt) == ("h264", "yuv420p") and path.suffix == ".mp4"
        if ready and path.stat().st_size <= limit:
            return *_shown_size(info.width, info.height, width), path.read_bytes(), words
        video = read_clip(path)
    words = words or _describe(video)
    size = _shown_size(video.width, video.height, width)
    clip = _fit(video, size)
    for crf in _QUALITIES:
        data = encode_clip(clip, crf)
        if len(data) <= limit:
            return *size, data, words
    raise ValueError(
        f"{words} takes {len(data) / 2**20:.1f} MB even at low quality and would not fit into "
        f"max_mb={max_mb:g}: show fewer frames, a smaller width, or raise max_mb"
    )


def _describe(clip: Clip) -> str:
    prompt = clip.meta.get("prompt")
    size = f"{clip.num_frames} frames, {clip.width}x{clip.height}, {clip.fps:g} fps"
    return f"{prompt} ({size})" if prompt else f"clip of {size}"


def _shown_size(width: int, height: int, wanted: int) -> tuple[int, int]:
    """Enlarge by whole numbers only, so that every pixel is equally large; reduce freely."""
    _at_least_one("width", wanted)
    if width <= wanted:
        factor = wanted // width
        return width * factor, height * factor
    return wanted, max(1, round(height * wanted / width))


def _at_least_one(name: str, number: int | None) -> None:
    if number is not None and number < 1:
        raise ValueError(f"{name} must be at least 1, not {number}")


def _fit(clip: Clip, size: tuple[int, int]) -> Clip:
    """Resize for embedding at even sides.

    Toy clips are doubled: H.264 stores colour at half the resolution, so doubled pixels keep each
    its own colour. The browser does the rest of the enlargement for free.
    """
    doubled = size[0] >= 2 * clip.width
    if doubled:
        target = (2 * clip.width, 2 * clip.height)
    else:
        target = tuple(side + side % 2 for side in size)
    if target == (clip.width, clip.height):
        return clip
    return Clip(_resize(clip.frames, *target), clip.fps, clip.meta)


def _resize(frames: np.ndarray, width: int, height: int) -> np.ndarray:
    """[T, H, W, 3] -> [T, height, width, 3]: crisp when enlarging, averaged when reducing."""
    import cv2

    how = cv2.INTER_NEAREST if width >= frames.shape[2] else cv2.INTER_AREA
    return np.stack([cv2.resize(frame, (width, height), interpolation=how) for frame in frames])


def _tiles(clip: Clip, num: int, scale: float | None, columns: int) -> list[np.ndarray]:
    if num < 1:
        raise ValueError(f"at least one frame has to be shown, not {num}")
    if scale is not None and not 0 < scale <= 100:
        raise ValueError(f"scale must lie in 0..100, not {scale:g}")
    at = np.unique(np.linspace(0, clip.num_frames - 1, num).round().astype(int))
    if scale is None:
        least, most = _TILE
        fits = (PAGE + _GAP) // min(columns, num) - _GAP  # pixels of the page for each tile
        if clip.width < least:
            scale = max(1, min(-(-least // clip.width), fits // clip.width))
        else:
            scale = min(1, most / clip.width)
    width, height = max(1, round(clip.width * scale)), max(1, round(clip.height * scale))
    return list(_resize(clip.frames[at], width, height))


def _join(pieces: Sequence[np.ndarray], axis: int) -> np.ndarray:
    """Concatenate images with white gaps in between."""
    spaced = []
    for piece in pieces:
        shape = list(piece.shape)
        shape[axis] = _GAP
        spaced += [piece, np.full(shape, 255, np.uint8)]
    return np.concatenate(spaced[:-1], axis=axis)


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


def _titles(titles: Sequence[str] | None, count: int) -> list[str]:
    if titles is None:
        return [""] * count
    if len(titles) != count:
        raise ValueError(f"{len(titles)} titles for {count} clips")
    return [str(title) for title in titles]
