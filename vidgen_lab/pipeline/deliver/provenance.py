"""Whose a clip is, and the clip made anew.

The manifest of a data set can be published where the videos cannot: whoever has the sources makes
the very same clips of it.
"""

from collections.abc import Iterable
from pathlib import Path

from vidgen_lab.files import file_sha256
from vidgen_lab.pipeline.deliver.cut import MediaSettings, OutputError, cut_clip
from vidgen_lab.pipeline.manifest import Row


def without_licence(rows: Iterable[Row]) -> list[str]:
    """Sources of kept clips for which nobody wrote down a licence, sorted."""
    final = {row.source: row for row in rows if row.status == "kept"}
    return sorted(name for name, row in final.items() if not row.rights.get("licence"))


def rebuild_clip(
    row: Row, folder: str | Path, out: str | Path, settings: MediaSettings | None = None
) -> Path:
    """Make the clip of a manifest row again from the folder of the sources.

    settings: those of the run, if not the defaults. Raises FileNotFoundError, or OutputError when
    the source is another file than then, or the result another clip (another encoder, say).
    """
    source, out = Path(folder) / row.source, Path(out)
    if file_sha256(source) != row.sha256:
        raise OutputError(f"{row.source} is not the file that the manifest was made from")
    crop = row.info.get("crop")
    cut_clip(source, out, row.frames, settings or MediaSettings(), tuple(crop) if crop else None)
    if file_sha256(out) != row.info["clip"]["sha256"]:
        raise OutputError(f"{out.name} differs from the published clip; compare {row.versions}")
    return out
