"""HDR pictures for screens and models that know BT.709 only.

PQ and HLG give light in nits, far brighter than a screen's white. What lies below half of white is
kept as it is, what lies above is bent into the rest, and the wide colours of BT.2020 are brought
into BT.709. All of it is one table from colour to colour, computed here and applied by ffmpeg's
`lut3d`, which every build has. (ITU-R BT.2100 for the curves, BT.2087 for the matrix.)
"""

from pathlib import Path

import numpy as np

_WHITE, _PEAK, _KNEE = 203.0, 1000.0, 0.5  # nits of white and of the brightest; share of white
_SIZE = 33  # points of the table along each colour
_TO_709 = np.array([
    [1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187],
])  # fmt: skip


def tone_mapped(rgb: np.ndarray, curve: str) -> np.ndarray:
    """BT.2020 R'G'B' of PQ or HLG, floats [..., 3] in 0..1 -> BT.709 R'G'B' in 0..1."""
    light = (_from_pq(rgb) if curve == "PQ" else _from_hlg(rgb)) / _WHITE
    peak = light.max(-1, keepdims=True)  # bent together, so that no hue shifts
    light = light * _bent(peak) / np.maximum(peak, 1e-9)
    return np.clip(light @ _TO_709.T, 0, 1) ** (1 / 2.4)


def _from_pq(signal: np.ndarray) -> np.ndarray:
    """Nits."""
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    root = np.clip(signal, 0, 1) ** (1 / m2)
    return 10_000 * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)


def _from_hlg(signal: np.ndarray) -> np.ndarray:
    """Nits, on a screen of 1000."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    brightness = scene @ np.array([0.2627, 0.6780, 0.0593])
    return _PEAK * scene * np.maximum(brightness, 1e-9)[..., None] ** 0.2


def _bent(light: np.ndarray) -> np.ndarray:
    """Shares of white: as they are up to the knee, then ever flatter up to 1 at the peak."""
    room = 1 - _KNEE
    over = np.maximum(light - _KNEE, 0) / room
    most = (_PEAK / _WHITE - _KNEE) / room
    bent = np.minimum(over * (1 + over / most**2) / (1 + over), 1)
    return np.where(light <= _KNEE, light, _KNEE + room * bent)


def write_table(curve: str, path: Path) -> Path:
    """The table as a .cube file, red running fastest."""
    steps = np.linspace(0, 1, _SIZE)
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")
    table = tone_mapped(np.stack([red, green, blue], -1), curve).reshape(-1, 3)
    lines = [f"LUT_3D_SIZE {_SIZE}", *(f"{r:.6f} {g:.6f} {b:.6f}" for r, g, b in table)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def tone_filter(table: Path) -> str:
    """ffmpeg filters from HDR pictures to BT.709 through the table."""
    name = str(table).replace("\\", "/")
    for mark in "\\':,;[]":
        name = name.replace(mark, f"\\{mark}")
    return (
        "scale=in_color_matrix=bt2020:out_range=full,format=gbrp16le,"
        f"lut3d=file='{name}',scale=out_color_matrix=bt709:out_range=tv,format=yuv420p,"
        "setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709:range=tv"
    )
