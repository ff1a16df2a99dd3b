import pytest

from vidgen_lab.pipeline.read.public_sets import class_counts, read_ucf101
from vidgen_lab.workbook.ch02.demos import miniature_ucf101


@pytest.fixture
def mini(tmp_path):
    return miniature_ucf101(tmp_path)


def test_lists_and_names_give_label_group_and_split(mini):
    train, test = read_ucf101(*mini)
    assert (train.label, train.group, train.split) == ("Archery", 8, "train")
    assert (test.group, test.split) == (1, "test")
    assert class_counts([train, test]) == {"Archery": 2}


def test_what_is_missing_or_strange_is_named(mini):
    videos, lists = mini
    listing = lists / "trainlist01.txt"
    listing.write_text("Archery/v_Archery_g09_c01.avi 1\n")
    with pytest.raises(FileNotFoundError, match="g09"):
        read_ucf101(videos, lists)
    listing.write_text("Archery/holiday.avi 1\n")
    with pytest.raises(ValueError, match="no clip of UCF101"):
        read_ucf101(videos, lists)


def test_a_group_in_both_lists_is_a_leak(mini):
    videos, lists = mini
    (videos / "Archery" / "v_Archery_g01_c02.avi").write_bytes(b"")
    (lists / "trainlist01.txt").write_text("Archery/v_Archery_g01_c02.avi 1\n")
    with pytest.raises(ValueError, match="a leak"):
        read_ucf101(videos, lists)
