"""Look at clips: embedded video in a notebook, contact sheets and film strips as images."""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vidgen_lab.video.clip import Clip
from vidgen_lab.video.reader import probe_video, read_clip
from vidgen_lab.video.writer import encode_clip

_QUALITIES = (24, 28, 33, 38)  # x264 crf, tried in turn until the size fits
_TILE = (160, 320)  # a tile of a sheet is made at least, at most this wide
_GAP, _TITLE_HEIGHT, _FONT_SIZE = 4, 22, 14  # pixels


@dataclass(frozen=True)
class Embedded:
    """HTML for a notebook, with the video inside; plain text wherever HTML is not shown.

    data: the HTML, also fit for an ipywidgets.HTML. text: what it shows, in words.
    """

    data: str
    text: str

    def _repr_html_(self) -> str:
        return self.data

    def __repr__(self) -> str:
        return self.text


def show_video(
    video: Clip | str | Path, width: int = 480, max_mb: float = 4, alt: str | None = None
) -> Embedded:
    """Embed a clip or file: H.264, looping, muted, with controls; leave it last in a cell.

    width: of the player, pixels. Smaller pictures are enlarged by a whole number with crisp
    pixels; larger ones are reduced. A browser-ready file is embedded unchanged if it fits.
    max_mb: limit of the embedded size (2^20 bytes of base64 text); quality is lowered as far as
    needed, and ValueError raised if that is not enough.
    alt: description for screen readers; by default the clip's prompt and size.
    """
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
    """Several clips side by side, each under its title; `max_mb` is the limit of all together."""
    if not videos:
        raise ValueError("no videos to show")
    titles = _titles(titles, len(videos))
    cells, words = [], []
    for video, title in zip(videos, titles, strict=True):
        shown = show_video(video, width, max_mb / len(videos), alt=title or None)
        caption = f"<figcaption>{html.escape(title)}</figcaption>" if title else ""
        style = f"margin: 0; max-width: {width}px"
        cells.append(f'<figure style="{style}">{caption}{shown.data}</figure>')
        words.append(shown.text)
    grid = '<div style="display: flex; flex-wrap: wrap; gap: 12px; align-items: flex-end">'
    return Embedded(grid + "".join(cells) + "</div>", " ".join(words))


def contact_sheet(
    clip: Clip, num: int = 8, columns: int = 4, scale: float | None = None
) -> np.ndarray:
    """`num` frames evenly spread from first to last, in rows -> uint8 [H, W, 3] on white.

    scale: of each frame; None enlarges toy clips by a whole number and reduces large ones.
    """
    tiles = _tiles(clip, num, scale)
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
    """One row of `num` frames per clip, its title above -> uint8 [H, W, 3] on white."""
    if not clips:
        raise ValueError("no clips to show")
    strips = [_join(_tiles(clip, num, scale), axis=1) for clip in clips]
    width = max(strip.shape[1] for strip in strips)
    rows = []
    for strip, title in zip(strips, _titles(titles, len(clips)), strict=True):
        filled = np.full((strip.shape[0], width, 3), 255, np.uint8)
        filled[:, : strip.shape[1]] = strip
        if title:
            rows.append(_title_bar(title, width))
        rows.append(filled)
    return _join(rows, axis=0)


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
    if width <= wanted:
        factor = wanted // width
        return width * factor, height * factor
    return wanted, max(1, round(height * wanted / width))


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


def _tiles(clip: Clip, num: int, scale: float | None) -> list[np.ndarray]:
    if num < 1:
        raise ValueError(f"at least one frame has to be shown, not {num}")
    at = np.unique(np.linspace(0, clip.num_frames - 1, num).round().astype(int))
    if scale is None:
        least, most = _TILE
        scale = -(-least // clip.width) if clip.width < least else min(1, most / clip.width)
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


def _title_bar(title: str, width: int) -> np.ndarray:
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    # matplotlib carries a font for most scripts; Pillow's own lacks even accents
    typeface = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    image = Image.new("RGB", (width, _TITLE_HEIGHT), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.truetype(typeface, _FONT_SIZE)
    shown = title
    while shown and draw.textlength(shown, font) > width:
        shown = shown.rstrip("…")[:-1] + "…" if len(shown) > 1 else ""
    draw.text((0, _TITLE_HEIGHT // 2), shown, fill="black", font=font, anchor="lm")
    return np.asarray(image)


def _titles(titles: Sequence[str] | None, count: int) -> list[str]:
    if titles is None:
        return [""] * count
    if len(titles) != count:
        raise ValueError(f"{len(titles)} titles for {count} clips")
    return [str(title) for title in titles]
