"""One look for every figure of the workbook: palette, fixed sizes, alt text.

Figures carry their own paper-coloured background, so they read the same in a light and a dark
notebook theme, and each is handed over with a description for people who cannot see it.
"""

import base64
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

from vidgen_lab.video.clip import Clip
from vidgen_lab.video.show import film_strip

INK = "#22303c"
PAPER = "#fbfaf6"
GRID = "#dcdad2"
BLUE, ORANGE, GREEN, PURPLE, RED, GREY = (
    "#2f6fb0",
    "#e08a1e",
    "#2e9e6b",
    "#8a5fbf",
    "#cc4b4b",
    "#8d99a3",
)
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, RED, GREY)
TINTS = {
    BLUE: "#dce9f6",
    ORANGE: "#fbe9d0",
    GREEN: "#d8f0e4",
    PURPLE: "#e9e0f5",
    RED: "#f8dedd",
    GREY: "#e9ecee",
}

WIDTH_INCHES = 8.6  # every full-width figure; DPI x WIDTH_INCHES pixels wide
DPI = 100


@contextmanager
def chart_style() -> Iterator[None]:
    """Matplotlib settings of the workbook, for the length of a `with` block only."""
    import matplotlib as mpl
    from cycler import cycler

    settings: dict[str, Any] = {
        "figure.facecolor": PAPER,
        "axes.facecolor": PAPER,
        "savefig.facecolor": PAPER,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": GREY,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.grid": True,
        "grid.color": GRID,
        "grid.linewidth": 0.7,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 10.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelsize": 9.5,
        "xtick.labelsize": 8.5,
        "ytick.labelsize": 8.5,
        "legend.fontsize": 8.5,
        "legend.frameon": False,
        "font.size": 9.5,
        "font.family": "DejaVu Sans",
        "lines.linewidth": 1.8,
        "lines.markersize": 5,
        "axes.prop_cycle": cycler(color=CYCLE),
    }
    with mpl.rc_context(settings):
        yield


def chart(draw: Callable[..., tuple[Any, str]]) -> Callable[..., Any]:
    """Make a figure function: `draw` returns (figure, alt text), its caller gets the picture."""

    @wraps(draw)
    def shown(*args: Any, **kwargs: Any) -> Any:
        with chart_style():
            return picture(*draw(*args, **kwargs))

    return shown


def new_figure(height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Any, Any]:
    """A full-width figure that no pyplot state knows about: (figure, axes).

    height is in inches; options go to `Figure.subplots` (width_ratios, sharey, ...).
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_INCHES, height), dpi=DPI, layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


@dataclass(frozen=True)
class Picture:
    """An encoded picture for a notebook, and the words that stand for it.

    data: the bytes of a PNG or JPEG file. width: in pixels. alt: what it shows. IPython's own Image
    takes no such words in the version that Colab has.
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
        encoded = base64.b64encode(self.data).decode("ascii")
        about = {"width": self.width, "alt": self.alt}
        return {self.mime: encoded, "text/plain": repr(self)}, {self.mime: about}


def picture(figure: Any, alt: str, colours: int | None = 32) -> Picture:
    """Turn a matplotlib figure into a small PNG with alt text for the notebook.

    colours limits the palette, which keeps a chart near 20 kB; None keeps full colour (photos).
    Raises ValueError for an empty alt text: a figure nobody can hear described is unfinished.
    """
    from PIL import Image

    raw = io.BytesIO()
    figure.savefig(raw, format="png")
    image = Image.open(raw).convert("RGB")
    if colours is not None:
        image = image.quantize(colours, dither=Image.Dither.NONE)
    packed = io.BytesIO()
    image.save(packed, format="png", optimize=True)
    return Picture(packed.getvalue(), image.width, alt)


def photo(pixels: Any, alt: str, quality: int = 65) -> Picture:
    """Show a uint8 image [H, W, 3] (film strip, contact sheet) as a small JPEG with alt text.

    Wider ones than a figure are reduced to its width.
    """
    from PIL import Image

    image, limit = Image.fromarray(pixels), round(WIDTH_INCHES * DPI)
    if image.width > limit:
        image = image.resize((limit, round(image.height * limit / image.width)), Image.LANCZOS)
    packed = io.BytesIO()
    image.save(packed, format="jpeg", quality=quality, optimize=True, progressive=True)
    return Picture(packed.getvalue(), image.width, alt, "image/jpeg")


def strips(clips: Mapping[str, Clip], alt: str, num: int = 4) -> Picture:
    """One row of `num` frames per clip under its title."""
    return photo(film_strip(list(clips.values()), list(clips), num), alt)
