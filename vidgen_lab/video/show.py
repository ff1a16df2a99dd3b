"""Look at clips as they move, in a notebook.

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
from vidgen_lab.video.reader import VideoInfo, probe_video, read_clip
from vidgen_lab.video.sheets import at_least_one, clip_sheet, resize, titles_for
from vidgen_lab.video.writer import encode_clip

SMALL = (50, 40_000)  # at most so many frames of so many pixels are shown as an animated PNG
_APNG_BYTES = 1_000_000  # noise does not compress: beyond this H.264 is the better choice
_QUALITIES = (24, 28, 33, 38)  # x264 crf, tried in turn until the size fits


@dataclass(frozen=True)
class Embedded:
    """A moving picture for a notebook; leave it last in a cell. Plain text where nothing moves.

    Attributes:
        data: HTML that shows it, also fit for an ipywidgets.HTML.
        text: what it shows, in words.
        image: the animated PNG, if it is one.
        metadata: how large to show the PNG, in pixels, and its description.
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

    Args:
        video: a clip, or the path of a file.
        width: as shown, in pixels. Smaller pictures are enlarged by a whole number; larger ones are
            reduced.
        max_mb: limit of the embedded size (2^20 bytes of base64 text); quality is lowered as far as
            needed.
        alt: description for screen readers; by default the clip's prompt and size.

    Raises:
        ValueError: too large for max_mb even at the lowest quality.
    """
    facts = _facts(video)
    size, text = _shown_size(facts.width, facts.height, width), alt or _describe(video, facts)
    if _is_small(facts) and (shown := _animated(_clip(video), size, text, max_mb)):
        return shown
    label = html.escape(text, quote=True)
    source = base64.b64encode(_encode(video, facts, size, max_mb)).decode("ascii")
    markup = (
        f'<video width="{size[0]}" height="{size[1]}" aria-label="{label}" '
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
    columns: int | None = None,
) -> Embedded:
    """Several clips side by side under their titles; `width` is of each, `max_mb` of all together.

    Clips within SMALL share one animated PNG, `columns` of them in a row, by default all that fit.
    """
    if not videos:
        raise ValueError("no videos to show")
    titles = titles_for(titles, len(videos))
    facts = [_facts(video) for video in videos]
    if all(map(_is_small, facts)):
        words = [t or _describe(v, f) for t, v, f in zip(titles, videos, facts, strict=True)]
        sheet = clip_sheet([_clip(video) for video in videos], titles, width, columns)
        shown = _animated(sheet, (sheet.width, sheet.height), "; ".join(words), max_mb)
        if shown is not None:
            return shown
    share = max_mb / len(videos)
    shown = [show_video(v, width, share, t or None) for v, t in zip(videos, titles, strict=True)]
    cells = (
        f'<figure style="margin: 0; max-width: {width}px">'
        f"<figcaption>{html.escape(title)}</figcaption>{one.data}</figure>"
        for title, one in zip(titles, shown, strict=True)
    )
    grid = '<div style="display: flex; flex-wrap: wrap; gap: 12px; align-items: flex-end">'
    return Embedded(f"{grid}{''.join(cells)}</div>", " ".join(one.text for one in shown))


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


def _clip(video: Clip | str | Path) -> Clip:
    return video if isinstance(video, Clip) else read_clip(video)


def _facts(video: Clip | str | Path) -> Clip | VideoInfo:
    return video if isinstance(video, Clip) else probe_video(video)


def _is_small(facts: Clip | VideoInfo) -> bool:
    """Whether it is one for an animated PNG; older versions of Pillow write 65 seconds at most."""
    size = facts.width * facts.height
    return facts.num_frames <= SMALL[0] and size <= SMALL[1] and facts.duration < 65


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


def _encode(
    video: Clip | str | Path, facts: Clip | VideoInfo, size: tuple[int, int], max_mb: float
) -> bytes:
    """An MP4 file within the size limit."""
    limit = int(max_mb * 2**20 * 3 / 4)  # base64 writes 4 letters for 3 bytes
    if isinstance(facts, VideoInfo) and (facts.codec, facts.pix_fmt) == ("h264", "yuv420p"):
        path = Path(video)
        if path.suffix == ".mp4" and path.stat().st_size <= limit:
            return path.read_bytes()
    clip = _clip(video)
    # Toy clips are doubled: H.264 stores colour at half the resolution, so doubled pixels keep each
    # its own. The browser does the rest of the enlargement for free. Odd sides become even.
    doubled = size[0] >= 2 * clip.width
    fit = (2 * clip.width, 2 * clip.height) if doubled else tuple(s + s % 2 for s in size)
    if fit != (clip.width, clip.height):
        clip = Clip(resize(clip.frames, *fit), clip.fps, clip.meta)
    for crf in _QUALITIES:
        data = encode_clip(clip, crf)
        if len(data) <= limit:
            return data
    raise ValueError(
        f"{_describe(video, facts)} takes {len(data) / 2**20:.1f} MB even at low quality and would "
        f"not fit into max_mb={max_mb:g}: show fewer frames, a smaller width, or raise max_mb"
    )


def _describe(video: Clip | str | Path, facts: Clip | VideoInfo) -> str:
    size = f"{facts.num_frames} frames, {facts.width}x{facts.height}"
    if not isinstance(video, Clip):
        return f"{Path(video).name}, {size}"
    size, prompt = f"{size}, {video.fps:g} fps", video.meta.get("prompt")
    return f"{prompt} ({size})" if prompt else f"clip of {size}"


def _shown_size(width: int, height: int, wanted: int) -> tuple[int, int]:
    """Enlarge by whole numbers only, so that every pixel is equally large; reduce freely."""
    at_least_one("width", wanted)
    if width <= wanted:
        factor = wanted // width
        return width * factor, height * factor
    return wanted, max(1, round(height * wanted / width))
