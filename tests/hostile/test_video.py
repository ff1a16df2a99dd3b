"""`vidgen-lab video` and whatever its prompt, numbers, model, output or recipe may hold."""

import json
import shutil
import struct

import pytest
import torch

from tests.hostile.checks import contents, ended, refused

SMALL = ("--tier", "ci", "--steps", "1", "--height", "32", "--width", "32", "--frames", "9")
BYTE = b"a \xff ball".decode("utf-8", "surrogateescape")  # as a shell hands it over


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ((), "say what the video shows"),
        (("",), "prompt is empty"),
        (("  \n\t",), "prompt is empty"),
        (("\u200b\u200b",), "prompt is empty"),
        (("\ufeff",), "prompt is empty"),
        ((BYTE,), "no text at position 3"),
        (("a\0ball",), "zero byte"),
        (("ball " * 5000,), "shorten"),
        (("a ball", "--negative-prompt", BYTE), "negative_prompt"),
        (("a ball", "--frames", "0"), "num_frames must be at least 1"),
        (("a ball", "--frames", "-9"), "num_frames must be at least 1"),
        (("a ball", "--frames", "10"), "num_frames=10"),
        (("a ball", "--frames", "8.5"), "invalid int"),
        (("a ball", "--frames", "999999999999999999999"), "num_frames="),
        (("a ball", "--height", "0"), "height must be at least 1"),
        (("a ball", "--height", "-16"), "height must be at least 1"),
        (("a ball", "--height", "33"), "height=33"),
        (("a ball", "--width", "20000"), "at most 16,384"),
        (("a ball", "--width", "abc"), "invalid int"),
        (("a ball", "--steps", "0"), "at least 1"),
        (("a ball", "--steps", "1000000"), "num_inference_steps=1000000"),
        (("a ball", "--steps", "1e3"), "invalid int"),
        (("a ball", "--guidance", "nan"), "guidance_scale must be finite"),
        (("a ball", "--guidance", "inf"), "guidance_scale must be finite"),
        (("a ball", "--guidance", "0"), "at least 1"),
        (("a ball", "--guidance", "-1e400"), "expected one argument"),
        (("a ball", "--seed", "-1"), "seed must be at least 0"),
        (("a ball", "--seed", str(2**70)), "seed must be at most"),
        (("a ball", "--seed", "1.5"), "invalid int"),
        (("a ball", "--tier", "nope"), "unknown tier 'nope'"),
        (("a ball", "--tier", ""), "unknown tier ''"),
        (("a ball", "--model", ""), "no name"),
        (("a ball", "--model", "  "), "no name"),
        (("a ball", "--model", "nope"), "no embedded model 'nope'"),
        (("a ball", "--model", "../nope"), "no model folder"),
        (("a ball", "--model", "a/b/c"), "no model folder"),
        (("a ball", "--model", "nothing"), "holds no model_index.json"),
        (("a ball", "--model", "full"), "holds no model_index.json"),
        (("a ball", "--model", "data.json"), "data.json"),
        (("a ball", "--model", "somebody/model"), "nothing is fetched unasked"),
        (("a ball", "--tier", "t4"), "12.5 GiB"),
        (("a ball", "--out", "clip.avi"), "as .mp4"),
        (("a ball", "--out", "clip"), "as .mp4"),
        (("a ball", "--out", ""), "as .mp4"),
        (("a ball", "--out", "nothing"), "as .mp4"),
        (("a ball", "--out", "data.mp4"), "is no recipe of a clip"),
        (("a ball", "--out", "clip.mp4"), "without the recipe"),
        (("a ball", "--out", "text.mp4/a.mp4"), "cannot write"),
        (("a ball", "--out", "a\0b.mp4"), "zero byte"),
        (("a ball", "--out", "x" * 300 + ".mp4"), "too long"),
        (("a ball", "--recipe", "none.json"), "there is no recipe"),
        (("a ball", "--lora", "none.safetensors"), "no LoRA file"),
        (("a ball", "--lora", "data.json"), "no .safetensors file"),
        (("a ball", "--lora", "nothing"), "nothing holds no .safetensors file"),
        (("a ball", "--lora-scale", "2"), "once for every LoRA file"),
        (("a ball", "--nope"), "unrecognized"),
        (("a ball", "another"), "unrecognized"),
    ],
    ids=lambda value: " ".join(map(ascii, value))[:60] if isinstance(value, tuple) else "",
)
def test_bad_words_are_refused(capsys, here, tiny, argv, says):
    model = () if "t4" in argv or "--model" in argv else ("--model", tiny)
    refused(capsys, here, "video", *SMALL, *model, *argv, says=says)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '"x"', "{}", "\0", "\xff", "[" * 50_000, '{"prompt": "a ball"}'],
    ids=lambda text: ascii(text[:20]),
)
def test_a_file_that_is_no_recipe(capsys, here, content):
    (here / "a.json").write_bytes(content.encode("latin-1"))
    refused(capsys, here, "video", "--recipe", "a.json", says="is no recipe of a clip")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"versions": ...}, "no versions"),
        ({"versions": 3}, "versions 3"),
        ({"dtype": ...}, "no dtype"),
        ({"dtype": "float64"}, "dtype 'float64'"),
        ({"dtype": ["float32"]}, "dtype"),
        ({"dtype": "auto"}, "dtype 'auto'"),
        ({"model": None}, "model None"),
        ({"model": " "}, "model ' '"),
        ({"model": 7}, "model 7"),
        ({"model": "nope"}, "nope"),
        ({"model": "/none/such"}, "no model folder"),
        ({"model": "somebody/model"}, "nothing is fetched unasked"),
        ({"model": "zai-org/CogVideoX-5b"}, "19.7 GiB"),
        ({"offload": "disk"}, "offload 'disk'"),
        ({"vae_tiling": "yes"}, "vae_tiling 'yes'"),
        ({"prompt": "\u200b"}, "prompt is empty"),
        ({"prompt": None}, "prompt must be text"),
        ({"prompt": "\ud800"}, "no text at position 1"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"seed": 1.5}, "whole number"),
        ({"seed": True}, "whole number"),
        ({"fps": 1e12}, "fps must be at most 1,000"),
        ({"fps": 0}, "fps must be at least 0.1"),
        ({"fps": float("nan")}, "fps must be finite"),
        ({"width": 20_000}, "at most 16,384"),
        ({"width": 33}, "width=33"),
        ({"num_frames": 10}, "num_frames=10"),
        ({"num_inference_steps": 10**9}, "num_inference_steps"),
        ({"guidance_scale": "high"}, "guidance_scale must be a number"),
        ({"lora": "x"}, "lora"),
        ({"lora": [{}]}, "lora"),
        ({"lora": [{"file": "none.safetensors", "sha256": "0", "scale": 1}]}, "no LoRA file"),
    ],
    ids=lambda value: ascii(value)[:50] if isinstance(value, dict) else "",
)
def test_a_spoilt_recipe_is_refused_before_the_work(capsys, here, recipe, change, says):
    made, file = recipe
    made = {name: value for name, value in (made | change).items() if value is not ...}
    file.write_text(json.dumps(made))
    refused(capsys, here, "video", "--recipe", file, says=says)


def _cut(file):
    file.write_bytes(file.read_bytes()[:500])


def _pickled(file):
    file.with_name("diffusion_pytorch_model.bin").write_bytes(b"code")
    file.unlink()


SPOILT = {
    "an index that is no JSON": ("model_index.json", lambda f: f.write_text("{"), "not valid JSON"),
    "an index that is a list": ("model_index.json", lambda f: f.write_text("[]"), "JSON object"),
    "an index of another pipeline": (
        "model_index.json",
        lambda f: f.write_text('{"_class_name": "StableDiffusionPipeline"}'),
        "not a CogVideoXPipeline",
    ),
    "an index with an empty part": (
        "model_index.json",
        lambda f: f.write_text(json.dumps(json.loads(f.read_text()) | {"vae": []})),
        "should name a library",
    ),
    "shards without a map": (
        "vae/diffusion_pytorch_model.safetensors",
        lambda f: f.with_name(f.name + ".index.json").write_text("{}"),
        "no weight_map",
    ),
    "shards of somewhere else": (
        "vae/diffusion_pytorch_model.safetensors",
        lambda f: f.with_name(f.name + ".index.json").write_text('{"weight_map": {"a": "../b"}}'),
        "is damaged",
    ),
    "weights cut off": ("transformer/diffusion_pytorch_model.safetensors", _cut, "cut off"),
    "pickled weights": ("transformer/diffusion_pytorch_model.safetensors", _pickled, "no .safe"),
    "a pointer": (
        "vae/diffusion_pytorch_model.safetensors",
        lambda f: f.write_text("version https://git-lfs"),
        "git lfs pull",
    ),
    "a header without end": (
        "vae/diffusion_pytorch_model.safetensors",
        lambda f: f.write_bytes(struct.pack("<Q", 2**62) + b"{}"),
        "damaged",
    ),
    "a part that is gone": ("vae/config.json", lambda f: shutil.rmtree(f.parent), "lacks its part"),
    "a configuration that is gone": ("scheduler/scheduler_config.json", lambda f: f.unlink(), ""),
    "a configuration that is no JSON": ("vae/config.json", lambda f: f.write_text("{"), "JSON"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_spoilt_model_is_refused(capsys, here, tiny, what, monkeypatch):
    name, spoil, says = SPOILT[what]
    shutil.copytree(tiny, here / "model")
    spoil(here / "model" / name)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch.load was called"))
    refused(capsys, here, "video", "a ball", *SMALL, "--model", "model", says=says)


@pytest.mark.parametrize(
    "prompt",
    [
        "../../etc/passwd",
        "con; rm -rf /",
        "<img src=x onerror=alert(1)>",
        "-- a ball",
        "球 " * 5,
        "!!!",
        "a ball\nin two lines",
    ],
)
def test_whatever_a_prompt_says_the_clip_lies_here(capsys, here, tiny, prompt):
    before = contents(here)
    assert ended("video", *SMALL, "--model", tiny, "--", prompt) == 0
    capsys.readouterr()
    new = {name for name in contents(here) if name not in before}
    assert len(new) == 2 and {name.rpartition(".")[2] for name in new} == {"mp4", "json"}
    assert not any("/" in name for name in new)
    assert {name: value for name, value in contents(here).items() if name in before} == before
    (recipe,) = (name for name in new if name.endswith(".json"))
    assert json.loads((here / recipe).read_text(encoding="utf-8"))["prompt"] == prompt
