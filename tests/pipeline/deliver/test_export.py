import csv
import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.pipeline.samples import moving, save
from vidgen_lab.files import file_sha256
from vidgen_lab.pipeline.deliver import export
from vidgen_lab.pipeline.manifest import Row
from vidgen_lab.video.reader import read_clip


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """(folder, rows): three clips, one of them for validation, with an awkward caption."""
    out = tmp_path_factory.mktemp("out")
    table = []
    for n, caption in enumerate(("a red ball", 'says "hi", 日本\nnew line', "a fish")):
        save(moving(n), out / "clips" / f"id{n}.mp4")
        clip = {"file": f"clips/id{n}.mp4", "width": 96, "height": 64, "num_frames": 16, "fps": 8.0}
        clip["sha256"] = file_sha256(out / clip["file"])
        info = {"clip": clip, "caption": caption, "split": "val" if n == 2 else "train"}
        metrics = {"edge_steepness": n / 4 or None}
        table.append(Row(
            f"{n}.mp4", f"id{n}", "split", "kept", span=(0, 2), frames=(0, 16), info=info,
            metrics=metrics,
        ))  # fmt: skip
    np.savez(out / "embeddings.npz", ids=np.array(["id0", "id1"]), vectors=np.eye(2, 4))
    export.write_exports(table, out, export.FORMATS)
    return out, table


def test_cogvideo_lists_name_a_prompt_and_a_video_a_line(written):
    folder = written[0] / "dataset" / "train"
    prompts = (folder / "prompts.txt").read_text(encoding="utf-8").splitlines()
    videos = (folder / "videos.txt").read_text(encoding="utf-8").splitlines()
    assert len(prompts) == len(videos) == 2
    assert prompts[1] == 'says "hi", 日本 new line'
    assert [read_clip(folder / v).num_frames for v in videos] == [16, 16]
    assert (folder / "prompt.txt").read_bytes() == (folder / "prompts.txt").read_bytes()


@pytest.mark.parametrize("change", [{"split": "../../x"}, {"clip": {"file": "../x"}}, "../../x"])
def test_a_manifest_cannot_reach_out_of_the_folder(tmp_path, change):
    (tmp_path / "out").mkdir()
    (tmp_path / "x").write_text("mine")
    info = {"clip": {"file": "a.mp4"}, "caption": "a", "split": "train"}
    info, name = (info, change) if isinstance(change, str) else (info | change, "id0")
    with pytest.raises(ValueError, match="no place in the output"):
        export.write_exports([Row("a.mp4", name, "split", "kept", info=info)], tmp_path / "out")
    assert {p.name for p in tmp_path.rglob("*")} <= {"out", "x", "written.jsonl"}


def test_splits_are_apart(written):
    folder = written[0] / "dataset" / "val"
    assert [p.name for p in (folder / "videos").iterdir()] == ["id2.mp4"]


def test_open_sora_table_reads_back(written):
    with (written[0] / "dataset" / "train" / "open_sora.csv").open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert tuple(table[0]) == export.OPEN_SORA_COLUMNS
    assert (table[0]["num_frames"], table[0]["fps"], table[0]["weight"]) == ("16", "8.0", "1.0")
    assert table[1]["text"] == 'says "hi", 日本\nnew line'
    assert float(table[0]["aspect_ratio"]) == pytest.approx(64 / 96, abs=1e-5)
    pandas = pytest.importorskip("pandas")
    read = pandas.read_csv(written[0] / "dataset" / "train" / "open_sora.csv")
    assert read["num_frames"].tolist() == [16, 16]


def test_webdataset_members_belong_together(written):
    path = written[0] / "shards" / "train-000000.tar"
    with tarfile.open(path) as tar:
        names = tar.getnames()
        assert names[:3] == ["id0.json", "id0.mp4", "id0.txt"] and len(names) == 6
        mp4 = tar.extractfile("id1.mp4").read()
    assert mp4 == (written[0] / "clips" / "id1.mp4").read_bytes()
    webdataset = pytest.importorskip("webdataset")
    samples = list(webdataset.WebDataset(str(path), shardshuffle=False))
    assert [s["__key__"] for s in samples] == ["id0", "id1"]
    assert json.loads(samples[0]["json"])["text"] == "a red ball"


def test_video_folder_reads_back(written):
    folder = written[0] / "dataset" / "train"
    lines = [json.loads(x) for x in (folder / "metadata.jsonl").read_text("utf-8").split("\n") if x]
    assert all((folder / line["file_name"]).is_file() for line in lines)
    assert len({tuple(line) for line in lines}) == 1
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset("videofolder", data_dir=str(folder), split="train")
    assert sorted(loaded["text"]) == sorted(line["text"] for line in lines)


def test_parquet_holds_the_same_rows(written):
    pytest.importorskip("pyarrow")
    import pandas as pd

    back = pd.read_parquet(written[0] / "manifest.parquet")
    assert list(back["source"]) == ["0.mp4", "1.mp4", "2.mp4"]
    assert back["metrics.edge_steepness"].tolist()[1:] == [0.25, 0.5]
    assert np.isnan(back["metrics.edge_steepness"][0])


def test_embeddings_read_back(written):
    pytest.importorskip("pyarrow")
    import pandas as pd

    table = pd.read_parquet(written[0] / "embeddings.parquet")
    assert table["id"].tolist() == ["id0", "id1"]
    assert list(table["embedding"][1]) == [0, 1, 0, 0]


def test_writing_fewer_clips_removes_the_others_and_nothing_else(written):
    out, table = written
    own = out / "dataset" / "train" / "videos" / "own.mp4"
    own.write_bytes(b"of the user")
    export.write_exports(table[1:], out)
    assert own.read_bytes() == b"of the user"
    assert sorted(p.name for p in own.parent.iterdir()) == ["id1.mp4", "own.mp4"]
    export.write_exports(table, out, export.FORMATS)
    assert sorted(p.name for p in own.parent.iterdir()) == ["id0.mp4", "id1.mp4", "own.mp4"]
    own.unlink()


def times(folder) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def test_writing_again_writes_only_what_changed(written):
    out, table = written
    export.write_exports(table, out, export.FORMATS)
    before = times(out / "dataset") | times(out / "shards")
    export.write_exports(table, out, export.FORMATS)
    assert times(out / "dataset") | times(out / "shards") == before
    other = replace(table[2], info={**table[2].info, "caption": "a cod"})
    export.write_exports([*table[:2], other], out, export.FORMATS)
    after = times(out / "dataset" / "train") | times(out / "shards")
    changed = {Path(name).name for name, when in after.items() if before[name] != when}
    assert changed == {"val-000000.tar"}
    assert "a cod" in (out / "dataset" / "val" / "prompts.txt").read_text()
    export.write_exports(table, out, export.FORMATS)


def test_only_what_is_asked_for_is_written(written, tmp_path):
    out, table = written
    shutil.copytree(out / "clips", tmp_path / "clips")
    folder = export.write_exports(table, tmp_path, ["cogvideo"]) / "train"
    assert {p.name for p in folder.iterdir()} == {
        *("prompts.txt", "videos.txt", "caption_from.txt", "tone_mapped.txt", "videos"),
    }
    assert {p.name for p in tmp_path.iterdir()} == {"clips", "dataset", "written.jsonl"}
    export.write_exports(table, tmp_path, ["opensora"])
    assert {p.name for p in folder.iterdir()} == {"open_sora.csv", "videos"}
    with pytest.raises(ValueError, match="formats must be one of videofolder, cogvideo"):
        export.write_exports(table, tmp_path, ["cogvido"])


def test_a_missing_clip_leaves_the_old_dataset(written):
    out, table = written
    before = sorted(p.name for p in (out / "dataset").rglob("*"))
    lost = Row(
        "9.mp4", "id9", "split", "kept", span=(0, 1), frames=(0, 8),
        info={"clip": {"file": "clips/id9.mp4"}, "caption": "x", "split": "train"},
    )  # fmt: skip
    with pytest.raises(FileNotFoundError):
        export.write_exports([*table, lost], out)
    assert sorted(p.name for p in (out / "dataset").rglob("*")) == before
