from vidgen_lab import files, journal
from vidgen_lab.journal import Journal, code_version, key_of


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
    both.forget("a")
    assert "a" not in both


def test_keys_depend_on_values_and_not_on_their_order():
    assert key_of("x", {"a": 1, "b": (2,)}) == key_of("x", {"b": [2], "a": 1})
    assert key_of("x", {"a": 1}) != key_of("x", {"a": 2})
    assert code_version(journal) != code_version(journal, files)
