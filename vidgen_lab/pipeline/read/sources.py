"""Which files of a folder are videos, and what is known about their rights."""

import csv
import hashlib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = frozenset({
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg",
    ".wmv", ".flv", ".3gp", ".ogv", ".gif",
})  # fmt: skip
RIGHTS_FILE = "rights.csv"
# How the brands of pictures and sound in MP4's container begin: HEIC and AVIF, M4A, Canon's raw.
_NO_VIDEO = (b"hei", b"hev", b"mif", b"msf", b"avi", b"M4A", b"M4B", b"M4P", b"crx")
_RIGHTS = ("licence", "url", "consent")
_MAGIC = (
    (0, b"\x1aE\xdf\xa3"), (8, b"AVI "), (0, b"FLV\x01"), (0, b"\x00\x00\x01\xba"),
    (0, b"0&\xb2u\x8ef\xcf\x11"),
)  # fmt: skip


@dataclass(frozen=True)
class Source:
    """A file to look at; its name is its path below the folder, with forward slashes."""

    path: Path
    name: str
    wrong_suffix: bool = False


def find_videos(folder: str | Path) -> list[Source]:
    """All files that call themselves a video or begin like one, sorted by name.

    Hidden files and links to folders are left out; links that lead nowhere are not.

    Raises:
        FileNotFoundError: there is no such folder.
        NotADirectoryError: it is a file.
        ValueError: there is no video at all.
    """
    folder = Path(folder)
    if not folder.exists():
        raise FileNotFoundError(f"no folder {folder}; give the folder that holds the videos")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; give the folder that holds the videos")
    found = []
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        lost = path.is_symlink() and not path.exists()  # will be an error, not a gap
        if (path.is_file() or lost) and not any(part.startswith(".") for part in parts):
            named = path.suffix.lower() in SUFFIXES
            if named or looks_like_video(path):
                found.append(Source(path, "/".join(parts), wrong_suffix=not named))
    if not found:
        raise ValueError(f"no video in {folder}: looked for {' '.join(sorted(SUFFIXES))}")
    return sorted(found, key=lambda source: source.name)


def looks_like_video(path: Path) -> bool:
    """Whether the first bytes are those of a video container, whatever the name says."""
    try:
        with path.open("rb") as file:
            head = file.read(189)
    except OSError:
        return False
    packets = len(head) == 189 and head[0] == head[188] == 0x47  # MPEG-TS
    boxes = head[4:8] == b"ftyp" and not head[8:].startswith(_NO_VIDEO)
    return packets or boxes or any(head[at : at + len(mark)] == mark for at, mark in _MAGIC)


def in_shard(source: Source, shard: tuple[int, int]) -> bool:
    """Whether shard (i, n) has to do with this file; adding files moves none to another shard."""
    index, count = shard
    digest = hashlib.sha256(source.name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") % count == index


def read_rights(folder: str | Path) -> dict[str, dict[str, str]]:
    """File name -> licence, url, consent, from `rights.csv` in the folder; empty without it.

    A row for the name `*` holds for all files that have none of their own; rows without a name, as
    a capture plan has them, hold for nothing. `rights_of` looks a file up.

    Raises:
        ValueError: it is no table in UTF-8 with a column "file".
    """
    path = Path(folder) / RIGHTS_FILE
    if not path.exists():
        return {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        table = csv.DictReader(file)
        try:
            rows = list(table)
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path}, line {table.line_num + 1}: {error}") from None
    if rows and "file" not in rows[0]:
        raise ValueError(f"{path} needs a column 'file' (and licence, url, consent)")
    return {
        _as_typed(row["file"]): {k: (row.get(k) or "").strip() for k in _RIGHTS}
        for row in rows
        if row["file"]
    }


def rights_of(name: str, rights: Mapping[str, Mapping[str, str]]) -> Mapping[str, str]:
    """What `read_rights` has for a file, or for all files; empty when it has nothing."""
    return rights.get(_as_typed(name), rights.get("*", {}))


def _as_typed(name: str) -> str:
    """One form of a name: a disk may store the parts of "é" apart, a person type blanks or \\."""
    return unicodedata.normalize("NFC", Path(name.strip()).as_posix())
