import json
import struct

import pytest
from huggingface_hub import constants

from tests.tiny_models import build_tiny
from vidgen_lab.settings.tiers import weights_at_hand
from vidgen_lab.settings.weights import (
    BrokenModelError,
    ModelNotFoundError,
    check_model_folder,
    check_safetensors,
    find_model,
)


@pytest.fixture
def folder(tmp_path):
    return build_tiny(tmp_path / "model")


def weights(folder):
    return folder / "transformer" / "diffusion_pytorch_model.safetensors"


def test_a_complete_folder_passes(folder):
    check_model_folder(folder)
    assert find_model(folder) == find_model(str(folder)) == folder
    assert weights_at_hand(str(folder))


@pytest.mark.parametrize("keep", [0, 4, 200, -1], ids=["empty", "length", "header", "data"])
def test_a_truncated_weight_file_is_named(folder, keep):
    file = weights(folder)
    data = file.read_bytes()
    file.write_bytes(data[:keep])
    with pytest.raises(BrokenModelError, match=r"diffusion_pytorch_model\.safetensors") as caught:
        check_model_folder(folder)
    assert "again" in str(caught.value)
    assert not weights_at_hand(str(folder))


def test_a_file_with_too_much_is_refused(folder):
    file = weights(folder)
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(BrokenModelError, match="cut off or damaged"):
        check_safetensors(file)


@pytest.mark.parametrize("header", [b"not json", b"[1]", b'{"a": {}}', b'{"a": 3}'])
def test_a_header_that_makes_no_sense_is_damaged(tmp_path, header):
    file = tmp_path / "x.safetensors"
    file.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(BrokenModelError, match="damaged"):
        check_safetensors(file)


def test_a_git_lfs_pointer_is_recognised(folder):
    weights(folder).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(BrokenModelError, match="git lfs pull"):
        check_model_folder(folder)


def test_a_missing_shard_is_named(folder):
    file = weights(folder)
    index = {"weight_map": {"a": "part-1.safetensors", "b": "part-2.safetensors"}}
    file.rename(file.parent / "part-1.safetensors")
    file.with_name("diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(BrokenModelError, match=r"part-2\.safetensors is missing"):
        check_model_folder(folder)


def test_a_missing_part_is_named(folder):
    import shutil

    shutil.rmtree(folder / "vae")
    with pytest.raises(BrokenModelError, match="lacks its part 'vae'"):
        check_model_folder(folder)


def test_a_part_without_weights(folder):
    weights(folder).unlink()
    with pytest.raises(BrokenModelError, match=r"no \.safetensors weights"):
        check_model_folder(folder)


@pytest.mark.parametrize(
    "entry", [[], [None], ["diffusers"], ["a", "b", "c"], [1, 2], [None, "b"], [["a"], ["b"]]]
)
def test_an_index_that_names_no_class_is_damaged(folder, entry):
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"vae": entry}))
    with pytest.raises(BrokenModelError, match="'vae' should name a library and a class"):
        check_model_folder(folder)


@pytest.mark.parametrize(
    "index",
    [{}, {"weight_map": []}, {"weight_map": {}}, {"weight_map": {"a": 1}}]
    + [{"weight_map": {"a": n}} for n in ("../up.safetensors", "/etc/passwd", "weights.bin")],
)
def test_an_index_of_shards_that_makes_no_sense_is_damaged(folder, index):
    file = weights(folder).with_name("diffusion_pytorch_model.safetensors.index.json")
    file.write_text(json.dumps(index))
    with pytest.raises(BrokenModelError, match=r"index\.json is damaged"):
        check_model_folder(folder)


@pytest.mark.parametrize("name", ["", "  "])
def test_a_model_without_a_name(name):
    with pytest.raises(ModelNotFoundError, match="no name"):
        find_model(name)


def test_no_such_folder(tmp_path):
    with pytest.raises(ModelNotFoundError, match="no model folder"):
        find_model(tmp_path / "none")
    with pytest.raises(ModelNotFoundError, match=r"model_index\.json"):
        find_model(str(tmp_path / "none"))
    with pytest.raises(ModelNotFoundError, match="no-such-model"):
        find_model("no-such-model")


def test_a_folder_that_is_no_pipeline(folder, tmp_path):
    with pytest.raises(BrokenModelError, match=r"holds no model_index\.json"):
        check_model_folder(tmp_path)
    with pytest.raises(BrokenModelError, match="give the folder above it"):
        check_model_folder(folder / "transformer")


def test_another_kind_of_pipeline(folder):
    index = folder / "model_index.json"
    index.write_text(index.read_text().replace("CogVideoXPipeline", "LattePipeline"))
    with pytest.raises(BrokenModelError, match="describes a LattePipeline"):
        check_model_folder(folder)


def test_unreadable_json_is_named(folder):
    (folder / "vae" / "config.json").write_text("{")
    with pytest.raises(BrokenModelError, match=r"config\.json is not valid JSON"):
        check_model_folder(folder)


def put_in_hub_cache(cache, name, layout="2b"):
    """A download as huggingface_hub leaves it."""
    repo = cache / f"models--{name.replace('/', '--')}"
    snapshot = build_tiny(repo / "snapshots" / "0123456789abcdef", layout)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(snapshot.name)
    return snapshot


def test_the_hub_cache_is_searched_without_the_network(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert find_model("zai-org/CogVideoX-2b") is None
    snapshot = put_in_hub_cache(tmp_path, "zai-org/CogVideoX-2b")
    assert find_model("zai-org/CogVideoX-2b") == snapshot
    assert weights_at_hand("zai-org/CogVideoX-2b")


def test_a_download_under_a_former_name_is_found(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    put_in_hub_cache(tmp_path, "THUDM/CogVideoX-5b", "5b")
    assert weights_at_hand("zai-org/CogVideoX-5b")


def test_a_download_that_broke_off_is_not_at_hand(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    snapshot = put_in_hub_cache(tmp_path, "zai-org/CogVideoX-2b")
    weights(snapshot).unlink()
    assert find_model("zai-org/CogVideoX-2b") is None
    assert not weights_at_hand("zai-org/CogVideoX-2b")
