import importlib.util
import json

import ipywidgets as w
import pytest
import yaml

from tests.workbook.test_built import built
from vidgen_lab.finetuning.config import load_config, recipes
from vidgen_lab.finetuning.scaling import LAUNCH
from vidgen_lab.training.parallel.plan import TRANSFORMERS, plan_training

deepspeed = built(5, "c115b").deepspeed
will_fit = built(5, "c109b", plan_training=plan_training)
command_for = built(5, "c112b").command_for
FILES = sorted(LAUNCH.glob("*.yaml"))


def test_what_zero_shards():
    states = built(5, "c103").states
    assert states(1.694e9, 1, 0)[0] == pytest.approx(25.24, abs=0.01)
    for stage in (1, 2, 3):  # on one GPU nothing is cut (erratum E51)
        assert states(1.694e9, 1, stage)[0] == pytest.approx(25.24, abs=0.01)
    assert states(1.694e9, 1, 2, offload=True) == pytest.approx((6.31, 18.93), abs=0.01)
    shares = [states(1, 1, 0)[0] / states(1, 8, stage)[0] for stage in (1, 2, 3)]
    assert [round(share, 1) for share in shares] == [2.9, 4.3, 8.0]


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_deepspeeds_settings_are_json_and_read_by_deepspeed(stage):
    read = json.loads(json.dumps(deepspeed(stage, offload=True)))
    zero = read["zero_optimization"]
    assert zero["stage"] == stage and "offload_optimizer" in zero
    assert ("offload_param" in zero) == (stage == 3)  # it offloads no weights that it does not cut
    assert read["bf16"]["enabled"] and not read["fp16"]["enabled"]
    if importlib.util.find_spec("deepspeed") is None:
        pytest.skip("deepspeed is not installed: its own reader was not asked")
    from deepspeed.runtime.config import DeepSpeedConfig as Reader

    own = Reader(read | {"train_batch_size": 4})
    assert own.zero_config.stage == stage


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_accelerate_reads_what_ships(file, monkeypatch):
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(file))
    assert (
        config.to_dict()["distributed_type"] == yaml.safe_load(file.read_text())["distributed_type"]
    )
    if config.deepspeed_config:
        from accelerate.utils.deepspeed import HfDeepSpeedConfig

        stage = config.deepspeed_config["zero_stage"]
        offload = config.deepspeed_config["offload_param_device"] != "none"
        HfDeepSpeedConfig(deepspeed(stage, offload))


def test_accelerate_launches_with_these_files():
    """Its own parser takes the file and the module; nothing is started."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    arguments = ["--config_file", str(LAUNCH / "cpu.yaml"), "-m", "vidgen_lab", "finetune", "x"]
    args = launch_command_parser().parse_args(arguments)
    args, *_ = _validate_launch_command(args)
    assert args.num_processes == 2 and args.use_cpu and args.module


def test_which_fine_tuning_fits():
    recipe_for = will_fit.recipe_for
    assert recipe_for(16) == recipe_for(24) == ("lora-2b", "ddp")
    assert recipe_for(40) == ("lora-5b", "ddp")
    assert recipe_for(40, full=True) == ("sft-2b", "ddp")
    assert recipe_for(80, gpus=8, full=True) == ("sft-5b", "fsdp2")
    with pytest.raises(ValueError, match="8 GiB are too little even for CogVideoX-2B"):
        recipe_for(8)


def test_the_calculator_says_what_the_planner_does_and_follows_its_controls():
    calculator = built(
        5, "c109b", "c109c", "c110", w=w, plan_training=plan_training, TRANSFORMERS=TRANSFORMERS
    )
    panel = calculator.calculator
    model, method, rank, gpus, memory, checkpointing = panel.controls.values()
    memory.value = 24
    plan = plan_training("CogVideoX-2B", rank=128, tiling=True)
    assert f"{plan.training_peak:.1f} GiB to train" in panel.summary() and plan.fits(24)
    assert "it fits 1 x 24 GiB; the largest recipe that fits: lora-2b" in panel.summary()
    method.value = "sft"
    assert "does not fit 1 x 24 GiB; 24 GiB are too little" in panel.summary()
    gpus.value = 8
    assert "it fits 8 x 24 GiB; the largest recipe that fits: sft-2b" in panel.summary()
    checkpointing.value = False
    assert "does not fit 8 x 24 GiB" in panel.summary()
    model.value, rank.value = "CogVideoX-5B", 4
    assert panel.summary().startswith("CogVideoX-5B by sft") and "ddp" not in panel.view.value


@pytest.mark.parametrize("memory,gpus,full", [(24, 1, False), (80, 1, False), (80, 8, True)])
def test_a_printed_command_is_one_that_its_tool_takes(memory, gpus, full):
    recipe, strategy = will_fit.recipe_for(memory, gpus, full)
    words = command_for(recipe, strategy, gpus).split()
    at = words.index(recipe)
    config = load_config(words[at], words[at + 1 :])
    assert str(config.data.folder) == "CLIPS"
    assert config.training.strategy == ("fsdp" if gpus > 1 else "auto")
    if gpus > 1:
        assert words[:2] == ["accelerate", "launch"] and words[words.index("--num_processes") + 1]


@pytest.mark.parametrize("name", recipes())
def test_recipes_are_settings(name):
    config = load_config(name, ["data.folder=clips", "lora.rank=8"])
    assert config.lora.rank == 8 and config.output.parts[0] == "runs"
    with pytest.raises(ValueError, match="data.folder must be given"):
        load_config(name)


def test_slips_in_settings_are_named():
    with pytest.raises(ValueError, match=r"lora\.ranks; did you mean lora\.rank"):
        load_config("toy-lora", ["data.folder=clips", "lora.ranks=8"])
    with pytest.raises(FileNotFoundError, match="recipes: .*toy-lora"):
        load_config("toy-lira")


def test_lora_or_sft():
    lora_or_sft = built(5, "c093", plan_training=plan_training).lora_or_sft
    assert lora_or_sft(50, False, True, 24)[0] == "lora"
    assert lora_or_sft(50, True, False, 80)[0] == "lora"
    assert lora_or_sft(5000, True, False, 80)[0] == "sft"
    assert "33 GiB" in lora_or_sft(5000, True, False, 24)[1]
