"""What has been done already: finished work by key, safe against kill -9 at any moment.

A key is a hash of all that a result depends on: content, settings, code. Whatever changes, exactly
the affected results are missing; nothing is ever invalidated by hand.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from vidgen_lab.files import plain


class Journal:
    """An append-only table key -> plain value in a folder; several runs may share the folder.

    name: of the file this run appends to; every file in the folder is read.
    """

    def __init__(self, folder: Path, name: str = "0-of-1") -> None:
        self.folder, self.file = folder, folder / f"{name}.jsonl"
        self._values: dict[str, Any] = {}
        for path in sorted(folder.glob("*.jsonl")):
            for line in path.read_bytes().split(b"\n"):
                try:
                    entry = json.loads(line)
                    self._values[entry["key"]] = entry["value"]
                except (ValueError, KeyError, TypeError):
                    continue  # torn off by a kill in the middle of the line: that work is redone

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def forget(self, key: str) -> None:
        """Treat this result as not there; a new one takes its place."""
        self._values.pop(key, None)

    def add(self, key: str, value: Any) -> None:
        """Remember a result; it is on the disk when this returns."""
        self.folder.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"key": key, "value": plain(value)}, sort_keys=True).encode()
        with self.file.open("ab+") as file:
            file.write((b"\n" if _torn(file) else b"") + line + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._values[key] = json.loads(line)["value"]


def _torn(file) -> bool:
    """Whether the last line of an open file lacks its end."""
    if file.seek(0, os.SEEK_END) == 0:
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"


def key_of(*parts: Any) -> str:
    """A key from plain values: equal values, equal key."""
    text = json.dumps(plain(list(parts)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def code_version(*modules: Any) -> str:
    """A short hash of the source of these modules, so that a change of method is a change."""
    digest = hashlib.sha256()
    for module in modules:
        digest.update(Path(module.__file__).read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()[:12]
