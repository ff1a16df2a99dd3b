"""Two processes on a CPU, started by accelerate with the file that ships, train what one does."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from tests.finetuning.clips import write_clips
from vidgen_lab.finetuning.config import load_config
from vidgen_lab.finetuning.scaling import LAUNCH
from vidgen_lab.finetuning.trainer import CogVideoTrainer


@pytest.fixture
def settings(folders, tmp_path):
    clips = write_clips(tmp_path / "clips", count=4)
    return [
        f"data.folder={clips}", f"model={folders['2b']}", "data.num_frames=9", "data.height=32",
        "data.width=32", "data.batch_size=1", "lora.rank=2", "training.steps=3", "check=false",
        "training.precision=no", "training.measure=false", "training.tensorboard=false",
        "optimizer.warmup=0", "training.log_every=1",
    ]  # fmt: skip


# Two commands in one launch, since starting it takes most of the time; the last one ends the group.
BOTH = """
import atexit
import runpy
import sys
from vidgen_lab.cli import main


class Last:
    def __del__(self):
        print("the interpreter was taken down")


last = Last()
atexit.register(print, "its own end was waited for")
command = ["finetune", "toy-lora", *sys.argv[1:]]
assert main([*command, "output=ddp"]) == 0
sys.argv[1:] = [*command, "training.strategy=fsdp", "output=fsdp"]
runpy.run_module("vidgen_lab", run_name="__main__")
"""


def test_two_processes_train_what_one_does(settings, tmp_path):
    alone = [*settings, f"output={tmp_path / 'one'}", "training.accumulation=2"]
    one = CogVideoTrainer(load_config("toy-lora", alone)).fit()
    (tmp_path / "both.py").write_text(BOTH, encoding="utf-8")
    launch = ["-m", "accelerate.commands.launch", "--config_file", str(LAUNCH / "cpu.yaml")]
    launch += ["--main_process_port", "0", str(tmp_path / "both.py")]
    done = subprocess.run(
        [sys.executable, *launch, *settings],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    # not to its very end, where a thread of gloo's aborts it now and then
    assert done.stdout.count("its own end was waited for") == 2
    assert "the interpreter was taken down" not in done.stdout
    for name in ("ddp", "fsdp"):
        two = load_file(tmp_path / name / one.saved.name)
        for key, value in load_file(one.saved).items():
            torch.testing.assert_close(two[key], value, rtol=1e-4, atol=1e-6, msg=f"{name} {key}")


def test_a_launch_by_deepspeed_is_refused(settings, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(ValueError, match="shards by itself"):
        CogVideoTrainer(load_config("toy-lora", settings))


def test_a_sharded_model_makes_no_samples(settings):
    more = ["training.strategy=fsdp", "samples.prompts=[a rose]"]
    with pytest.raises(ValueError, match="leave samples.prompts empty"):
        CogVideoTrainer(load_config("toy-lora", [*settings, *more]))
