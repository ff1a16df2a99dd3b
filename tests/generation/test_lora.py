import json

import pytest
import torch
from peft import LoKrConfig
from safetensors.torch import save_file

from tests.tiny_models import build_tiny, tiny_pipeline
from vidgen_lab.generation.generate import generate
from vidgen_lab.generation.loading import load_pipeline
from vidgen_lab.generation.lora import active_adapters, load_lora, set_scales
from vidgen_lab.generation.lora_file import LoRAError, find_lora, inspect_lora
from vidgen_lab.generation.request import GenerationRequest

RANK, WIDTH, SETTINGS = 4, 32, "lora_adapter_metadata"
TARGETS = ["to_q", "to_v"]
REQUEST = GenerationRequest(
    "a red ball",
    num_inference_steps=2,
    guidance_scale=1.0,
    num_frames=9,
    height=32,
    width=32,
    model="tiny",  # fmt: skip
)


def weights(rank=RANK, width=WIDTH, blocks=2, prefix="transformer.", fill=0.3):
    """A LoRA for the tiny models as diffusers names its parts."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    for block in range(blocks):
        for layer in ("to_q", "to_v"):
            name = f"{prefix}transformer_blocks.{block}.attn1.{layer}"
            down, up = (rank, width), (width, rank)
            found[f"{name}.lora_A.weight"] = torch.randn(down, generator=generator)
            found[f"{name}.lora_B.weight"] = torch.randn(up, generator=generator) * fill
    return found


def settings(**said):
    """A header as diffusers and PEFT write it."""
    said = {"rank_pattern": {}} | said
    return {SETTINGS: json.dumps({f"transformer.{name}": value for name, value in said.items()})}


@pytest.fixture
def save(tmp_path):
    def write(tensors=None, header=None, name="a.safetensors"):
        save_file(weights() if tensors is None else tensors, tmp_path / name, header)
        return tmp_path / name

    return write


def test_what_a_good_file_holds(save):
    file = save(header=settings(r=4, lora_alpha=8, target_modules=TARGETS))
    found = inspect_lora(file, tiny_pipeline().transformer)
    assert found.loads and found.notes == ()
    assert found.targets == {"attn1.to_q": 2, "attn1.to_v": 2}
    assert (found.ranks, found.alpha, set(found.scales.values())) == ((4,), 8, {2.0})
    assert found.parameters == sum(t.numel() for t in weights().values())
    said = found.describe()
    assert "Rank        4, alpha 8, so its strength is 2" in said
    assert said.endswith("It loads, with effect.")


@pytest.mark.parametrize(
    "ranks,said",
    [
        ((4, 8), None),
        ((8, 4), None),
        ((4, 4), dict(r=4, lora_alpha=8, use_rslora=True)),
        ((4, 4), dict(r=4, lora_alpha=4, alpha_pattern={"to_v": 16})),
        ((4, 8), dict(r=4, lora_alpha=8, rank_pattern={r"transformer_blocks\.1\.attn1\.to_.": 8})),
    ],
)
def test_the_strength_is_what_the_loader_makes_of_every_module(save, ranks, said):
    tensors = weights(rank=ranks[0], blocks=1)
    tensors |= {n: t for n, t in weights(rank=ranks[1]).items() if "blocks.1" in n}
    file = save(tensors, said and settings(target_modules=TARGETS, **said))
    pipe, found = tiny_pipeline(), inspect_lora(file)
    load_lora(pipe, file)
    layers = pipe.transformer.named_modules()
    loaded = {n: m.scaling["lora_0"] for n, m in layers if hasattr(m, "scaling")}
    assert loaded == found.scales and not found.problems
    strengths = " and ".join(f"{scale:g}" for scale in sorted(set(loaded.values())))
    assert f"so its strength is {strengths}\n" in found.describe()


@pytest.mark.parametrize(
    "header,said",
    [
        (settings(r=4, lora_alpha=8), "names no target_modules"),
        (settings(r=4, lora_alpha=8, target_modules=TARGETS, new=3), "unexpected keyword .*new"),
        (settings(r=4, target_modules=TARGETS, alpha_pattern={"(": 3}), "missing \\)"),
        ({SETTINGS: "{}"}, "names no target_modules"),
        ({SETTINGS: "{no"}, "Expecting"),
        ({SETTINGS: "[1]"}, "no attribute 'items'"),
    ],
)
def test_headers_that_the_loader_cannot_read(save, header, said):
    file, pipe = save(header=header), tiny_pipeline()
    with pytest.raises(Exception):  # noqa: B017 of many kinds
        pipe.load_lora_weights(file.parent, weight_name=file.name)
    with pytest.raises(LoRAError, match=f"a.safetensors: its header is damaged, .*{said}"):
        inspect_lora(file)


def test_eight_bits_of_both_kinds(save):
    small = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in weights().items()}
    assert (
        inspect_lora(save(small)).dtypes == ("float8_e4m3fn",) and inspect_lora(save(small)).loads
    )
    pipe, whole = tiny_pipeline(), {name: (9 * t).to(torch.int8) for name, t in weights().items()}
    with pytest.raises(LoRAError, match="its tensors are int8"):
        load_lora(pipe, save(whole))
    assert not hasattr(pipe.transformer, "peft_config")


@pytest.mark.parametrize(
    "prefix,who",
    [
        ("base_model.model.", "PEFT's own save_pretrained"),
        ("", "without the prefix transformer."),
        ("diffusion_model.", "ComfyUI"),
    ],
)
def test_names_that_no_pipeline_finds_are_refused(save, prefix, who):
    pipe, file = tiny_pipeline(), save(weights(prefix=prefix))
    before = {name: value.clone() for name, value in pipe.transformer.state_dict().items()}
    pipe.load_lora_weights(file.parent, weight_name=file.name)  # the stock loader says nothing
    assert pipe.transformer.state_dict().keys() == before.keys()
    with pytest.raises(LoRAError, match=f"would have no effect: 8 keys do not begin .*{who}"):
        load_lora(pipe, file)


def without(tensors, part):
    return {name: tensor for name, tensor in tensors.items() if part not in name}


@pytest.mark.parametrize(
    "tensors,header,said",
    [
        ({"proj.weight": torch.ones(2)}, None, "no key speaks of LoRA"),
        (weights() | {"transformer.x.alpha": torch.ones(())}, None, "kohya's tools"),
        (without(weights(), "1.attn1.to_q.lora_A"), None, "has only one of lora_A and lora_B"),
        (weights(fill=0.0), None, "every lora_B is zero"),
        (weights(fill=torch.nan), None, "4 tensors hold NaN or infinity"),
        (weights(width=64), None, "made for a model of width 64: .* is 64x64, here 32x32"),
        (weights(width=1920), None, "made for CogVideoX-2B"),
        (weights(blocks=3), None, "2 of its 6 modules are not in this model"),
        (weights(), settings(r=8, target_modules=TARGETS), "header says rank 8, its tensors 4"),
    ],
)
def test_why_a_file_does_not_load(save, tensors, header, said):
    file = save(tensors, header)
    with pytest.raises(LoRAError, match=said):
        load_lora(tiny_pipeline(), file)
    assert not inspect_lora(file, tiny_pipeline().transformer).loads


def test_two_ranks_in_one_pair(save):
    tensors = weights()
    name = next(name for name in tensors if "lora_B" in name)
    tensors[name] = torch.ones(WIDTH, 8)
    assert "lora_A has rank 4, lora_B 8" in inspect_lora(save(tensors)).problems[0]


def test_files_that_are_none(tmp_path, save):
    with pytest.raises(LoRAError, match="there is no LoRA file"):
        find_lora(tmp_path / "nothing.safetensors")
    (tmp_path / "a.ckpt").write_bytes(b"x")
    with pytest.raises(LoRAError, match="can run code when they are opened"):
        find_lora(tmp_path / "a.ckpt")
    (tmp_path / "torn.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(LoRAError, match="damaged"):
        inspect_lora(tmp_path / "torn.safetensors")
    save(name="b.safetensors")
    with pytest.raises(LoRAError, match="holds 2 .safetensors files"):
        find_lora(tmp_path)
    (tmp_path / "torn.safetensors").unlink()
    assert find_lora(tmp_path).name == "b.safetensors"


@pytest.mark.parametrize(
    "said", [{"r": "x"}, {"r": [4]}, {"r": 0}, {"r": 4, "lora_alpha": None}, {"lora_alpha": -1}]
)
def test_a_header_without_sense(save, said):
    with pytest.raises(LoRAError, match="header is damaged, .*: r is .*, lora_alpha is"):
        inspect_lora(save(header=settings(**said)))
    theirs = {"lora_config": json.dumps({"r": "4", "lora_alpha": 8})}  # finetrainers
    assert "does not say its alpha" in inspect_lora(save(header=theirs)).notes[0]


def test_a_file_of_rank_0(save):
    found = inspect_lora(save(weights(rank=0)))
    assert "lora_A has rank 0, lora_B 0" in found.problems[0] and "Problem" in found.describe()


def test_a_model_by_its_folder(save, tmp_path):
    folder = build_tiny(tmp_path / "model", "5b")
    assert inspect_lora(save(), folder).loads
    assert not inspect_lora(save(weights(width=64)), folder).loads


def test_an_alpha_nobody_wrote_down_is_noted(save):
    assert "alpha = rank" in inspect_lora(save()).notes[0]
    header = {"lora_config": json.dumps({"r": 4, "lora_alpha": 2})}  # finetrainers
    assert "trained strength is scale 0.5" in inspect_lora(save(header=header)).notes[0]


def test_clips_change_with_the_scale_and_their_recipes_name_the_file(save):
    pipe, file = tiny_pipeline(), save()
    base = generate(pipe, REQUEST)
    assert base.recipe["lora"] == []
    load_lora(pipe, file, scales=(0.0,))
    assert (generate(pipe, REQUEST).clip.frames == base.clip.frames).all()
    pipe = tiny_pipeline()
    load_lora(pipe, file, scales=(3.0,))
    made = generate(pipe, REQUEST)
    assert (made.clip.frames != base.clip.frames).any()
    sha = inspect_lora(file).sha256
    assert made.recipe["lora"] == [{"file": str(file), "sha256": sha, "scale": 3.0}]


def test_adapters_side_by_side_each_at_its_scale(save):
    one, two = save(), save(weights(rank=8), name="b.safetensors")
    pipe = tiny_pipeline()
    load_lora(pipe, one, two, scales=(0.5, 2.0))
    layer = next(m for m in pipe.transformer.modules() if hasattr(m, "scaling"))
    assert layer.scaling == {"lora_0": 0.5, "lora_1": 2.0}
    assert layer.active_adapters == ["lora_0", "lora_1"]
    with pytest.raises(LoRAError, match="2 LoRA files and 1 scales"):
        load_lora(pipe, one, two, scales=(1.0,))
    load_lora(pipe, one)  # a third, beside them
    assert layer.scaling == {"lora_0": 0.5, "lora_1": 2.0, "lora_2": 1.0}


def test_none_is_loaded_when_one_does_not_fit(save):
    pipe = tiny_pipeline()
    with pytest.raises(LoRAError, match="b.safetensors would have no effect"):
        load_lora(pipe, save(), save(weights(width=64), name="b.safetensors"))
    assert not hasattr(pipe.transformer, "peft_config")


def test_an_adapter_of_somebody_else_is_in_the_recipe_without_a_file(save):
    pipe = tiny_pipeline()
    file = save()
    pipe.load_lora_weights(file.parent, weight_name=file.name, adapter_name="mine")
    (entry,) = generate(pipe, REQUEST).recipe["lora"]
    assert entry == {"name": "mine", "file": None, "sha256": None, "scale": None}


def test_a_recipe_repeats_its_clip_with_its_adapter_or_says_what_is_missing(save, tmp_path):
    from vidgen_lab.generation.recipe import reproduce, save_generation

    folder, file = build_tiny(tmp_path / "model"), save()
    pipe = load_pipeline(folder)
    load_lora(pipe, file, scales=(2.0,))
    made = generate(pipe, REQUEST)
    clip = save_generation(made, tmp_path / "clip.mp4")
    again = reproduce(clip)
    assert (again.clip.frames == made.clip.frames).all()
    assert again.recipe["lora"] == made.recipe["lora"]
    save(weights(fill=0.1))  # another file in its place
    with pytest.raises(LoRAError, match="is not the file that the recipe's clip was made with"):
        reproduce(clip)
    file.unlink()
    with pytest.raises(LoRAError, match="there is no LoRA file"):
        reproduce(clip)


def test_a_clip_and_its_adapter_can_be_moved_and_tell_no_folder(save, tmp_path, monkeypatch):
    from vidgen_lab.generation.recipe import read_recipe, reproduce, save_generation

    pipe, folder = load_pipeline(build_tiny(tmp_path / "model")), tmp_path / "clips"
    (folder / "loras").mkdir(parents=True)
    inside, outside = save(name="clips/loras/a.safetensors"), save(name="b.safetensors")
    load_lora(pipe, inside, outside, scales=(2.0, 0.5))
    made = generate(pipe, REQUEST)
    clip = save_generation(made, folder / "clip.mp4")
    told = [entry["file"] for entry in json.loads(clip.with_suffix(".json").read_text())["lora"]]
    assert told == ["loras/a.safetensors", str(outside)]
    assert read_recipe(clip) == made.recipe
    monkeypatch.chdir(folder.rename(tmp_path / "elsewhere").parent)
    again = reproduce("elsewhere/clip.mp4")
    assert (again.clip.frames == made.clip.frames).all()
    assert again.recipe["lora"][0]["file"] == str(tmp_path / "elsewhere/loras/a.safetensors")


def test_a_recipe_with_a_senseless_adapter_is_none(tmp_path):
    from vidgen_lab.generation.recipe import read_recipe, save_generation

    clip = save_generation(generate(tiny_pipeline(), REQUEST), tmp_path / "clip.mp4")
    recipe = json.loads(clip.with_suffix(".json").read_text())
    for wrong in ("x", [3], [{"file": 3}], [{"file": "a", "sha256": "b", "scale": "1"}]):
        clip.with_suffix(".json").write_text(json.dumps(recipe | {"lora": wrong}))
        with pytest.raises(ValueError, match="no recipe of a clip: it has lora"):
            read_recipe(clip)


def test_scales_are_changed_without_loading_anew(save):
    pipe = tiny_pipeline()
    load_lora(pipe, save(), save(weights(blocks=1), name="b.safetensors"))
    set_scales(pipe, 0.5, 0)
    assert [entry["scale"] for entry in active_adapters(pipe)] == [0.5, 0.0]
    layer = pipe.transformer.transformer_blocks[0].attn1.to_q
    assert [layer.scaling[name] for name in pipe.adapters] == [0.5, 0.0]
    with pytest.raises(LoRAError, match="2 LoRA files and 1 scales"):
        set_scales(pipe, 1.0)
    with pytest.raises(LoRAError, match="must be finite: 1.0, nan"):
        set_scales(pipe, 1.0, float("nan"))


def test_what_was_taken_off_is_neither_loaded_anew_nor_recorded(save):
    pipe, one, two = tiny_pipeline(), save(), save(weights(rank=8), name="b.safetensors")
    load_lora(pipe, one)
    pipe.unload_lora_weights()
    assert active_adapters(pipe) == []
    load_lora(pipe, two, one, scales=(2.0, 0.5))
    pipe.delete_adapters("lora_0")
    load_lora(pipe, two)
    found = [(entry["file"], entry["scale"]) for entry in active_adapters(pipe)]
    assert sorted(found) == [(str(one), 0.5), (str(two), 1.0)]
    assert generate(pipe, REQUEST).recipe["lora"] == active_adapters(pipe)


def test_a_recipe_has_the_scales_that_are_at_work_whoever_set_them(save):
    pipe = tiny_pipeline()
    load_lora(pipe, save(header=settings(r=4, lora_alpha=6, target_modules=TARGETS)))
    pipe.set_adapters("lora_0", 0.3)
    assert [entry["scale"] for entry in active_adapters(pipe)] == [0.3]
    pipe.disable_lora()
    assert active_adapters(pipe) == []
    pipe.enable_lora()
    assert [entry["scale"] for entry in active_adapters(pipe)] == [0.3]


def test_the_dropout_of_a_training_is_off(save):
    pipe = tiny_pipeline()
    load_lora(
        pipe, save(header=settings(r=4, lora_alpha=4, lora_dropout=0.5, target_modules=TARGETS))
    )
    dropouts = [m for m in pipe.transformer.modules() if isinstance(m, torch.nn.Dropout) and m.p]
    assert dropouts and not any(module.training for module in dropouts)


def test_a_name_that_somebody_else_took_is_passed_over(save):
    pipe, file = tiny_pipeline(), save()
    pipe.load_lora_weights(file.parent, weight_name=file.name, adapter_name="lora_0")
    load_lora(pipe, file)
    assert list(pipe.transformer.peft_config) == ["lora_0", "lora_1"]
    assert [entry["file"] for entry in active_adapters(pipe)][-1] == str(file)


def test_an_adapter_of_another_kind_is_in_the_recipe_too():
    pipe = tiny_pipeline()
    pipe.transformer.add_adapter(LoKrConfig(r=2, target_modules=TARGETS), adapter_name="theirs")
    (entry,) = active_adapters(pipe)
    assert entry["name"] == "theirs" and entry["file"] is None


def test_a_fused_adapter_is_taken_out_before_its_scale_changes(save):
    pipe = tiny_pipeline()
    base = generate(pipe, REQUEST).clip.frames
    load_lora(pipe, save(), scales=(3.0,))
    pipe.fuse_lora()
    set_scales(pipe, 0)
    made = generate(pipe, REQUEST)
    assert abs(made.clip.frames.astype(int) - base).max() <= 1
    assert [entry["scale"] for entry in made.recipe["lora"]] == [0]


def test_what_was_unloaded_while_it_was_fused_is_in_the_recipe_without_a_file(save):
    pipe = tiny_pipeline()
    load_lora(pipe, save())
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    assert active_adapters(pipe) == [
        {"name": "lora_0", "file": None, "sha256": None, "scale": None}
    ]
