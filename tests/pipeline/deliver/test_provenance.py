import pytest

from tests.pipeline.samples import moving, save
from vidgen_lab.pipeline.deliver.cut import OutputError
from vidgen_lab.pipeline.deliver.provenance import rebuild_clip, without_licence
from vidgen_lab.pipeline.manifest import read_manifest
from vidgen_lab.pipeline.prepare import Execution, prepare


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("life")
    for seed in (1, 2):
        save(moving(seed), folder / "in" / f"{seed}.mp4")
    (folder / "in" / "rights.csv").write_text("file,licence,url,consent\n1.mp4,CC0,,\n")
    prepare(folder / "in", folder / "out", execution=Execution("serial"))
    return folder, read_manifest(folder / "out" / "manifest.jsonl")


def test_the_manifest_rebuilds_a_clip_and_refuses_another_source(run, tmp_path):
    folder, rows = run
    clip = next(r for r in rows if r.stage == "split")
    again = rebuild_clip(clip, folder / "in", tmp_path / "again.mp4")
    assert again.read_bytes() == (folder / "out" / clip.info["clip"]["file"]).read_bytes()
    save(moving(9), tmp_path / clip.source)
    with pytest.raises(OutputError, match="not the file"):
        rebuild_clip(clip, tmp_path, tmp_path / "x.mp4")


def test_clips_without_a_licence_are_listed(run):
    assert without_licence(run[1]) == ["2.mp4"]
