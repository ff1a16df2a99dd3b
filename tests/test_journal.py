import json
import os
import tracemalloc

from vidgen_lab import journal
from vidgen_lab.journal import FileHashes, Journal, key_of


def test_results_come_back_and_a_torn_line_is_only_that_line(tmp_path):
    first = Journal(tmp_path)
    first.add("a", {"x": (1, 2.0)})
    first.add("b", [3])
    with first.file.open("ab") as file:
        file.write(b'{"key": "c", "val')
    again = Journal(tmp_path)
    assert again["a"] == {"x": [1, 2.0]} and again["b"] == [3] and "c" not in again
    again.add("c", 4)
    third = Journal(tmp_path)
    assert [third[k] for k in "abc"] == [{"x": [1, 2.0]}, [3], 4]


def test_runs_that_share_a_folder_see_each_other(tmp_path):
    Journal(tmp_path, "0-of-2").add("a", 1)
    Journal(tmp_path, "1-of-2").add("b", 2)
    both = Journal(tmp_path)
    assert (both["a"], both["b"]) == (1, 2)


def test_keys_depend_on_values_and_not_on_their_order():
    assert key_of("x", {"a": 1, "b": (2,)}) == key_of("x", {"b": [2], "a": 1})
    assert key_of("x", {"a": 1}) != key_of("x", {"a": 2})


def test_a_value_is_read_from_the_disk_and_the_last_one_counts(tmp_path):
    first = Journal(tmp_path)
    for n in range(3):
        first.add("a", n)
        first.add(f"b{n}", n)
    assert first["a"] == Journal(tmp_path)["a"] == 2 and len(first) == 4
    (tmp_path / "0-of-1.jsonl").write_bytes(b"")
    assert "b0" not in first  # nothing was kept in memory but the place
    assert first.get("b0") is first.get("never") is None


def test_a_million_entries_need_little_memory(tmp_path):
    """A hundredth of them, with values of the size of a scored clip."""
    line = json.dumps({"key": "%032x", "value": {"value": {"thumbs": ["0" * 864] * 12}}})
    with (tmp_path / "0-of-1.jsonl").open("w") as file:
        file.writelines(line % n + "\n" for n in range(10_000))
    tracemalloc.start()
    kept = Journal(tmp_path)
    assert kept[f"{9_999:032x}"]["value"]["thumbs"][0] == "0" * 864
    used, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(kept) == 10_000 and most < 3e6  # 300 bytes an entry


def test_files_are_hashed_once_and_again_when_they_change(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(
        journal, "file_sha256", lambda path: read.append(path) or f"hash{len(read)}"
    )
    file = tmp_path / "f"
    file.write_bytes(b"abc")
    os.utime(file, (1e9, 1e9))
    hashes = FileHashes(tmp_path / "hashes")
    assert hashes(file) == hashes(file) == FileHashes(tmp_path / "hashes")(file) == "hash1"
    os.utime(file, (1e9, 1e9 + 1))
    assert hashes(file) == "hash2"
    other = tmp_path / "g"
    other.write_bytes(b"abd")
    os.utime(other, (1e9, 1e9 + 1))
    other.replace(file)  # the same name, size and time, another inode
    assert hashes(file) == "hash3"
    file.write_bytes(b"abe")  # just now: it may change again before the clock does
    assert [hashes(file), hashes(file)] == ["hash4", "hash5"]
