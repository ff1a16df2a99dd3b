"""Is what a chapter produced worth anything? Exit code 0 says only that no cell raised.

A notebook names its artefacts in its own metadata, as globs relative to its output folder::

    "vidgen_lab": {"artefacts": ["first_video.mp4", "metrics/*.csv"]}

Each glob must match at least one file, and each file must hold something: a video that decodes and
is not a flat colour, a table without NaN, and so on.
"""

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path


def declared_artefacts(notebook: dict) -> list[str]:
    """Return the globs that a notebook declares; ValueError when it declares none."""
    ours = notebook.get("metadata", {}).get("vidgen_lab")
    globs = ours.get("artefacts") if isinstance(ours, dict) else None
    if not isinstance(globs, list) or not globs or not all(isinstance(g, str) for g in globs):
        raise ValueError(
            "the notebook declares no artefacts; add to its metadata: "
            '"vidgen_lab": {"artefacts": ["first_video.mp4"]}'
        )
    if outside := [g for g in globs if not g or Path(g).is_absolute()]:
        raise ValueError(f"an artefact is named relative to the output folder, not {outside[0]!r}")
    return list(globs)


def check_artefacts(folder: Path, globs: Iterable[str]) -> tuple[list[Path], list[str]]:
    """The files that match, and what is wrong: globs without a file, degenerate files."""
    files: list[Path] = []
    faults: list[str] = []
    for glob in globs:
        found = sorted(p for p in folder.glob(glob) if p.is_file())
        if not found:
            faults.append(f"{glob}: no such file")
        files += [p for p in found if p not in files]
    for path in files:
        if fault := artefact_fault(path):
            faults.append(f"{path.relative_to(folder)}: {fault}")
    return files, faults


def artefact_fault(path: Path) -> str | None:
    """Return what is wrong with a file, or None. Kinds: mp4, png, csv, json, others."""
    if path.stat().st_size == 0:
        return "empty file"
    check = _CHECKS.get(path.suffix.lower())
    try:
        return check(path) if check else None
    except Exception as error:  # whatever a decoder raises, the file is not what it says it is
        return f"unreadable ({type(error).__name__}: {error})"


def _video_fault(path: Path) -> str | None:
    from vidgen_lab.video.reader import read_clip

    clip = read_clip(path)
    if clip.frames.min() == clip.frames.max():
        return f"constant pixels ({clip.num_frames} frames)"
    recipe = path.with_suffix(".json")
    if not recipe.is_file():
        return None
    promised = json.loads(recipe.read_text(encoding="utf-8"))
    for name in ("num_frames", "width", "height", "fps"):
        got, want = getattr(clip, name), promised.get(name)
        if isinstance(want, (int, float)) and not math.isclose(got, want, rel_tol=1e-3):
            return f"{name} is {got:g}, its recipe says {want:g}"
    return None


def _image_fault(path: Path) -> str | None:
    from PIL import Image

    with Image.open(path) as image:
        extrema = image.convert("RGB").getextrema()
    return "constant pixels" if all(low == high for low, high in extrema) else None


def _table_fault(path: Path) -> str | None:
    import pandas

    table = pandas.read_csv(path)
    if table.empty:
        return "no rows"
    numbers = table.select_dtypes("number")
    bad = [c for c in numbers if not numbers[c].map(math.isfinite).all()]
    return f"NaN or infinity in column {', '.join(bad)}" if bad else None


def _json_fault(path: Path) -> str | None:
    constants: list[str] = []
    json.loads(path.read_text(encoding="utf-8"), parse_constant=constants.append)
    return f"holds {constants[0]}" if constants else None


_CHECKS: dict[str, Callable[[Path], str | None]] = {
    ".mp4": _video_fault,
    ".png": _image_fault,
    ".csv": _table_fault,
    ".json": _json_fault,
}
