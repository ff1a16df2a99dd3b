"""From a folder of videos to a clip with their adapter: `prepare`, `finetune`, `video`."""

import pytest

from tests.pipeline.samples import moving
from vidgen_lab import cli
from vidgen_lab.generation.recipe import read_recipe
from vidgen_lab.video.reader import read_clip
from vidgen_lab.video.writer import write_clip


@pytest.mark.timeout(1800)  # minutes of work where other programs run beside it
def test_three_commands_lead_from_videos_to_a_clip(folders, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    for n in range(3):
        write_clip(moving(n, num_frames=24), tmp_path / "mine" / f"{n}.mp4")
    model, word = str(folders["2b"]), "a red ball"  # all that the tiny tokenizer knows
    prepare = ["prepare", "mine", "ready", "--executor", "serial", "gates.min_side=64"]
    assert cli.main([*prepare, "split.val=0", "split.test=0"]) == 0
    assert (tmp_path / "ready" / "dataset" / "train" / "prompts.txt").is_file()
    learn = ["finetune", "toy-lora", "data.folder=ready/dataset/train", f"model={model}",
             "data.captions=trigger", f"data.trigger={word}", "data.batch_size=2", "lora.rank=2",
             "training.steps=2", "training.measure=false", "training.precision=no",
             "output=out"]  # fmt: skip
    assert cli.main(learn) == 0
    printed = capsys.readouterr().out  # told only of an adapter that has an effect
    assert "Check   as trained: strength 1.000" in printed
    show = ["video", word, "--model", model, "--lora", "out", "--out", "made.mp4", "--steps", "2"]
    assert cli.main([*show, "--frames", "9", "--height", "32", "--width", "32"]) == 0
    assert read_clip(tmp_path / "made.mp4").num_frames == 9
    assert '"file": "out/pytorch' in (tmp_path / "made.json").read_text(encoding="utf-8")
    recipe = read_recipe(tmp_path / "made.mp4")
    file = tmp_path / "out" / "pytorch_lora_weights.safetensors"  # found from any folder
    assert recipe["lora"][0]["file"] == str(file) and recipe["lora"][0]["scale"] == 1.0
