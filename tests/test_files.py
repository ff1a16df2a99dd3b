"""Whole or not at all: also when the disk fills up, and when the user stops the work."""

import os

import numpy as np
import pytest

from vidgen_lab.files import file_sha256, plain, replacing, write_files


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    return tmp_path


def content(folder) -> dict[str, str]:
    return {p.name: p.read_text(encoding="utf-8") for p in folder.iterdir()}


def test_files_are_replaced_together(folder):
    write_files({folder / "a.txt": "né\n", folder / "b.bin": b"new"})
    assert content(folder) == {"a.txt": "né\n", "b.bin": "new"}


@pytest.mark.parametrize("error", [OSError(28, "No space left"), KeyboardInterrupt()])
def test_if_one_fails_all_stays_as_it_was(folder, monkeypatch, error):
    calls = []

    def fsync(handle):
        calls.append(handle)
        if len(calls) == 2:
            raise error

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(type(error)):
        write_files({folder / "a.txt": "new", folder / "b.txt": "new"})
    assert content(folder) == {"a.txt": "old"}


def test_a_block_that_succeeds_replaces_the_file(folder):
    with replacing(folder / "a.txt") as part:
        assert part.suffix == ".txt" and part.parent == folder
        part.write_text("new")
        assert (folder / "a.txt").read_text() == "old"
    assert content(folder) == {"a.txt": "new"}


def test_a_block_that_fails_leaves_nothing(folder):
    with pytest.raises(ValueError), replacing(folder / "a.txt") as part:
        part.write_text("half")
        raise ValueError
    assert content(folder) == {"a.txt": "old"}


def test_new_files_replace_nothing(folder):
    with pytest.raises(FileExistsError):
        write_files({folder / "b.txt": "new", folder / "a.txt": "new"}, new=True)
    assert content(folder) == {"a.txt": "old"}
    write_files({folder / "b.txt": "new"}, new=True)
    assert content(folder) == {"a.txt": "old", "b.txt": "new"}


def test_hash_of_a_file(tmp_path):
    import hashlib

    (tmp_path / "f").write_bytes(b"abc")
    assert file_sha256(tmp_path / "f") == hashlib.sha256(b"abc").hexdigest()


def test_plain_values_are_json_that_is_the_same_everywhere():
    given = {1: (np.float32(0.1), float("nan")), "a": np.arange(2), "b": 1 / 3, "c": True}
    assert plain(given) == {"1": [0.100000001, None], "a": [0, 1], "b": 0.333333333, "c": True}
