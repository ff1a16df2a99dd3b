from dataclasses import replace

import pytest

from vidgen_lab.generation.request import GenerationRequest, ModelLimits, validate_request
from vidgen_lab.paths import model_dir
from vidgen_lab.settings import tiers as tiers_module
from vidgen_lab.settings.hardware import Probe
from vidgen_lab.settings.tiers import (
    Tier,
    choose_tier,
    lacking,
    load_models,
    load_tiers,
    model_facts,
    resolve_tier,
    weights_at_hand,
)

TIERS = load_tiers()
EMBEDDED = "toy-cogvideox"
ALL = lambda model: True  # noqa: E731
ONLY_EMBEDDED = lambda model: model == EMBEDDED  # noqa: E731


def cuda(name, capability, vram, ram=64.0, disk=500.0):
    return Probe("cuda", name, capability, vram, ram, disk, 8)


# Sizes as these machines report them (nominal 16, 24, 24, 40, 80 and 141 GB).
T4 = cuda("Tesla T4", (7, 5), 14.7, ram=12.7)
L4 = cuda("NVIDIA L4", (8, 9), 22.2, ram=53.0)
RTX_4090 = cuda("NVIDIA GeForce RTX 4090", (8, 9), 23.6)
A100_40 = cuda("NVIDIA A100-SXM4-40GB", (8, 0), 39.4, ram=83.5)
A100 = cuda("NVIDIA A100-SXM4-80GB", (8, 0), 79.3, ram=120.0)
H200 = cuda("NVIDIA H200", (9, 0), 139.8, ram=200.0)
MPS = Probe("mps", "Apple M3", None, 0.0, 16.0, 200.0, 8)
CPU = Probe("cpu", "laptop", None, 0.0, 8.0, 100.0, 4)


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        (T4, "t4"),
        (L4, "rtx4090"),
        (RTX_4090, "rtx4090"),
        (A100_40, "rtx4090"),
        (A100, "a100"),
        (H200, "a100"),
        (MPS, "tiny"),
        (CPU, "tiny"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_the_largest_tier_that_fits_when_all_weights_are_here(machine, expected):
    choice = choose_tier(machine, TIERS, ALL)
    assert choice.tier.name == expected
    assert choice.larger is None
    assert choice.download_gib == 0


@pytest.mark.parametrize(
    ("machine", "larger", "gib"),
    [
        (T4, "t4", 12.5),
        (L4, "rtx4090", 19.7),
        (RTX_4090, "rtx4090", 19.7),
        (A100, "a100", 19.7),
        (H200, "a100", 19.7),
        (MPS, None, 0),
        (CPU, None, 0),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_auto_never_downloads_but_says_what_would_fit(machine, larger, gib):
    choice = choose_tier(machine, TIERS, ONLY_EMBEDDED)
    assert choice.tier.name == "tiny"
    assert (choice.larger and choice.larger.name) == larger
    assert gib == pytest.approx(choice.larger.download_gib if choice.larger else 0)
    assert choice.download_gib == 0
    if larger:
        assert f'tier="{larger}"' in choice.describe()
        assert f"{gib:g} GiB" in choice.describe()
    else:
        assert "download" not in choice.describe().split("Why")[0]


def test_a_middle_tier_at_hand_is_taken_and_the_larger_one_named():
    has_2b = lambda model: model in (EMBEDDED, "zai-org/CogVideoX-2b")  # noqa: E731
    choice = choose_tier(RTX_4090, TIERS, has_2b)
    assert choice.tier.name == "t4"
    assert choice.larger.name == "rtx4090"


def test_a_larger_tier_is_not_advertised_when_the_disk_is_too_small():
    choice = choose_tier(replace(RTX_4090, disk_gib=15.0), TIERS, ONLY_EMBEDDED)
    assert choice.larger.name == "t4"  # 12.5 GiB still fit
    assert choose_tier(replace(RTX_4090, disk_gib=5.0), TIERS, ONLY_EMBEDDED).larger is None


def test_weights_already_here_need_no_disk():
    assert choose_tier(replace(RTX_4090, disk_gib=1.0), TIERS, ALL).tier.name == "rtx4090"


def test_ci_is_never_chosen_automatically():
    assert choose_tier(replace(CPU, ram_gib=4.0), TIERS, ALL).tier.name == "tiny"
    assert not TIERS["ci"].automatic


def test_no_model_at_all_is_an_error_with_a_next_step():
    with pytest.raises(RuntimeError, match="vidgen-lab tiers"):
        choose_tier(CPU, TIERS, lambda model: False)


def test_lacking_names_every_shortage():
    assert lacking(TIERS["t4"], CPU) == ("a CUDA GPU", "host memory: 12 GiB (has 8.0)")
    on_t4 = " ".join(lacking(TIERS["rtx4090"], T4, download_gib=19.7))
    assert "GPU memory: 21 GiB (has 14.7)" in on_t4
    assert "compute capability 8.0" in on_t4 and "(has 7.5)" in on_t4
    assert lacking(TIERS["t4"], T4, 12.5) == ()
    assert lacking(TIERS["t4"], replace(T4, disk_gib=3.0), 12.5) == (
        "free disk: 12.5 GiB (has 3.0)",
    )


def test_a_t4_streams_its_weights_layer_by_layer():
    tier = TIERS["t4"]
    assert (tier.offload, tier.vae_tiling, tier.vae_slicing) == ("sequential", True, True)


def test_every_tier_asks_for_something_its_model_can_make():
    embedded = ModelLimits.from_folder(model_dir(EMBEDDED))
    for tier in TIERS.values():
        if tier.model == EMBEDDED:
            validate_request(GenerationRequest.for_tier(tier, "a red ball"), embedded)
        else:  # CogVideoX before 1.5
            assert (tier.num_frames - 1) % 8 == 0, tier.name
        assert tier.height % 16 == tier.width % 16 == 0, tier.name
        assert tier.model in load_models()
        facts = load_models()[tier.model]
        assert tier.fps == facts.fps
        assert tier.guidance_scale == facts.guidance_scale == (3 if tier.model == EMBEDDED else 6)


def test_download_sizes_follow_from_the_parameter_counts():
    gib = 2 / 2**30  # two bytes a parameter
    for name, transformer in (("zai-org/CogVideoX-2b", 1.694e9), ("zai-org/CogVideoX-5b", 5.570e9)):
        parts = load_models()[name].parts
        assert parts["text encoder"] == pytest.approx(4.762e9 * gib, abs=0.05)
        assert parts["transformer"] == pytest.approx(transformer * gib, abs=0.05)
        assert parts["VAE"] == pytest.approx(0.2156e9 * gib, abs=0.05)


def test_former_hub_names_are_known():
    assert model_facts("THUDM/CogVideoX-2b").name == "zai-org/CogVideoX-2b"
    assert model_facts("somebody/else") is None


def test_resolve_by_name_takes_the_tier_and_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(tiers_module, "weights_at_hand", lambda model: False)
    choice = resolve_tier("t4", CPU)
    assert choice.tier == TIERS["t4"]
    assert choice.download_gib == 12.5
    assert "a CUDA GPU" in choice.describe()
    assert "Needs a download of 12.5 GiB" in choice.describe()


def test_resolve_auto_uses_the_weights_that_are_here(monkeypatch):
    monkeypatch.setattr(tiers_module, "weights_at_hand", ONLY_EMBEDDED)
    assert resolve_tier("auto", T4).tier.name == "tiny"
    assert resolve_tier(machine=T4).larger.name == "t4"


def test_an_unknown_tier_names_the_known_ones():
    with pytest.raises(ValueError, match="unknown tier 'huge'; known: auto, ci, tiny, t4"):
        resolve_tier("huge", CPU)


def test_weights_at_hand_without_any(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert not weights_at_hand("zai-org/CogVideoX-2b")
    assert not weights_at_hand("no-such-embedded-model")
    assert not weights_at_hand(str(tmp_path))  # a folder, but no model in it


def test_mistakes_in_the_file_are_named(tmp_path):
    text = tiers_module.TIERS_FILE.read_text(encoding="utf-8")
    broken = tmp_path / "tiers.yaml"
    broken.write_text(text.replace("num_inference_steps", "num_steps", 1), encoding="utf-8")
    with pytest.raises(ValueError, match="ci: there is no setting num_steps; .*_inference_steps"):
        load_tiers(broken)
    broken.write_text(text.replace("model: toy-cogvideox", "model: toy", 1), encoding="utf-8")
    with pytest.raises(ValueError, match="unknown model 'toy'"):
        load_tiers(broken)
    broken.write_text(text.replace("offload: sequential", "offload: disk"), encoding="utf-8")
    with pytest.raises(
        ValueError, match="tiers.t4: offload must be one of none, model, sequential, not 'disk'"
    ):
        load_tiers(broken)


def test_tiers_are_frozen():
    assert isinstance(TIERS["tiny"], Tier)
    with pytest.raises(AttributeError):
        TIERS["tiny"].height = 480
