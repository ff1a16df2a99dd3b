"""Every public reader and whatever a file may hold: an answer, or an error of one line."""

import os
import shutil

import pytest
import torch

from tests.hostile.checks import contents
from vidgen_lab.config import read_yaml
from vidgen_lab.generation.lora_file import inspect_lora
from vidgen_lab.generation.recipe import read_recipe
from vidgen_lab.generation.request import ModelLimits
from vidgen_lab.latte import Latte
from vidgen_lab.latte.diffusion.schedule import NoiseScheduler
from vidgen_lab.latte.vae import FrameVAE
from vidgen_lab.metrics.adherence import prompt_adherence
from vidgen_lab.metrics.basics import evaluate_video_basics
from vidgen_lab.paths import model_dir
from vidgen_lab.pipeline.config import load_config
from vidgen_lab.pipeline.manifest import read_manifest
from vidgen_lab.pipeline.read.sources import read_rights
from vidgen_lab.settings.runs import load_runs
from vidgen_lab.settings.weights import check_model_folder, check_safetensors
from vidgen_lab.toyworld.raw import read_truth
from vidgen_lab.training.data.clips import read_clips
from vidgen_lab.video.reader import probe_video, read_clip
from vidgen_lab.video.show import show_video
from vidgen_lab.workbook.artefacts import artefact_fault
from vidgen_lab.workbook.runner import read_notebook

CONTENTS = {
    "nothing": b"",
    "bytes": b"\xff\xfe\x00\x01",
    "zeros": bytes(1000),
    "words": b"no such thing\n",
    "a brace": b"{",
    "a list": b"[]\n",
    "null": b"null\n",
    "a number": b"1e400\n",
    "an object": b'{"a": 1}\n',
    "rows": b'{"file_name": 3, "text": []}\n{"clip_id": {}}\n',
    "no end of lists": b"[" * 100_000,
    "a long line": b"a" * 200_000 + b"\n",
    "tags": b"<img src=x onerror=alert(1)>\n",
}


def _in_folder(read, name):
    """For readers that take the folder of a file."""
    return lambda path: read(path.rename(path.with_name(name)).parent)


def _as_part(read, model, name):
    """For readers of a model's folder in which one file is spoilt."""

    def call(path):
        spoilt = path.parent / "model" / name
        shutil.copytree(model_dir(model), path.parent / "model", copy_function=os.symlink)
        spoilt.unlink()
        shutil.copyfile(path, spoilt)
        try:
            return read(path.parent / "model")
        finally:
            shutil.rmtree(path.parent / "model")

    return call


READERS = {
    "probe_video": (probe_video, "a.mp4"),
    "read_clip": (read_clip, "a.mkv"),
    "evaluate_video_basics": (evaluate_video_basics, "a.mp4"),
    "prompt_adherence": (lambda path: prompt_adherence(path, "a red ball"), "a.mp4"),
    "show_video": (show_video, "a.mp4"),
    "read_recipe": (read_recipe, "a.json"),
    "inspect_lora": (inspect_lora, "a.safetensors"),
    "check_safetensors": (check_safetensors, "a.safetensors"),
    "read_clips of metadata.jsonl": (read_clips, "metadata.jsonl"),
    "read_clips of a table": (read_clips, "open_sora.csv"),
    "read_notebook": (read_notebook, "a.ipynb"),
    "load_runs": (load_runs, "a.jsonl"),
    "read_manifest": (read_manifest, "a.jsonl"),
    "read_truth": (_in_folder(read_truth, "truth.jsonl"), "a"),
    "read_rights": (_in_folder(read_rights, "rights.csv"), "a"),
    "read_yaml": (read_yaml, "a.yaml"),
    "load_config": (load_config, "a.yaml"),
    "artefact_fault of a video": (artefact_fault, "a.mp4"),
    "artefact_fault of a table": (artefact_fault, "a.csv"),
    "artefact_fault of an array": (artefact_fault, "a.npz"),
    "artefact_fault of JSON": (artefact_fault, "a.json"),
    "check_model_folder": (
        _as_part(check_model_folder, "toy-cogvideox", "model_index.json"),
        "a",
    ),
    "check_model_folder of shards": (
        _as_part(
            check_model_folder,
            "toy-cogvideox",
            "transformer/diffusion_pytorch_model.safetensors.index.json",
        ),
        "a",
    ),
    "ModelLimits": (
        _as_part(ModelLimits.from_folder, "toy-cogvideox", "vae/config.json"),
        "a",
    ),
    "NoiseScheduler": (
        _as_part(NoiseScheduler.from_diffusers, "toy-latte", "scheduler/scheduler_config.json"),
        "a",
    ),
}


@pytest.mark.parametrize("what", CONTENTS)
@pytest.mark.parametrize("name", READERS)
def test_a_reader_answers_or_says_why_not(tmp_path, monkeypatch, name, what):
    read, file = READERS[name]
    path = tmp_path / file
    path.write_bytes(CONTENTS[what])
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch.load was called"))
    before = set(contents(tmp_path).values())
    try:
        read(path)
    except (ValueError, OSError) as error:
        assert str(error) and len(" ".join(str(error).split())) < 2000
    assert set(contents(tmp_path).values()) == before


@pytest.mark.parametrize("name", [n for n in READERS if not n.startswith(("artefact", "check_m"))])
def test_a_file_that_is_not_there_or_a_folder(tmp_path, name):
    read, file = READERS[name]
    for make in (lambda path: None, lambda path: path.mkdir()):
        make(tmp_path / file)
        try:
            read(tmp_path / file)
        except (ValueError, OSError) as error:
            assert str(error)


@pytest.mark.parametrize("load", [Latte.from_diffusers, FrameVAE.from_diffusers])
@pytest.mark.parametrize("what", CONTENTS)
def test_weights_that_are_none(tmp_path, monkeypatch, load, what):
    part = "transformer" if load == Latte.from_diffusers else "vae"
    shutil.copytree(model_dir("toy-latte") / part, tmp_path / part, copy_function=os.symlink)
    (weights,) = (tmp_path / part).glob("*.safetensors")
    weights.unlink()
    weights.write_bytes(CONTENTS[what])
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch.load was called"))
    with pytest.raises((ValueError, OSError)):
        load(tmp_path)
