"""Files that appear whole or not at all, whatever happens while they are written; plain values."""

import hashlib
import json
import math
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def write_files(contents: Mapping[Path, bytes | str], new: bool = False) -> None:
    """Write some files so that all of them appear together, or none: up to the renaming at the end
    an error or Ctrl-C leaves what stood at the paths before.

    Args:
        contents: by path; text becomes UTF-8. Folders are made.
        new: replace nothing.

    Raises:
        OSError: the disk is full, or a folder locked.
        FileExistsError: `new`, and a path is taken, also by a process that came first.
    """
    parts: dict[Path, Path] = {}
    claimed: list[Path] = []
    try:
        for path, data in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            parts[path] = _beside(path)
            with parts[path].open("xb") as file:
                file.write(data.encode("utf-8") if isinstance(data, str) else data)
                file.flush()
                os.fsync(file.fileno())  # some disks report only here that they are full
        for path in parts if new else ():
            path.open("xb").close()
            claimed.append(path)
        for path, part in parts.items():
            part.replace(path)
        claimed.clear()
    finally:
        for part in (*parts.values(), *claimed):
            part.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Hand out a temporary path with the same suffix; it becomes `path` if the block succeeds."""
    part = _beside(path)
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    """On the same disk, so that renaming is one step; hidden; never the same twice."""
    return path.with_name(f".{uuid.uuid4().hex}.part{path.suffix}")


def file_sha256(path: Path) -> str:
    """The sha256 of a file's content as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of a file, one a line, without lines that a kill or a full disk cut short;
    none if there is no file."""
    rows = []
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        with suppress(json.JSONDecodeError):
            rows.append(json.loads(line))
    return rows


def read_rows(path: str | Path, make: Callable[[Any], T], what: str) -> list[T]:
    """What `make` makes of the JSON value of each line, blank ones apart; ValueError names the
    first that is no `what`, such as "recorded run"."""
    rows = []
    with Path(path).open("rb") as file:  # not as text, which may hold other signs that end a line
        for number, line in enumerate(file, 1):
            try:
                rows += [make(json.loads(line))] if line.strip() else []
            except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
                raise ValueError(f"{path}, line {number} is no {what}: {error}") from error
    return rows


def plain(value: Any) -> Any:
    """The value as JSON writes it everywhere: no NumPy, nine digits, None for NaN and infinity."""
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return float(f"{value:.9g}") if math.isfinite(value) else None
    return value
