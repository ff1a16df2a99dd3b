"""Every list that the package writes reads back, and every broken one says what is wrong."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from tests.pipeline.samples import moving, save
from vidgen_lab.files import file_sha256
from vidgen_lab.pipeline.deliver.export import write_exports
from vidgen_lab.pipeline.manifest import Row
from vidgen_lab.toyworld.dataset import write_dataset
from vidgen_lab.training.data import clips
from vidgen_lab.training.data.clips import ClipRecord, read_clips
from vidgen_lab.video.reader import VideoError

LISTS = ("metadata.jsonl", "open_sora.csv", "prompts.txt", "prompt.txt")
CAPTIONS = ("a red ball", 'says "hi", 日本\nnew line', "a fish\u2028swims")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """OUT of the pipeline: three clips for training, with awkward captions and unequal weights."""
    out = tmp_path_factory.mktemp("out")
    table = []
    for n, caption in enumerate(CAPTIONS):
        save(moving(n), out / "clips" / f"id{n}.mp4")
        clip = {"file": f"clips/id{n}.mp4", "width": 96, "height": 64, "num_frames": 16, "fps": 8.0}
        clip["sha256"] = file_sha256(out / clip["file"])
        info = {"clip": clip, "caption": caption, "split": "train", "weight": 0.5 + n / 2}
        table.append(
            Row(f"{n}.mp4", f"id{n}", "split", "kept", span=(0, 2), frames=(0, 16), info=info)
        )
    write_exports(table, out)
    return out


@pytest.fixture
def folder(exported, tmp_path):
    """A copy of the training split, to be spoiled."""
    return shutil.copytree(exported / "dataset" / "train", tmp_path / "train")


def only(folder, *names):
    """Leave no other list in the folder."""
    for path in folder.glob("*.*"):
        if path.name not in names:
            path.unlink()
    return folder


@pytest.mark.parametrize("name", LISTS)
def test_every_export_reads_back_and_says_the_same(exported, name):
    train = exported / "dataset" / "train"
    records = read_clips(train / name)
    expected = ClipRecord("videos/id1.mp4", train / "videos" / "id1.mp4", "", 16, 64, 96, 8.0)
    caption = 'says "hi", 日本 new line'
    assert replace(records[1], weight=1.0) == replace(expected, caption=caption)
    assert [r.caption for r in records] == ["a red ball", caption, "a fish swims"]
    told = name in ("metadata.jsonl", "open_sora.csv")
    weights = [0.5, 1.0, 1.5] if told else [1.0, 1.0, 1.0]
    assert [r.weight for r in records] == weights


def test_what_a_folder_says_of_many_clips_is_read_without_opening_one(tmp_path, monkeypatch):
    """Frames, size, rate and weight travel in the lists; a file is looked at, not opened."""
    lines = []
    for n in range(100):
        (tmp_path / f"{n}.mp4").touch()
        line = {"file_name": f"{n}.mp4", "text": "x", "num_frames": 9, "height": 64, "width": 96}
        lines.append(json.dumps(line | {"fps": 8.0, "weight": 1 + n}))
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    monkeypatch.setattr(clips, "probe_video", None)
    records = read_clips(tmp_path)
    assert len(records) == 100 and records[7].weight == 8


def test_a_folder_is_read_by_the_list_that_says_most(folder):
    assert [r.weight for r in read_clips(folder)] == [0.5, 1.0, 1.5]
    only(folder, "prompts.txt", "videos.txt")
    assert [r.weight for r in read_clips(folder)] == [1.0, 1.0, 1.0]


def test_the_toy_world_reads_back(tmp_path):
    write_dataset(tmp_path, 2, width=48, height=32, num_frames=5)
    records = read_clips(tmp_path)
    assert records == read_clips(tmp_path / "prompts.txt")
    assert [(r.num_frames, r.height, r.width, r.fps) for r in records] == [(5, 32, 48, 8)] * 2


def test_videos_are_opened_only_where_the_list_does_not_tell(folder, monkeypatch):
    def probe(path):
        raise AssertionError(f"{path} was opened")

    monkeypatch.setattr(clips, "probe_video", probe)
    assert len(read_clips(folder / "open_sora.csv")) == 3
    with pytest.raises(AssertionError, match="was opened"):
        read_clips(folder / "prompts.txt")


def test_lists_made_elsewhere_are_read(folder):
    """Windows line ends, a byte order mark, blank lines at the end, other names, whole paths."""
    video = folder / "videos" / "id0.mp4"
    (folder / "videos.txt").write_bytes(b"\xef\xbb\xbfvideos/id0.mp4\r\n./videos/id1.mp4\r\n\r\n")
    (folder / "prompts.txt").write_bytes(b"one\r\ntwo\r\n\r\n\r\n")
    assert [(r.id, r.caption) for r in read_clips(folder / "prompts.txt")] == [
        ("videos/id0.mp4", "one"),
        ("videos/id1.mp4", "two"),
    ]
    (folder / "mine.csv").write_text(f"caption,path\nthree,{video}\n")
    assert [(r.id, r.caption) for r in read_clips(folder / "mine.csv")] == [
        ("videos/id0.mp4", "three")
    ]
    (folder / "metadata.csv").write_text("file_name,text\nvideos/id0.mp4,four\n")
    (folder / "metadata.jsonl").unlink(missing_ok=True)
    assert [r.caption for r in read_clips(folder)] == ["four"]  # VideoFolder may be a table, too


def test_nothing_recognised_names_what_was_looked_for(exported, tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        read_clips(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError) as caught:
        read_clips(tmp_path)
    for name in (*LISTS, "videos.txt", "VideoFolder", "CogVideo", "vidgen-lab prepare SRC OUT"):
        assert name in str(caught.value)
    with pytest.raises(FileNotFoundError, match="lists lie in .*train: name that folder"):
        read_clips(exported)
    (tmp_path / "notes.md").touch()
    with pytest.raises(ValueError, match="no list of clips"):
        read_clips(tmp_path / "notes.md")
    (tmp_path / "prompts.txt").write_text("a\n")
    with pytest.raises(FileNotFoundError, match="videos.txt beside it"):
        read_clips(tmp_path / "prompts.txt")


def test_lists_of_unequal_length(folder):
    with (folder / "prompts.txt").open("a") as file:
        file.write("one too many\n")
    with pytest.raises(ValueError, match="4 lines and videos.txt has 3: line n"):
        read_clips(folder / "prompts.txt")


@pytest.mark.parametrize("name", LISTS)
def test_missing_videos_are_all_named(folder, name):
    (folder / "videos" / "id0.mp4").unlink()
    (folder / "videos" / "id2.mp4").unlink()
    with pytest.raises(FileNotFoundError, match=r"2 of 3 videos .*id0\.mp4: .*no such.*id2\.mp4: "):
        read_clips(folder / name)


def test_files_that_are_no_videos_are_all_named(folder):
    (folder / "videos" / "id0.mp4").write_bytes(b"")
    (folder / "videos" / "id2.mp4").write_bytes(b"no video")
    with pytest.raises(VideoError, match=r"2 of 3 videos .*id0\.mp4.* empty; .*id2\.mp4"):
        read_clips(folder / "prompts.txt")


def test_all_that_is_wrong_with_a_list_is_found_in_one_pass(folder, monkeypatch):
    looked, probe = [], clips.probe_video
    monkeypatch.setattr(clips, "probe_video", lambda path: looked.append(path) or probe(path))
    (folder / "videos" / "id1.mp4").write_bytes(b"no video")
    with pytest.raises(VideoError, match=r"1 of 3 videos .*: entry 2, videos/id1\.mp4: "):
        read_clips(folder / "prompts.txt")
    assert len(looked) == 3


def test_a_list_in_another_encoding_is_named(folder):
    for name in ("open_sora.csv", "prompts.txt", "metadata.jsonl"):
        listing = folder / name
        listing.write_bytes("path,text\nvideos/id0.mp4,ein Bär\n".encode("cp1252"))
        with pytest.raises(ValueError, match=rf"{name} is no UTF-8 text"):
            read_clips(listing)


def test_an_empty_caption_is_refused(folder):
    (folder / "prompts.txt").write_text("a\n \nc\n")
    with pytest.raises(ValueError, match=r"1 of 3 videos .*id1\.mp4: its caption is empty: capt"):
        read_clips(folder / "prompts.txt")


def test_broken_metadata_names_the_line(folder):
    listing = folder / "metadata.jsonl"
    good = listing.read_text("utf-8")
    for bad, said in (
        ("{", "line 4 is no JSON: "),
        ("[1]", "line 4 is no JSON object"),
        (
            '{"file_name": "videos/id0.mp4"}',
            "entry 4, videos/id0.mp4: names no text or caption or prompt",
        ),
        ('{"text": "x"}', r"entry 4, \?: names no file_name or path; its fields are text"),
    ):
        listing.write_text(good + bad + "\n", "utf-8")
        with pytest.raises(ValueError, match=said):
            read_clips(folder)
    listing.write_text("\n")
    with pytest.raises(ValueError, match="lists no clip"):
        read_clips(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"file_name": "../away.mp4"}, "'../away.mp4' lies outside"),
        ({"file_name": "videos/../../away.mp4"}, "lies outside"),
        ({"file_name": "/etc/passwd"}, "'/etc/passwd' lies outside"),
        ({"file_name": "videos/id0.mp4\0.txt"}, "lies outside"),
        ({"num_frames": 0.5}, "num_frames is 0.5"),
        ({"num_frames": 1e300}, r"num_frames is 1e\+300"),
        ({"height": 63.5}, "height is 63.5"),
        ({"width": 2**40}, "width is"),
    ],
)
def test_a_line_that_cannot_be_is_refused_by_its_number(folder, change, said):
    (folder.parent / "away.mp4").write_bytes((folder / "videos" / "id0.mp4").read_bytes())
    row = {"file_name": "videos/id0.mp4", "text": "x", "num_frames": 16, "height": 64, "width": 96}
    rows = [json.dumps(row | {"fps": 8}), "", json.dumps(row | {"fps": 8} | change)]
    (folder / "metadata.jsonl").write_text("\n".join(rows))
    with pytest.raises(ValueError, match=r"metadata\.jsonl, line 3: .*" + said):
        read_clips(folder)


def test_numbers_that_make_no_sense_are_measured_instead(folder):
    listing = folder / "metadata.jsonl"
    row = {"file_name": "videos/id0.mp4", "text": "x", "num_frames": 99, "height": 8, "width": 8}
    for fps in (None, 0, float("nan"), "fast"):
        listing.write_text(json.dumps(row | {"fps": fps, "weight": 0}) + "\n")
        (record,) = read_clips(folder)
        assert (record.num_frames, record.height, record.fps, record.weight) == (16, 64, 8, 0)
    listing.write_text(json.dumps(row | {"fps": 24}) + "\n")
    assert read_clips(folder)[0].num_frames == 99
    assert np.isclose(read_clips(folder)[0].weight, 1)
