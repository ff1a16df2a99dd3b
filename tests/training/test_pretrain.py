"""The `pretrain` command: settings by name, clear errors, and shipping only what was measured."""

import pytest
from vidgen_lab.training.pretrain import RECIPES, changed

from vidgen_lab.cli import main


def test_numbers_of_a_recipe_can_be_changed_by_name():
    config = RECIPES["cpu"]["transformer"]
    assert changed(config, [("steps", "7"), ("learning_rate", "1e-4")]).steps == 7
    assert changed(config, [("learning_rate", "1e-4")]).learning_rate == 1e-4
    with pytest.raises(ValueError, match="unknown setting 'stepz'; known: heads, head_dim"):
        changed(config, [("stepz", "7")])


def test_parts_out_of_order_say_what_to_do_first(tmp_path, capsys):
    assert main(["pretrain", "transformer", "--out", str(tmp_path)]) == 1
    assert "run `vidgen-lab pretrain vae` first" in capsys.readouterr().err
    assert main(["pretrain", "latte", "--out", str(tmp_path)]) == 1
    assert "run `vidgen-lab pretrain frame-vae` first" in capsys.readouterr().err
    for part in ("ship", "ship-latte"):
        assert main(["pretrain", part, "--out", str(tmp_path)]) == 1
        assert "train it with `vidgen-lab pretrain` first" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_gpu_recipe_is_the_longer_one():
    for part in ("vae", "transformer", "judge", "frame-vae", "latte"):
        assert RECIPES["gpu"][part].steps > RECIPES["cpu"][part].steps
        assert RECIPES["gpu"][part].clips > RECIPES["cpu"][part].clips
