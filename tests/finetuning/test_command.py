import shlex

import pytest

from tests.finetuning.clips import write_clips
from tests.finetuning.trained import trained_transformer
from vidgen_lab import cli
from vidgen_lab.finetuning.export import save_lora


def test_recipes_are_listed(capsys):
    assert cli.main(["finetune", "--list"]) == 0
    out = capsys.readouterr().out
    assert "toy-lora" in out and "on any processor" in out


def test_the_doctor(folders, tmp_path, capsys):
    file = save_lora(trained_transformer("2b", rank=4), tmp_path).path
    assert cli.main(["lora", str(file), "--model", str(folders["2b"])]) == 0
    assert "It loads, with effect." in capsys.readouterr().out
    assert cli.main(["lora", str(tmp_path / "none.safetensors")]) == 1
    assert "there is no LoRA file" in capsys.readouterr().err


SMALL = (
    "data.num_frames=9", "data.height=32", "data.width=32", "data.batch_size=2", "lora.rank=2",
    "training.steps=2", "training.precision=no", "training.measure=false", "check=false",
)  # fmt: skip


def test_finetune_and_use_the_result(folders, tmp_path, capsys, monkeypatch):
    clips = write_clips(tmp_path / "clips")
    monkeypatch.chdir(tmp_path)
    given = ["toy-lora", f"data.folder={clips}", f"model={folders['2b']}", *SMALL]
    assert cli.main(["finetune", *given, "--dry-run"]) == 0
    assert "5 clips are trained on" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()
    assert cli.main(["finetune", *given]) == 0
    out = capsys.readouterr().out
    assert "parameters are trained in 12 layers" in out
    saved = tmp_path / "runs" / "toy-lora" / "pytorch_lora_weights.safetensors"
    assert saved.is_file() and "Saved   runs/toy-lora/pytorch_lora_weights" in out
    _, video, _, *words = shlex.split(out.partition("Try     ")[2])  # as it is printed
    assert cli.main([video, "a ball", *words, "--steps", "1", "--out", "ball.mp4"]) == 0
    assert (tmp_path / "ball.mp4").is_file()


def test_settings_may_stand_behind_an_option(folders, tmp_path, capsys):
    clips = write_clips(tmp_path / "clips")
    given = ["--dry-run", f"data.folder={clips}", f"model={folders['2b']}", *SMALL]
    assert cli.main(["finetune", "toy-lora", *given]) == 0
    assert "5 clips are trained on" in capsys.readouterr().out


def test_mistakes_are_one_line(folders, tmp_path, capsys):
    clips = write_clips(tmp_path / "clips", count=2)
    (clips / "videos" / "1.mp4").unlink()
    given = ["toy-lora", f"data.folder={clips}", f"model={folders['2b']}", *SMALL]
    assert cli.main(["finetune", *given]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "entry 2, videos/1.mp4: there is no such file" in error
    assert cli.main(["finetune", *given, "lora.rank=0"]) == 1
    assert "rank must be 1 or more" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["finetune"], ["finetune", "no-such-recipe"]])
def test_what_is_missing(argv, capsys):
    assert cli.main(argv) == 1
    assert "error:" in capsys.readouterr().err
