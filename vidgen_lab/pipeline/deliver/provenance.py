"""Where a clip comes from and what was done to it: a log that cannot be changed unnoticed.

The rows of the manifest already say everything; chained by hashes they also prove that none was
altered, taken out or slipped in. And the manifest of a data set can be published where the videos
cannot: whoever has the sources makes the very same clips of it.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vidgen_lab.files import file_sha256, write_files
from vidgen_lab.pipeline.deliver.cut import MediaSettings, OutputError, cut_clip
from vidgen_lab.pipeline.manifest import Row, sort_rows
from vidgen_lab.pipeline.read.sources import find_videos


@dataclass(frozen=True)
class Link:
    """One step of a clip's life. digest: sha256 of the step and of the digest before it."""

    stage: str
    what: str
    digest: str


def history(rows: Iterable[Row], clip_id: str) -> list[Link]:
    """The chained log of one clip, from the file it was cut from to its last stage.

    Raises ValueError when the rows know no such clip.
    """
    source = clip_id.partition("-")[0]
    life = [row for row in sort_rows(rows) if row.clip_id in (source, clip_id)]
    if not any(row.clip_id == clip_id for row in life):
        raise ValueError(f"no clip {clip_id} in these rows")
    names = {row.source for row in life if row.clip_id == clip_id}
    links, digest = [], ""
    for row in life:
        if row.source in names:
            digest = _digest(digest, row)
            links.append(Link(row.stage, _words(row), digest))
    return links


def check_history(rows: Sequence[Row], clip_id: str, last_digest: str) -> None:
    """Raises ValueError unless the rows still tell the story that ended in `last_digest`."""
    found = history(rows, clip_id)[-1].digest
    if found != last_digest:
        raise ValueError(f"the rows of {clip_id} are not those that were signed: {found[:12]}…")


def _digest(before: str, row: Row) -> str:
    return hashlib.sha256(f"{before}\n{row.to_json()}".encode()).hexdigest()


def _words(row: Row) -> str:
    if row.status != "kept":
        return f"{row.status}: {row.reason}"
    match row.stage:
        case "read":
            licence = row.rights.get("licence") or "not stated"
            return f"{row.source}, sha256 {row.sha256[:12]}…, licence {licence}"
        case "scenes":
            (first, end), (start, stop) = row.frames, row.span
            return f"frames {first} to {end}, {start:.2f} to {stop:.2f} s"
        case "quality":
            return "passed all gates"
        case "duplicates":
            return f"group of {row.info['group_size']}"
        case "balance":
            return f"concept {row.info['concept']}, weight {row.info['weight']:.2f}"
        case "export":
            clip = row.info["clip"]
            tones = f", tone-mapped from {clip['tone_mapped']}" if "tone_mapped" in clip else ""
            return f"{clip['file']}, sha256 {clip['sha256'][:12]}…{tones}"
        case "annotate":
            return row.info["caption"]
        case _:
            return f"in {row.info['split']}"


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
    cut_clip(
        source, out, row.frames, settings or MediaSettings(), crop=tuple(crop) if crop else None
    )
    if file_sha256(out) != row.info["clip"]["sha256"]:
        raise OutputError(f"{out.name} differs from the published clip; compare {row.versions}")
    return out


def write_checksums(folder: str | Path, path: str | Path) -> Path:
    """List the videos of a folder for a hand-over: sha256 and name, as `sha256sum --check` reads
    it. Raises what `find_videos` raises."""
    lines = []
    for source in find_videos(folder):
        name = source.name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
        mark = "\\" if name != source.name else ""  # says that the name is written in another way
        lines.append(f"{mark}{file_sha256(source.path)}  {name}\n")
    write_files({Path(path): "".join(lines).encode("utf-8", "surrogateescape")})
    return Path(path)


def check_checksums(folder: str | Path, path: str | Path) -> dict[str, str]:
    """Names that differ from a list of `write_checksums`: "missing", "changed" or "not listed"."""
    plain, listed = {"n": "\n", "r": "\r", "\\": "\\"}, {}
    text = Path(path).read_bytes().decode("utf-8", "surrogateescape")
    for line in filter(None, text.split("\n")):
        digest, _, name = line.partition("  ")
        if digest.startswith("\\"):
            name = re.sub(r"\\(.)", lambda found: plain[found[1]], name)
        listed[name] = digest.lstrip("\\")
    here = {source.name: file_sha256(source.path) for source in find_videos(folder)}
    wrong = {name: "missing" for name in listed.keys() - here.keys()}
    wrong |= {name: "not listed" for name in here.keys() - listed.keys()}
    wrong |= {n: "changed" for n in here.keys() & listed.keys() if here[n] != listed[n]}
    return dict(sorted(wrong.items()))
