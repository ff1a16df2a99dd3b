"""What has been done already: finished work by key, safe against kill -9 at any moment.

A key is a hash of all that a result depends on: content, settings, the number of the recipe and the
versions of the libraries it calls. Whatever changes, exactly the affected results are missing;
nothing is ever invalidated by hand. Only where a value lies is held in memory, not the value.
"""

import hashlib
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from vidgen_lab.files import file_sha256, plain

_SETTLED = 2.0  # seconds after which a further change of a file shows in its time of change


class Journal:
    """An append-only table key -> plain value in a folder, which several runs may share; it takes
    about 200 bytes of memory an entry, whatever its size.

    Args:
        folder: made with the first result.
        name: of the file this run appends to; every file in the folder is read.
        durable: a result is on the disk when `add` returns, and not only with the operating system.
    """

    def __init__(self, folder: Path, name: str = "0-of-1", durable: bool = True) -> None:
        self.folder, self.file, self.durable = folder, folder / f"{name}.jsonl", durable
        self._files = sorted({*folder.glob("*.jsonl"), self.file})
        self._places: dict[bytes, int] = {}  # hash of a key -> number of the file and byte in it
        for number, path in enumerate(self._files):
            if path.exists():
                self._index(number, path)

    def __contains__(self, key: str) -> bool:
        return self.get(key) is not None

    def __getitem__(self, key: str) -> Any:
        if (value := self.get(key)) is None:
            raise KeyError(key)
        return value

    def get(self, key: str) -> Any:
        """The value, read from the disk; None if there is none."""
        if (place := self._places.get(_short(key))) is None:
            return None
        with self._files[place >> 48].open("rb") as file:
            file.seek(place & (1 << 48) - 1)
            line = file.readline()
        with suppress(ValueError, TypeError, KeyError):  # torn off by a kill: work to be redone
            entry = json.loads(line)
            if entry["key"] == key:
                return entry["value"]
        return None

    def __len__(self) -> int:
        return len(self._places)

    def add(self, key: str, value: Any) -> None:
        """Remember a result, of which `plain` is kept; None would read as no result."""
        self.folder.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"key": key, "value": plain(value)}, sort_keys=True).encode()
        with self.file.open("ab+") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 1))
            torn = file.read() not in (b"", b"\n")  # whether the last line lacks its end
            file.write(b"\n" * torn + line + b"\n")
            file.flush()
            if self.durable:
                os.fsync(file.fileno())
        self._places[_short(key)] = self._files.index(self.file) << 48 | end + torn

    def _index(self, number: int, path: Path) -> None:
        """Note where each line begins; the last one with a key counts."""
        place = 0
        with path.open("rb") as file:
            for line in file:
                # As `add` writes them; what is torn off further on is noticed when it is read.
                key, mark, _ = line[:200].removeprefix(b'{"key": "').partition(b'", "value": ')
                if mark and line.endswith(b"}\n"):
                    self._places[_short(key.decode())] = number << 48 | place
                place += len(line)


class FileHashes:
    """The sha256 of files, each read once: it is known by path, size, time of change and inode."""

    def __init__(self, folder: Path, name: str = "0-of-1") -> None:
        self._journal = Journal(folder, name, durable=False)

    def __call__(self, path: Path) -> str:
        """The hash of a file as 64 hex digits.

        Raises:
            OSError: the file cannot be read.
        """
        facts = path.stat()
        state = facts.st_size, facts.st_mtime_ns, facts.st_ino
        name = key_of(str(path.absolute()), *state)
        if known := self._journal.get(name):
            return known
        digest = file_sha256(path)
        # One that was written just now may change again within the same tick of the disk's clock.
        if time.time() - facts.st_mtime > _SETTLED:
            self._journal.add(name, digest)
        return digest


def _short(key: str) -> bytes:
    return hashlib.blake2b(key.encode(), digest_size=16).digest()


def key_of(*parts: Any) -> str:
    """A key of 32 hex digits from plain values: equal values, equal key."""
    text = json.dumps(plain(list(parts)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
