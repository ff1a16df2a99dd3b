import unicodedata

import pytest

from vidgen_lab.pipeline.read.sources import RIGHTS_FILE, find_videos, read_rights, rights_of


def test_videos_are_known_by_name_or_by_their_first_bytes(tmp_path):
    (tmp_path / "a").mkdir()
    for name, data in {"a/x.MP4": b"", "b.dat": b"\x1aE\xdf\xa3", "c.txt": b"word"}.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / ".hidden.mp4").write_bytes(b"")
    found = find_videos(tmp_path)
    assert [(s.name, s.wrong_suffix) for s in found] == [("a/x.MP4", False), ("b.dat", True)]


def test_a_link_that_leads_nowhere_is_no_gap(tmp_path):
    (tmp_path / "moved.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (tmp_path / "note.txt").symlink_to(tmp_path / "nowhere.txt")
    assert [s.name for s in find_videos(tmp_path)] == ["moved.mp4"]


@pytest.mark.parametrize("brand", ["heic", "avif", "M4A "])
def test_photographs_and_songs_of_a_phone_are_no_videos(tmp_path, brand):
    """They are stored as MP4 is, and only the brand tells."""
    for name, kind in {"IMG_1.HEIC": brand, "VID_1": "isom"}.items():
        (tmp_path / name).write_bytes(b"\0\0\0\x18ftyp" + kind.encode() + bytes(200))
    assert [s.name for s in find_videos(tmp_path)] == ["VID_1"]


def test_a_folder_without_a_video_is_refused_in_words(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        find_videos(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no video in"):
        find_videos(tmp_path)
    (tmp_path / "x.mp4").write_bytes(b"")
    with pytest.raises(NotADirectoryError, match="is a file"):
        find_videos(tmp_path / "x.mp4")


def test_lines_of_a_plan_without_a_file_state_no_rights(tmp_path):
    """A sheet for a shoot, filled in at the camera: other columns, and takes still to shoot."""
    plan = "file,licence,url,consent,light,take\n,,,,day,1\na/x.mp4,CC-BY-4.0,,signed,night,1\n"
    (tmp_path / RIGHTS_FILE).write_text(plan)
    rights = read_rights(tmp_path)
    assert rights == {"a/x.mp4": {"licence": "CC-BY-4.0", "url": "", "consent": "signed"}}


def test_rights_without_a_file_column_are_refused(tmp_path):
    assert read_rights(tmp_path) == {}
    (tmp_path / RIGHTS_FILE).write_text("name,licence\nx.mp4,CC0\n")
    with pytest.raises(ValueError, match="column 'file'"):
        read_rights(tmp_path)


def test_rights_are_found_however_the_name_was_typed(tmp_path):
    """A disk may store the two parts of "é" apart; a person types blanks, and a dot in front."""
    (tmp_path / RIGHTS_FILE).write_text("file,licence\n*,CC0\né.mp4,secret\n./a/x.mp4 ,CC-BY\n")
    rights = read_rights(tmp_path)
    found = [rights_of(n, rights)["licence"] for n in ("é.mp4", "a/x.mp4", "b.mp4")]
    assert found == ["secret", "CC-BY", "CC0"]
    assert rights_of(unicodedata.normalize("NFD", "é.mp4"), rights)["licence"] == "secret"
    assert rights_of("b.mp4", {}) == {}
