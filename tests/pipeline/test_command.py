"""What `vidgen-lab prepare` makes of its words."""

import argparse

import pytest

from vidgen_lab.pipeline import command
from vidgen_lab.pipeline.config import load_config


@pytest.fixture
def parse():
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args


@pytest.mark.parametrize(
    "words",
    [
        ("in", "out", "--set", "gates.min_side=96", "--set", "seed=3"),
        ("in", "out", "--set=gates.min_side=96", "seed=3"),
        ("--set", "gates.min_side=96", "in", "--workers", "2", "out", "seed=3"),
        ("gates.min_side=96", "in", "out", "--executor", "serial", "seed=3"),
    ],
)
def test_settings_may_stand_anywhere_with_and_without_the_option(parse, words):
    args = parse(list(words))
    assert (str(args.source), str(args.out)) == ("in", "out")
    assert args.settings == ["gates.min_side=96", "seed=3"]
    config = load_config(args.config, args.settings)
    assert (config.gates.min_side, config.seed) == (96, 3)


def test_an_option_without_its_setting_is_a_mistake(parse, capsys):
    with pytest.raises(SystemExit):
        parse(["in", "out", "--set"])
    assert "--set" in capsys.readouterr().err
