"""The output folder: a record of every file that was written there, and nothing else is touched.

A file is recorded before it is written and removed or replaced only when the record has it. What a
person changed since is not ours any more: it is set aside instead of overwritten.
"""

import hashlib
import json
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from os.path import lexists
from pathlib import Path, PurePosixPath
from typing import Any

from vidgen_lab.files import file_sha256, replacing, write_files

RECORD = "written.jsonl"
_HEADER = json.dumps({"written by": "vidgen-lab prepare"})


class Output:
    """A folder and the names of the files that were written into it.

    Names are paths below the folder, with forward slashes. Recorded of each are its sha256, its
    size and made_of, a key of what went into it, where that is cheaper to compare than the file;
    nothing when nobody came to the end of it.

    Args:
        exclusive: the folder must be new, empty (but for hidden files) or have a record.

    Raises:
        FileExistsError: the folder is none of these, or its record is of another program.
        NotADirectoryError: it is a file.
    """

    def __init__(self, folder: str | Path, exclusive: bool = True) -> None:
        self.folder = Path(folder)
        self._file = self.folder / RECORD
        self._written: dict[str, dict[str, Any]] = {}
        self._appended = False
        if self.folder.exists() and not self.folder.is_dir():
            raise NotADirectoryError(f"{folder} is a file; give a folder for the output")
        if self._file.exists():
            self._read()
        elif exclusive and (others := sorted(self.folder.glob("[!.]*"))):
            raise FileExistsError(
                f"{folder} is not empty and was not written by prepare (it holds "
                f"{others[0].name}); nothing in it was touched: choose another folder"
            )
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._append(_HEADER)

    def __contains__(self, name: str) -> bool:
        return name in self._written

    def names(self, below: str) -> list[str]:
        """Recorded names in this folder of the output, sorted."""
        return sorted(name for name in self._written if name.startswith(f"{below}/"))

    def is_made_of(self, name: str, made_of: str) -> bool:
        """Whether the file is there, as long as it was, and was made of this key."""
        known = self._written.get(name, {})
        return (known.get("made_of"), known.get("size")) == (made_of, _size(self.folder / name))

    def claim(self, names: Iterable[str]) -> None:
        """Say that these files are about to be written; call `wrote` afterwards.

        Raises:
            FileExistsError: one is there that is not ours; nothing is claimed then.
        """
        names = list(names)
        foreign = [n for n in names if n not in self._written and lexists(self.folder / n)]
        if foreign:
            raise FileExistsError(
                f"{self.folder / foreign[0]} was not written by prepare; move it away, or choose "
                "another folder"
            )
        for name in names:
            if name in self._written:
                self._set_aside_if_changed(name)
            else:
                self._note(name, {})
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)

    def wrote(self, sha256: Mapping[str, str], made_of: str = "") -> None:
        """Remember the `sha256`, by name, of files that were claimed and written."""
        for name, digest in sha256.items():
            size = _size(self.folder / name)
            written = {"sha256": digest, "size": size, "made_of": made_of}
            if self._written.get(name) != written:
                self._note(name, written)

    def write(self, contents: Mapping[str, str | bytes]) -> None:
        """Write files by name, all or none; those that hold this already are left alone."""
        data = {n: c.encode("utf-8") if isinstance(c, str) else c for n, c in contents.items()}
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in data.items()}
        changed = {n: c for n, c in data.items() if not self._holds(n, hashes[n])}
        self.claim(changed)
        write_files({self.folder / name: content for name, content in changed.items()})
        self.wrote({name: hashes[name] for name in changed})

    @contextmanager
    def replacing(self, name: str, made_of: str = "", digest: str = "") -> Iterator[Path]:
        """A temporary path that becomes this file if the block succeeds and it is another one; give
        the `digest`, its sha256, where that is known before."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            yield temporary
            digest = digest or file_sha256(temporary)
            if self._holds(name, digest):
                shutil.copystat(path, temporary)
            else:
                self.claim([name])
        self.wrote({name: digest}, made_of)

    def remove(self, names: Iterable[str]) -> None:
        """Remove recorded files; one that was changed since stays, with a warning."""
        for name in names:
            path = self.folder / name
            if path.exists():
                if self._changed(name):
                    warnings.warn(f"{path} is not as it was written; left there", stacklevel=2)
                    continue
                path.unlink()
            self._append(json.dumps({"path": name, "gone": True}))
            self._written.pop(name, None)

    def _holds(self, name: str, digest: str) -> bool:
        path = self.folder / name
        return name in self._written and path.is_file() and file_sha256(path) == digest

    def _changed(self, name: str) -> bool:
        """Whether the file is another one than was written; one that nobody finished is not."""
        return self._written[name].get("sha256", "") not in ("", file_sha256(self.folder / name))

    def _set_aside_if_changed(self, name: str) -> None:
        path = self.folder / name
        if not path.exists() or not self._changed(name):
            return
        aside, numbers = self.folder / "set_aside" / name, count(2)
        while aside.exists():
            aside = aside.with_name(f"{path.stem}-{next(numbers)}{path.suffix}")
        aside.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, aside)
        warnings.warn(f"{path} is not as it was written; set aside as {aside}", stacklevel=4)

    def _note(self, name: str, written: dict[str, Any]) -> None:
        self._written[name] = written
        self._append(json.dumps({"path": name, **written}))

    def _append(self, line: str) -> None:
        """A line that is whole even when the one before it was torn by a kill."""
        with self._file.open("a", encoding="utf-8") as file:
            file.write(line + "\n" if self._appended or line == _HEADER else f"\n{line}\n")
        self._appended = True

    def _read(self) -> None:
        with self._file.open(encoding="utf-8", errors="replace") as file:
            if file.readline().strip() not in ("", _HEADER):
                raise FileExistsError(f"{self._file} is not of prepare; choose another folder")
            for line in file:
                try:
                    entry = json.loads(line)
                    name = inside(entry.pop("path"))
                    self._written.pop(name, None)
                    if not entry.get("gone"):
                        self._written[name] = entry
                except (ValueError, KeyError, TypeError, AttributeError):
                    continue  # torn off by a kill: nothing was written under that name yet


def _size(path: Path) -> int:
    """Bytes of a file, or -1 where there is none."""
    return path.stat().st_size if path.is_file() else -1


def check_apart(source: str | Path, out: str | Path) -> None:
    """Refuse to read videos where the output is written.

    Raises:
        ValueError: one of the folders lies in the other, or both are one.
    """
    for inner, outer in ((Path(source), Path(out)), (Path(out), Path(source))):
        around = (inner.resolve(), *inner.resolve().parents)
        same = outer.exists() and any(p.exists() and p.samefile(outer) for p in around)
        if same or outer.resolve() in around:
            raise ValueError(
                f"the videos ({source}) and the output ({out}) must lie apart: originals and "
                "results would mix, and results be taken for originals the next time"
            )


def inside(name: str) -> str:
    """The name, if it stays below the folder; one that was tampered with shall do no harm.

    Raises:
        ValueError: it leads elsewhere.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or ":" in name or "\\" in name:
        raise ValueError(f"{name} is no place in the output")
    return name
