import shutil

import pytest
import torch
from diffusers import CogVideoXPipeline
from huggingface_hub import constants

from tests.tiny_models import build_tiny
from vidgen_lab.generation import loading
from vidgen_lab.generation.loading import (
    DownloadError,
    apply_memory_options,
    fingerprint,
    load_pipeline,
    locate,
    pick_dtype,
)
from vidgen_lab.generation.request import GenerationRequest
from vidgen_lab.settings.hardware import Probe
from vidgen_lab.settings.tiers import load_tiers
from vidgen_lab.settings.weights import BrokenModelError, ModelNotFoundError

T4 = Probe("cuda", "Tesla T4", (7, 5), 14.7, 12.7, 60.0, 2)
A100 = Probe("cuda", "A100", (8, 0), 79.3, 120.0, 500.0, 12)
CPU = Probe("cpu", "laptop", None, 0.0, 8.0, 100.0, 4)


def parts(pipe):
    return (pipe.text_encoder, pipe.transformer, pipe.vae)


def test_every_layout_loads_by_the_same_path(layout, pipes, folders):
    pipe = pipes[layout]
    assert isinstance(pipe, CogVideoXPipeline)
    assert pipe.loaded.name == str(folders[layout])
    assert (pipe.loaded.device, pipe.loaded.dtype, pipe.loaded.offload) == (
        "cpu",
        "float32",
        "none",
    )


def test_half_precision_weights_calculate_in_float32_on_the_cpu(tmp_path):
    folder = build_tiny(tmp_path / "a")
    CogVideoXPipeline.from_pretrained(folder).to(torch.float16).save_pretrained(tmp_path / "b")
    half = tmp_path / "b"
    size = lambda f: (f / "vae/diffusion_pytorch_model.safetensors").stat().st_size  # noqa: E731
    assert size(half) < 0.7 * size(folder)
    assert {p.dtype for p in parts(load_pipeline(half, device="cpu"))} == {torch.float32}
    explicit = load_pipeline(half, device="cpu", dtype="bfloat16")
    assert {p.dtype for p in parts(explicit)} == {torch.bfloat16}
    assert explicit.loaded.dtype == "bfloat16"


@pytest.mark.parametrize(
    ("native", "wanted", "device", "machine", "expected"),
    [
        ("float16", "auto", "cuda", T4, "float16"),
        ("bfloat16", "auto", "cuda", A100, "bfloat16"),
        ("float16", "auto", "cpu", CPU, "float32"),
        ("bfloat16", "auto", "cpu", A100, "float32"),
        ("bfloat16", "auto", "mps", CPU, "float32"),
        ("bfloat16", "float16", "cuda", T4, "float16"),
        ("float32", "auto", "cuda", A100, "float32"),
    ],
)
def test_precision(native, wanted, device, machine, expected):
    assert pick_dtype(native, wanted, device, machine) == expected


def test_a_bfloat16_model_on_a_t4_is_refused():
    with pytest.raises(ValueError, match=r"Tesla T4 does not calculate in bfloat16.*CogVideoX-2b"):
        pick_dtype("bfloat16", "auto", "cuda", T4, "zai-org/CogVideoX-5b")


def test_an_unknown_tier_names_the_known(folders):
    with pytest.raises(ValueError, match="unknown tier 'big'; known: auto, .*tiny"):
        load_pipeline(folders["2b"], tier="big")


def test_an_unknown_precision_names_the_known():
    with pytest.raises(ValueError, match="auto, float32, float16, bfloat16"):
        pick_dtype("float16", "fp8", "cuda", T4)


def test_a_gpu_tier_works_on_the_cpu_without_offloading(folders):
    tier = load_tiers()["t4"]
    assert tier.offload == "sequential"
    pipe = load_pipeline(folders["2b"], tier, device="cpu")
    assert pipe.loaded.offload == "none"
    assert pipe.vae.use_tiling and pipe.vae.use_slicing
    assert pipe.device.type == "cpu"


@pytest.mark.parametrize("mode", ["model", "sequential"])
def test_offloading_goes_to_diffusers_where_there_is_an_accelerator(mode):
    calls = []

    class Pipe:
        class vae:
            enable_tiling = enable_slicing = staticmethod(lambda: calls.append("vae"))

        def enable_model_cpu_offload(self, device):
            calls.append(("model", device))

        def enable_sequential_cpu_offload(self, device):
            calls.append(("sequential", device))

    assert apply_memory_options(Pipe(), "cuda", mode) == mode
    assert calls == [(mode, "cuda")]
    with pytest.raises(ValueError, match="offload must be"):
        apply_memory_options(Pipe(), "cuda", "disk")


def test_no_such_model(tmp_path):
    with pytest.raises(ModelNotFoundError):
        load_pipeline(tmp_path / "none")
    with pytest.raises(ModelNotFoundError, match="no-such-model"):
        load_pipeline("no-such-model")


def test_a_model_without_a_name_is_not_the_default_one():
    with pytest.raises(ModelNotFoundError, match="no name"):
        load_pipeline("")


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
@pytest.mark.parametrize("name", ["diffusion_pytorch_model.bin", "pytorch_model.bin", "model.pt"])
def test_pickled_weights_are_never_opened(folders, tmp_path, monkeypatch, part, name):
    folder = shutil.copytree(folders["2b"], tmp_path / "copy")
    for weights in (folder / part).glob("*.safetensors"):
        weights.unlink()
    (folder / part / name).write_bytes(b"a pickle that runs code")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch.load was called"))
    with pytest.raises(BrokenModelError, match=r"no \.safetensors weights"):
        load_pipeline(folder)


def test_pickled_weights_beside_the_others_are_left_alone(folders, tmp_path, monkeypatch):
    folder = shutil.copytree(folders["2b"], tmp_path / "copy")
    for part in ("transformer", "vae", "text_encoder"):
        (folder / part / "diffusion_pytorch_model.bin").write_bytes(b"code")
        (folder / part / "pytorch_model.bin").write_bytes(b"code")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch.load was called"))
    load_pipeline(folder, device="cpu")


def test_a_folder_without_an_index(tmp_path):
    with pytest.raises(BrokenModelError, match=r"model_index\.json"):
        load_pipeline(tmp_path)


def test_a_truncated_weight_file_is_named_before_loading(folders, tmp_path):
    folder = shutil.copytree(folders["2b"], tmp_path / "copy")
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(
        BrokenModelError, match=r"vae.diffusion_pytorch_model\.safetensors is cut off"
    ):
        load_pipeline(folder)


def test_a_hub_model_that_is_not_here(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DownloadError, match=r"12\.5 GiB.*not on.*--download.*toy-cogvideox"):
        locate("zai-org/CogVideoX-2b")
    with pytest.raises(DownloadError, match="size that is not known"):
        locate("somebody/model")


def test_nothing_asks_the_hub_unless_a_download_was_allowed(monkeypatch, tmp_path):
    """Loading, repeating a recipe: whatever names a model that is not here."""
    import json

    from vidgen_lab.generation.recipe import reproduce

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(CogVideoXPipeline, "download", lambda *_, **__: pytest.fail("asked"))
    request = GenerationRequest("a ball", model="somebody/model").to_dict()
    recipe = request | {"dtype": "float32", "versions": {}}
    (tmp_path / "a.json").write_text(json.dumps(recipe))
    for attempt in (
        lambda: load_pipeline("somebody/model"),
        lambda: load_pipeline(tier="t4"),
        lambda: reproduce(tmp_path / "a.json"),
    ):
        with pytest.raises(DownloadError, match="nothing is fetched unasked"):
            attempt()


def test_a_disk_too_small_for_the_download(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(loading, "free_disk_gib", lambda folder: 3.0)
    with pytest.raises(DownloadError, match=r"needs 19\.7 GiB.*3\.0 GiB free"):
        locate("zai-org/CogVideoX-5b", download=True)


def test_without_the_network_the_error_says_so(monkeypatch, tmp_path):
    def offline(*args, **kwargs):
        raise ConnectionError("no route to host\nand a long trace")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(CogVideoXPipeline, "download", offline)
    with pytest.raises(DownloadError, match="no route to host") as caught:
        locate("somebody/model", download=True)
    assert "long trace" not in str(caught.value)


def test_a_downloaded_model_takes_the_same_path(monkeypatch, folders, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        CogVideoXPipeline, "download", classmethod(lambda cls, name, **_: str(folders["2b"]))
    )
    pipe = load_pipeline("THUDM/CogVideoX-2b", load_tiers()["tiny"], device="cpu", download=True)
    assert pipe.loaded.name == "zai-org/CogVideoX-2b"


def test_the_fingerprint_changes_with_the_weights(folders, tmp_path):
    folder = shutil.copytree(folders["2b"], tmp_path / "copy")
    (folder / "report.json").write_text("{}", encoding="utf-8")  # what was measured is no weight
    assert fingerprint(folder) == fingerprint(folders["2b"])
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert fingerprint(folder) != fingerprint(folders["2b"])
    assert fingerprint(tmp_path / "snapshots" / "0123456789abcdef") == "0123456789ab"


def test_loading_a_small_model_is_silent(folders, capfd):
    load_pipeline(folders["2b"], device="cpu")
    assert capfd.readouterr() == ("", "")
