"""Fine-tuning end to end on tiny random models: what is trained, saved, resumed and refused."""

import json
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    CogVideoXImageToVideoPipeline,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
)
from PIL import Image
from safetensors.torch import load_file

from tests.finetuning.clips import CAPTIONS, write_clips
from tests.finetuning.trained import trained_transformer
from tests.tiny_models import tiny_pipeline
from vidgen_lab.finetuning import trainer as trainer_module
from vidgen_lab.finetuning.config import FinetuneConfig, SampleConfig
from vidgen_lab.finetuning.dataset import DataConfig
from vidgen_lab.finetuning.export import SelfCheck, probe_inputs
from vidgen_lab.finetuning.lora import CogVideoLoRAConfig, widen
from vidgen_lab.finetuning.scaling import check_memory, forecast
from vidgen_lab.finetuning.specification import CogVideoXSpec
from vidgen_lab.finetuning.trainer import CogVideoTrainer
from vidgen_lab.generation.generate import generate_from_image
from vidgen_lab.generation.lora import load_lora
from vidgen_lab.generation.lora_file import LoRAError, inspect_lora
from vidgen_lab.generation.request import GenerationRequest, RequestError
from vidgen_lab.settings import hardware
from vidgen_lab.settings.tiers import ModelFacts
from vidgen_lab.training.config import TrainingConfig
from vidgen_lab.training.optim import OptimizerConfig

TRAINING = TrainingConfig(
    steps=4, log_every=1, checkpoint_every=2, precision="no", tensorboard=False, measure=False
)
OPTIMIZER = OptimizerConfig(learning_rate=0.02, warmup=0, schedule="constant")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("clips") / "five")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One cache for all runs: latents are of content, so they may share it."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def config(folders, clips, shared, tmp_path):
    return FinetuneConfig(
        DataConfig(clips, 9, 32, 32, batch_size=2, caption_dropout=0.0),
        tmp_path / "run",
        str(folders["2b"]),
        lora=CogVideoLoRAConfig(rank=4),
        optimizer=OPTIMIZER,
        training=TRAINING,
        cache=shared,
        check=False,
    )


def base(folder):
    return CogVideoXTransformer3DModel.from_pretrained(folder / "transformer").state_dict()


def test_folders_may_be_given_as_text():
    config = FinetuneConfig(DataConfig("clips", prior="more"), "run", cache="cache")
    assert (config.output, config.cache) == (Path("run"), Path("cache"))
    assert (config.data.folder, config.data.prior) == (Path("clips"), Path("more"))


def test_a_lora_is_trained_saved_and_sampled(config, folders):
    config = replace(
        config,
        data=replace(config.data, held_out=1),
        training=replace(TRAINING, validate_every=4, sample_every=4),
        samples=SampleConfig((CAPTIONS[0],), num_inference_steps=2, guidance_scale=2.0),
    )
    trainer = CogVideoTrainer(config)
    assert "text to video, sin-cos positions" in trainer.describe()
    assert "4 clips are trained on" in trainer.describe()
    result = trainer.fit()
    assert result.training.step == 4 and not result.training.interrupted
    found = inspect_lora(result.saved)
    assert found.loads and found.ranks == (4,)
    assert found.facts["steps"] == 4 and found.facts["clips"] == 4
    assert result.check is None  # a process of its own; test_own_videos.py starts one
    assert (config.output / "samples" / "step_00000004_0.mp4").is_file()
    assert any("held_out" in row for row in result.training.history)
    assert all(torch.isfinite(torch.tensor(row["loss"])) for row in result.training.history
               if "loss" in row)  # fmt: skip
    now = trainer.trainer.model.state_dict()
    for name, value in base(folders["2b"]).items():
        wrapped = name.replace(".weight", ".base_layer.weight").replace(".bias", ".base_layer.bias")
        assert torch.equal(now[name if name in now else wrapped], value), name


def test_a_file_that_is_not_as_trained_is_an_error(config, monkeypatch):
    weak = SelfCheck(effect=0.4, reloaded=0.2, scale_0=0, base=0, strength=0.5, tolerance=1e-5)
    monkeypatch.setattr("vidgen_lab.finetuning.trainer.self_checks", lambda jobs: [weak])
    with pytest.raises(LoRAError, match="loads, but NOT as trained: strength 0.5"):
        CogVideoTrainer(replace(config, check=True)).save(trained_transformer("2b"))


def test_a_stopped_run_ends_as_the_one_that_was_not(config):
    whole = CogVideoTrainer(replace(config, output=config.output / "whole")).fit()
    stopped = CogVideoTrainer(config)
    stopped.prepare()
    stopped.trainer._on_log = lambda row: setattr(stopped.trainer, "_stop", row["step"] == 2)
    first = stopped.fit()
    if first.training.interrupted:
        assert first.saved is None and first.training.step < 4
    again = CogVideoTrainer(config).fit()
    assert again.training.step == 4
    one, other = load_file(whole.saved), load_file(again.saved)
    assert one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def test_a_run_goes_not_on_with_other_settings(config, monkeypatch):
    CogVideoTrainer(config).fit()
    longer = replace(config, training=replace(TRAINING, steps=6))
    monkeypatch.setattr(
        "vidgen_lab.finetuning.trainer.encode_texts", lambda *_: pytest.fail("late")
    )
    with pytest.raises(ValueError, match="rank"):  # before anything is encoded
        CogVideoTrainer(replace(longer, lora=CogVideoLoRAConfig(rank=8))).fit()


def test_full_fine_tuning_gives_a_pipeline(config, folders):
    result = CogVideoTrainer(replace(config, method="sft")).fit()
    pipe = CogVideoXPipeline.from_pretrained(result.saved)
    now, before = pipe.transformer.state_dict(), base(folders["2b"])
    assert result.saved == config.output / "pipeline"
    changed = [name for name in before if not torch.equal(now[name], before[name])]
    assert len(changed) > 0.8 * len(before)
    assert json.loads((result.saved / "finetune.json").read_text())["method"] == "sft"


def test_the_last_blocks_alone(config, folders):
    result = CogVideoTrainer(replace(config, method="blocks", blocks=1)).fit()
    now, before = base(result.saved), base(folders["2b"])
    changed = {name for name in before if not torch.equal(now[name], before[name])}
    assert changed and all(name.startswith("transformer_blocks.1.") for name in changed)
    with pytest.raises(ValueError, match="has 2 blocks, not 3"):
        CogVideoTrainer(
            replace(config, method="blocks", blocks=3, output=config.output / "other")
        ).prepare()


def test_a_pipeline_of_somebody_else_is_not_replaced(config):
    trainer = CogVideoTrainer(replace(config, method="sft"))
    (config.output / "pipeline").mkdir(parents=True)
    (config.output / "pipeline" / "precious").write_text("x")
    with pytest.raises(FileExistsError, match="move it away"):  # before the first step
        CogVideoTrainer(replace(config, method="sft"))
    with pytest.raises(FileExistsError, match="move it away and run again"):  # it came meanwhile
        trainer.fit()
    assert (config.output / "pipeline" / "precious").read_text() == "x"
    assert not [*config.output.glob(".*.part")]
    (config.output / "pipeline").rename(config.output / "away")
    again = CogVideoTrainer(replace(config, method="sft"))
    assert again.fit().saved.is_dir() and again.trainer.step == 4  # trained once
    CogVideoTrainer(config)  # a LoRA writes no pipeline


def test_who_writes_into_the_result_changes_nothing_of_the_model_it_came_from(config, folders):
    before = {p: p.read_bytes() for p in folders["2b"].rglob("*") if p.is_file()}
    saved = CogVideoTrainer(replace(config, method="blocks")).fit().saved
    assert all(p.stat().st_nlink == 1 for p in saved.rglob("*") if p.is_file())
    CogVideoXPipeline.from_pretrained(str(saved), dtype=torch.float16).save_pretrained(saved)
    assert all(path.read_bytes() == data for path, data in before.items())


@pytest.mark.parametrize("method", ["sft", "blocks"])
def test_samples_of_weights_that_learn_beside_16_bits(config, method):
    training = replace(TRAINING, precision="bf16", sample_every=4)
    samples = SampleConfig((CAPTIONS[0],), num_inference_steps=2, guidance_scale=2.0)
    trainer = CogVideoTrainer(replace(config, method=method, training=training, samples=samples))
    result = trainer.fit()
    assert (config.output / "samples" / "step_00000004_0.mp4").is_file()
    pipe = CogVideoXPipeline.from_pretrained(str(result.saved))
    pipe.set_progress_bar_config(disable=True)
    assert pipe(**trainer.requests[0].pipeline_arguments(pipe)).frames.shape == (1, 9, 32, 32, 3)


@pytest.mark.parametrize(
    "prompt,more,said",
    [
        ("", {}, "prompt is empty"),
        ("a ball", {"guidance_scale": 0.5}, "guidance_scale must be at least 1"),
        ("a ball", {"num_inference_steps": 0}, "num_inference_steps must be at least 1"),
        ("a ball", {"num_inference_steps": 2000}, "more than the 1000 steps"),
        ("a ball", {"seed": -1}, "seed must be at least 0"),
    ],
)
def test_samples_that_cannot_be_made_are_refused_before_the_first_step(config, prompt, more, said):
    with pytest.raises(RequestError, match=said):
        CogVideoTrainer(replace(config, samples=SampleConfig((prompt,), **more)))


@pytest.mark.parametrize(
    "scale,known,taken", [(None, 3.5, 3.5), (None, None, 6.0), (2.0, 3.5, 2.0)]
)
def test_samples_are_guided_as_suits_the_model(config, monkeypatch, scale, known, taken):
    facts = known and ModelFacts("tiny", "float32", fps=8, guidance_scale=known)
    monkeypatch.setattr(trainer_module, "model_facts", lambda name: facts)
    samples = SampleConfig((CAPTIONS[0],), guidance_scale=scale)
    (request,) = CogVideoTrainer(replace(config, samples=samples)).requests
    assert request.guidance_scale == taken


@pytest.mark.parametrize("layout", ["2b", "1.5"])
def test_a_widened_model_says_what_the_narrow_one_said(layout, folders):
    narrow, wide = (tiny_pipeline(layout).transformer.eval() for _ in range(2))
    widen(wide)
    spec = CogVideoXSpec.from_folder(folders[layout])
    given = probe_inputs(spec)
    more = dict(given) | {
        "hidden_states": torch.cat([given["hidden_states"]] * 2, dim=2)  # any first frame
    }
    with torch.no_grad():
        one, other = narrow(**given)[0], wide(**more)[0]
    torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-6)
    assert wide.config.in_channels == 2 * narrow.config.in_channels


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_image_to_video_by_lora_and_input_layer(config, folders, tmp_path, precision):
    Image.new("RGB", (64, 32), (200, 30, 30)).save(tmp_path / "first.png")
    config = replace(
        config,
        input_layer=True,  # the model itself makes videos of texts
        training=replace(TRAINING, sample_every=4, precision=precision),
        samples=SampleConfig((CAPTIONS[0],), (tmp_path / "first.png",), 2, 2.0),
        check=precision == "bf16",
    )
    with pytest.raises(FileNotFoundError, match="none.png"):
        samples = replace(config.samples, images=(tmp_path / "none.png",))
        CogVideoTrainer(replace(config, samples=samples))
    with pytest.raises(ValueError, match="give samples.images"):
        CogVideoTrainer(replace(config, samples=SampleConfig((CAPTIONS[0],))))
    trainer = CogVideoTrainer(config)
    result = trainer.fit()
    assert (config.output / "samples" / "step_00000004_0.mp4").is_file()
    pipe = CogVideoXImageToVideoPipeline.from_pretrained(config.output / "pipeline")
    layer = pipe.transformer.patch_embed.proj.weight
    assert layer[:, 4:].abs().sum() > 0  # the half that reads the first frame has learned
    load_lora(pipe, result.saved)
    if precision == "bf16":  # the input layer learned in float32 beside a base in 16 bits
        assert result.check.passed
        return
    given = probe_inputs(trainer.spec)
    with torch.no_grad():
        loaded = pipe.transformer(**given)[0]
        trained = trainer.trainer.model.eval()(**given)[0]
    torch.testing.assert_close(loaded, trained, rtol=1e-5, atol=1e-5)


def test_a_base_of_eight_bits_is_trained_and_checked_as_such(config, folders):
    pytest.importorskip("torchao", "0.16", reason="int8 needs torchao, which is not installed")
    trainer = CogVideoTrainer(replace(config, quantize="int8", check=True))
    result = trainer.fit()
    layer = trainer.trainer.model.transformer_blocks[0].attn1.to_q.base_layer.weight
    assert type(layer).__name__ == "Int8Tensor" and layer.qdata.dtype == torch.int8
    check = result.check
    assert check.passed and check.base == check.scale_0 == 0 and check.effect > 0
    assert inspect_lora(result.saved).facts["quantize"] == "int8"
    whole = CogVideoXPipeline.from_pretrained(folders["2b"])  # the file fits the whole base too
    load_lora(whole, result.saved)


def test_fewer_bits_are_refused_where_they_cannot_be_had(config, monkeypatch):
    def version(name):
        if name == "torchao":
            return "0.10.0"
        raise PackageNotFoundError(name)

    monkeypatch.setattr("vidgen_lab.finetuning.scaling.version", version)
    with pytest.raises(ValueError, match="needs torchao 0.16 or newer, and 0.10.0 is installed"):
        CogVideoTrainer(replace(config, quantize="int8"))
    with pytest.raises(ValueError, match="needs bitsandbytes .*none is installed: pip install"):
        CogVideoTrainer(replace(config, quantize="int4"))
    for wrong in ({"method": "sft"}, {"input_layer": True}):
        with pytest.raises(ValueError, match="a base that stays frozen"):
            replace(config, quantize="int8", **wrong)


def test_a_run_that_cannot_fit_is_refused_before_anything_is_loaded(config, monkeypatch):
    trainer = CogVideoTrainer(replace(config, method="sft"))
    total = 35_616  # of the tiny model
    cpu = torch.device("cpu")
    assert check_memory(trainer.trainable, cpu, torch.float32) == 16 * total / 2**30
    lora = CogVideoTrainer(config)
    learnt = 16 * 2 * 4 * 4 * 64
    assert check_memory(lora.trainable, cpu, torch.bfloat16) == (2 * total + learnt) / 2**30
    small = check_memory(lora.trainable, cpu, torch.bfloat16, "int4")
    assert small == (total / 2 + learnt) / 2**30
    small = replace(hardware.probe(), ram_gib=0.0001)
    monkeypatch.setattr("vidgen_lab.finetuning.scaling.probe", lambda: small)
    with pytest.raises(ValueError, match="alone take 0.0 GiB, and there are 0.0: take method=lora"):
        trainer.prepare()
    assert not config.output.exists()


def test_published_models_get_a_forecast(config, folders):
    trainer = CogVideoTrainer(config)
    assert forecast(trainer.spec, config) is None and "Forecast" not in trainer.describe()
    known = trainer.spec.transformer | dict(num_layers=30, num_attention_heads=30)
    known["attention_head_dim"] = 64
    trainer.spec = replace(trainer.spec, transformer=known)
    plan = forecast(trainer.spec, config)
    assert plan.model == "CogVideoX-2B"
    small = forecast(trainer.spec, replace(config, quantize="int8"))
    assert plan.training["weights"] - small.training["weights"] == pytest.approx(1.694e9 / 2**30)
    assert "Forecast: ddp on 1: training weights" in trainer.describe()


def test_what_is_left_open_is_the_model_s_own_size(config):
    open_ = replace(config.data, num_frames=None, height=48, width=None, max_upscale=2.0)
    data = CogVideoTrainer(replace(config, data=open_)).config.data
    assert (data.num_frames, data.height, data.width) == (9, 48, 32)


def test_what_cannot_work_is_refused_before_anything_is_loaded(config, folders):
    with pytest.raises(RequestError, match="num_frames=10"):
        CogVideoTrainer(replace(config, data=replace(config.data, num_frames=10)))
    with pytest.raises(ValueError, match="leave none to train on"):
        CogVideoTrainer(replace(config, data=replace(config.data, held_out=5)))
    with pytest.raises(FileNotFoundError):
        CogVideoTrainer(replace(config, model="no-such-model"))
    with pytest.raises(FileNotFoundError):
        CogVideoTrainer(replace(config, data=replace(config.data, folder=config.output)))


def test_words_that_the_embedded_model_cannot_read_are_named(config, tmp_path):
    folder = write_clips(tmp_path / "own", 1)
    (folder / "prompts.txt").write_text("a red ball in the snow\n")
    data = DataConfig(folder, 4, max_upscale=3.0, captions="both", trigger="zorg style")
    config = replace(config, model="toy-cogvideox", data=data)
    assert "words it does not know: zorg\n" in CogVideoTrainer(config).describe()
    known = replace(config, data=replace(data, captions="description"))
    assert "does not know" not in CogVideoTrainer(known).describe()


def test_a_picture_of_another_shape_is_cut_as_in_training_and_not_stretched(folders):
    pipe = CogVideoXImageToVideoPipeline.from_pretrained(str(folders["5b-i2v"]))
    shown = []
    pipe.video_processor.preprocess = lambda image, **_: shown.append(np.asarray(image)) or 1 / 0
    picture = np.zeros((32, 96, 3), np.uint8)
    picture[:, 32:64] = 200  # the square in the middle is all that is seen
    request = GenerationRequest("a", num_frames=9, height=32, width=32, num_inference_steps=2)
    with pytest.raises(ZeroDivisionError):
        generate_from_image(pipe, Image.fromarray(picture), request)
    assert shown[0].shape == (32, 32, 3) and (shown[0] == 200).all()
