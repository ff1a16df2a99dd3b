"""Settings of a run: typed, frozen, every one of them read; the command that trains from them."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest
import torch

import vidgen_lab
from vidgen_lab.cli import main
from vidgen_lab.config import ConfigError
from vidgen_lab.training import config as config_module
from vidgen_lab.training.config import RunConfig, listed, load_run, sweep
from vidgen_lab.training.latte_run import build_trainer
from vidgen_lab.training.optim import OptimizerConfig
from vidgen_lab.video.reader import probe_video


@pytest.mark.parametrize("name", listed())
def test_every_listed_configuration_loads_and_its_optimizer_schedule_ends_right(name):
    config = load_run(name)
    assert listed()[name].endswith(".") and config.output.startswith("runs/")
    factor = config.optimizer.factor(config.training.steps)
    assert factor(0) > 0 and factor(config.training.steps + 5) <= 1
    config.diffusion.build()


def test_what_is_mistyped_is_refused_with_the_nearest_name():
    for pair, said in (
        ("training.batchsize=8", "no setting training.batchsize"),
        ("training.acumulation=8", "did you mean training.accumulation"),
        ("optimizer.learning_rate=abc", "optimizer.learning_rate cannot be 'abc'"),
        ("diffusion.prediction=eps", "diffusion.prediction cannot be 'eps'"),
        ("training.steps=0", "steps must be 1 or more"),
        ("output=", "output names the folder of the run"),
        ("training.seed=-1", "seed must lie in"),
        ("dataset.epochs=0", "epochs must be 1 or more"),
        ("diffusion.expert_boundary=875", "expert_boundary must lie in 0..1"),
    ):
        with pytest.raises(ConfigError, match=said):
            load_run("tiny", [pair])
    with pytest.raises(FileNotFoundError, match="no configuration tinny; listed configs: latte_s2"):
        load_run("tinny")
    config = load_run("tiny", ["optimizer.learning_rate=1e-4"])
    assert config.optimizer.learning_rate == 1e-4  # not the text, as plain YAML has it
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.training.steps = 5
    assert dataclasses.asdict(config)["training"]["steps"] == 20


def test_every_setting_is_read_by_code():
    folder = Path(vidgen_lab.__file__).parent / "training"
    source = {f: f.read_text() for f in folder.rglob("*.py")}
    own = source.pop(Path(config_module.__file__))
    others = "\n".join(source.values())
    methods = "\n".join(re.findall(r"    def .*(?:\n(?:        .*)?)*", own))
    text, unread = others + methods, []
    parts = {f.name: f.default_factory() for f in dataclasses.fields(RunConfig)
             if f.default_factory is not dataclasses.MISSING and f.name != "dataset"}  # fmt: skip
    parts["dataset"] = config_module.DatasetConfig("x")
    for part, settings in parts.items():
        for field in dataclasses.fields(settings):
            if not re.search(rf'\.{field.name}\b|_due\("{field.name}"|"{field.name}"', text):
                unread.append(f"{part}.{field.name}")
    assert unread == []


def test_a_sweep_goes_on_where_it_stopped(tmp_path):
    done = []

    def run(pairs, folder):
        done.append((pairs, folder.name))
        if len(done) == 3:
            raise KeyboardInterrupt
        return {"loss": len(done)}

    grid = {"optimizer.learning_rate": [0.1, 0.01], "training.seed": [0, 1]}
    with pytest.raises(KeyboardInterrupt):
        sweep(grid, run, tmp_path)
    rows = sweep(grid, run, tmp_path)
    assert [row["loss"] for row in rows] == [1, 2, 4, 5] and len(done) == 5
    assert done[0] == (
        ["optimizer.learning_rate=0.1", "training.seed=0"], "learning_rate=0.1,seed=0"
    )  # fmt: skip
    with (tmp_path / "sweep.jsonl").open("a") as file:
        file.write('{"key": "torn')
    assert rows == sweep(grid, run, tmp_path) and len(done) == 5
    sweep(grid, run, tmp_path, {"training": {"steps": 7}})  # other settings, other results
    assert len(done) == 9


def test_schedules_start_at_once_and_end_where_they_say():
    for name in ("constant", "cosine", "exponential", "stable_decay"):
        factor = OptimizerConfig(schedule=name, warmup=10, end=0.1).factor(100)
        assert factor(0) == pytest.approx(0.1) and factor(9) == pytest.approx(1.0)
        last = {"constant": 1.0, "stable_decay": 0.0}.get(name, 0.1)
        assert factor(100) == pytest.approx(last) == factor(250)
        OptimizerConfig(schedule=name, warmup=100).factor(100)(100)  # no division by zero
    for wrong, said in (
        ({"schedule": "exponential", "end": 0.0}, "never reaches end=0"),
        ({"end": -0.5}, "end must lie in 0..1"),
        ({"decay_share": 2.0}, "decay_share must lie"),
        ({"warmup": -3}, "warmup must be 0 or more"),
    ):
        with pytest.raises(ValueError, match=said):
            OptimizerConfig(**wrong)


def test_the_command_trains_and_goes_on(tmp_path, capsys):
    clips = tmp_path / "clips"
    size = ["--width", "32", "--height", "16", "--frames", "8"]
    assert main(["toyworld", str(clips), "--count", "8", *size]) == 0
    line = ["train", "tiny", f"dataset.folder={clips}", f"output={tmp_path / 'run'}"]
    line += ["dataset.height=16", "dataset.width=32", "dataset.stride=2"]
    line += ["dataset.held_out_clips=2"]
    line += ["training.steps=4", "training.checkpoint_every=2", "training.tensorboard=false"]
    line += ["training.log_every=1", "training.precision=no"]
    line += ["training.sample_every=4", "logging.prompts=[a ball]", "logging.sampling_steps=1"]
    assert main(line) == 0
    rate = probe_video(next((clips / "videos").glob("*.mp4"))).fps
    made = probe_video(tmp_path / "run/samples/step_00000004_0.mp4")
    assert made.fps == pytest.approx(rate / 2)  # every second frame: as fast as it was filmed
    said = capsys.readouterr()
    assert "processes: 1" in said.out and said.err == ""
    files = [tmp_path / "run" / name for name in ("placement.csv", "preview.mp4")]
    before = [file.read_bytes() for file in files]
    assert main([*line, "model.depth=4", "dataset.height=8", "dataset.width=16"]) == 1
    said = capsys.readouterr()
    assert "model.depth: 2 -> 4" in said.err and "--allow model.depth" in said.err
    assert "encode" not in said.out and [file.read_bytes() for file in files] == before
    assert main([*line, "training.steps=6", "--allow", "training.steps"]) == 0
    assert "resumed at step 4 of 6" in capsys.readouterr().out
    rows = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4, 5, 6]
    assert (tmp_path / "run/placement.csv").read_text().count("4/2x16x32") == 8
    assert (tmp_path / "run/placement.csv").read_text().count("held out") == 2
    assert (tmp_path / "run/preview.mp4").stat().st_size > 500
    assert main(["train", "--list"]) == 0 and "toy_latte" in capsys.readouterr().out
    few = ["dataset.held_out_clips=8", f"output={tmp_path / 'other'}"]
    assert main([*line, *few]) == 1
    assert "has 8 clips, and dataset.held_out_clips=8 keeps all" in capsys.readouterr().err
    wild = ["optimizer.learning_rate=1e30", "diffusion.prediction=x0", "training.steps=40"]
    assert main([*line, *wild, f"output={tmp_path / 'wild'}"]) == 1
    assert "error: the gradient is not finite" in capsys.readouterr().err
    grid = ["--sweep", "optimizer.betas=[0.9,0.95]", f"output={tmp_path / 'rates'}"]
    assert main([*line, *wild, *grid]) == 0  # one that diverges does not end the sweep
    assert "optimizer.betas=[0.9,0.95]  loss=diverged" in capsys.readouterr().out
    assert main([*line, "--sweep", "output=a,b"]) == 1
    assert "sweep another key" in capsys.readouterr().err
    assert main([*line, "model.init=toy-latte", f"output={tmp_path / 'init'}"]) == 1
    assert "makes clips of 8 frames: set dataset.num_frames" in capsys.readouterr().err
    assert main([*line, "dataset.models=toy-cogvideox", f"output={tmp_path / 'video'}"]) == 1
    assert "expected AutoencoderKL (a VAE for pictures)" in capsys.readouterr().err
    lines = (clips / "metadata.jsonl").read_text().splitlines()
    facts = {"num_frames": 3, "height": 16, "width": 32, "fps": 8.0}
    (clips / "few.jsonl").write_text(json.dumps(json.loads(lines[0]) | facts))
    few = [f"dataset.held_out={clips / 'few.jsonl'}", f"output={tmp_path / 'few'}"]
    assert main([*line, *few]) == 1
    assert "1 clips of dataset.held_out" in capsys.readouterr().err  # which are trained on
    shutil.copytree(clips, tmp_path / "copy")
    few[0] = f"dataset.held_out={tmp_path / 'copy/few.jsonl'}"
    assert main([*line, *few]) == 1
    assert "the clips that are held out: not one of 1 clips" in capsys.readouterr().err
    assert main([*line[:2], "dataset.folder=nowhere"]) == 1
    assert "no folder nowhere" in capsys.readouterr().err


def test_two_experts_part_where_the_schedule_has_their_level(tmp_path):
    clips = tmp_path / "clips"
    size = ["--width", "32", "--height", "16", "--frames", "4"]
    assert main(["toyworld", str(clips), "--count", "4", *size]) == 0
    pairs = [f"dataset.folder={clips}", f"output={tmp_path / 'run'}", "dataset.held_out_clips=1"]
    pairs += ["dataset.height=16", "dataset.width=32", "training.tensorboard=false"]
    pairs += ["diffusion.num_timesteps=200", "diffusion.expert_boundary=0.75"]
    assert build_trainer(load_run("tiny", pairs)).model.boundary == 150


def test_a_video_with_two_captions_is_learnt_with_both(tmp_path):
    from vidgen_lab.training.latte_run import Parts, build_dataset

    clips = tmp_path / "clips"
    size = ["--width", "32", "--height", "16", "--frames", "4"]
    assert main(["toyworld", str(clips), "--count", "2", *size]) == 0
    lines = (clips / "metadata.jsonl").read_text().splitlines()
    captions = ("a red ball", "a thing")
    rows = [json.loads(line) | {"text": caption} for line in lines for caption in captions]
    (clips / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = config_module.DatasetConfig(
        str(clips), held_out_clips=1, num_frames=4, height=16, width=32, caption_dropout=0.0
    )
    parts = Parts.load("toy-latte", config.max_text_length, torch.device("cpu"))
    loader, (held_out,) = build_dataset(config, parts, tmp_path / "run", 0)
    items = [loader.dataset[n] for n in range(2)]
    for item, caption in zip(items, captions, strict=True):
        text = parts.text.encode(caption)
        assert torch.allclose(item["text"], text.embeddings[0], atol=1e-6)
    # and it is either learnt or held out
    assert len(held_out["id"]) == 2 and not {*held_out["id"]} & {item["id"] for item in items}
