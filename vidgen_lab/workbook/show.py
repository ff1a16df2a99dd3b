"""Still pictures in a notebook: figures in one look, photos, drawings, each with its words.

Figures carry their own paper-coloured background, so they read the same in a light and a dark
notebook theme, and each is handed over with a description for people who cannot see it.
"""

import base64
import html
import io
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.style
from IPython.display import display
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from PIL import Image

from vidgen_lab.video.clip import Clip
from vidgen_lab.video.sheets import PAGE, film_strip

STYLE = "vidgen_lab.workbook.figure"  # figure.mplstyle, in this folder
CYCLE = ("#2f6fb0", "#e08a1e", "#2e9e6b", "#8a5fbf", "#cc4b4b", "#8d99a3")
BLUE, ORANGE, GREEN, PURPLE, RED, GREY = CYCLE
INK = "#22303c"
SVG = "image/svg+xml"


@dataclass(frozen=True)
class Picture:
    """An encoded picture for a notebook, and the words that stand for it.

    Attributes:
        data: the bytes of a PNG, JPEG or SVG file.
        width: as shown, in pixels.
        alt: what it shows, not blank. IPython's own Image has none in the version of Colab.
    """

    data: bytes
    width: int
    alt: str
    mime: str = "image/png"

    def __post_init__(self) -> None:
        if not self.alt.strip():
            raise ValueError("every figure needs a sentence of alt text that says what it shows")

    def __repr__(self) -> str:
        return f"<picture: {self.alt}>"

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        if self.mime == SVG:  # as SVG, JupyterLab and GitHub keep it from those who ran nothing yet
            return {"text/html": self.html, "text/plain": repr(self)}, {}
        about = {"width": self.width, "alt": self.alt}
        return {self.mime: self._encoded, "text/plain": repr(self)}, {self.mime: about}

    @property
    def html(self) -> str:
        """The picture as an element of a page, such as an ipywidgets.HTML."""
        source = f'src="data:{self.mime};base64,{self._encoded}" style="max-width: 100%"'
        return f'<img {source} width="{self.width}" alt="{html.escape(self.alt)}">'

    @property
    def _encoded(self) -> str:
        return base64.b64encode(self.data).decode("ascii")


class Drawn:
    """What `figure` hands out: `figure` and `axes` to draw on, and afterwards the `picture`."""

    picture: Picture | None = None

    def __init__(self, height: float, rows: int, columns: int, **options: Any) -> None:
        self.figure = Figure(figsize=(PAGE / 100, height), layout="constrained")
        self.axes = self.figure.subplots(rows, columns, **options)

    def finish(self, alt: str, words: Iterable[str] = ()) -> Picture:
        """Make the picture, its words with numbers after the sentence."""
        listed = "; ".join(words)
        said = alt + (f" {listed}." if alt.endswith(".") else f": {listed}.") if listed else alt
        self.picture = _encode(self.figure, said if alt.strip() else "")
        return self.picture


@contextmanager
def figure(
    alt: str,
    height: float = 2.4,
    rows: int = 1,
    columns: int = 1,
    show: bool = True,
    **options: Any,
) -> Iterator[Drawn]:
    """Draw on a full-width figure in the workbook's style; it is shown where the block ends.

    Args:
        alt: what it shows, in words.
        height: in inches, of which a page is 8.6 wide.
        rows: of axes.
        columns: of axes.
        show: False only makes the `picture`.
        options: of `Figure.subplots` (width_ratios, sharey, ...).
    """
    with matplotlib.style.context(STYLE):
        drawn = Drawn(height, rows, columns, **options)
        yield drawn
        if drawn.picture is None:
            drawn.finish(alt)
    if show:
        display(drawn.picture)


def plain_log(side: Any, dense: float) -> None:
    """Few and plain numbers on a logarithmic axis: 0.2 and not 2×10⁻¹.

    Args:
        side: matplotlib's `xaxis` or `yaxis`.
        dense: where it spans so large a factor, powers of ten alone, no twos and fives between.
    """
    low, high = side.get_view_interval()
    side.set_major_locator(LogLocator(subs=(1, 2, 5) if high < dense * low else (1,)))
    side.set_major_formatter("{x:g}")
    side.set_minor_formatter(NullFormatter())


def _encode(figure: Any, alt: str) -> Picture:
    """A small PNG: a chart has few colours (with less, small marks lose theirs), one with a colour
    scale needs them all."""
    raw = io.BytesIO()
    figure.savefig(raw, format="png")
    scale = any(axis.images for axis in figure.axes)
    image = Image.open(raw).convert("RGB")
    image = image.quantize(256) if scale else image.quantize(128, dither=0)
    packed = io.BytesIO()
    image.save(packed, format="png", optimize=True)
    return Picture(packed.getvalue(), image.width, alt)


def photo(pixels: Any, alt: str, quality: int = 65) -> Picture:
    """Show a uint8 image [H, W, 3] (film strip, contact sheet) as a small JPEG with alt text.

    Wider ones than a page are reduced to its width. `quality` is Pillow's, 0 to 95.
    """
    image = Image.fromarray(pixels)
    if image.width > PAGE:
        image = image.resize((PAGE, round(image.height * PAGE / image.width)), Image.LANCZOS)
    packed = io.BytesIO()
    image.save(packed, format="jpeg", quality=quality, optimize=True, progressive=True)
    return Picture(packed.getvalue(), image.width, alt, "image/jpeg")


def strips(clips: Mapping[str, Clip], alt: str, num: int = 4) -> Picture:
    """One row of `num` frames per clip under its title, the key in `clips`."""
    return photo(film_strip(list(clips.values()), list(clips), num), alt)


def drawing(name: str) -> Picture:
    """A drawing of the folder drawings/, as SVG; its title is its alt text.

    Raises:
        ValueError: there is no such drawing; names those there are.
    """
    folder = Path(__file__).with_name("drawings")
    path = folder / f"{name}.svg"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.svg")))
        raise ValueError(f"there is no drawing {name!r}; drawings: {known}")
    root = ET.parse(path).getroot()
    title = root.find("{http://www.w3.org/2000/svg}title")
    return Picture(path.read_bytes(), int(root.get("width")), title.text, SVG)
