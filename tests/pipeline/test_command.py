"""What `vidgen-lab prepare` makes of its words."""

import pytest

from vidgen_lab import cli
from vidgen_lab.pipeline import command
from vidgen_lab.pipeline.config import load_config


@pytest.fixture
def parse(monkeypatch):
    """The arguments with which the command would be run."""
    seen = []
    made = "help", "prepare in out", command.add_arguments, seen.append
    monkeypatch.setattr(cli, "COMMANDS", {"prepare": made})

    def parse(*words):
        cli.main(["prepare", *words])
        return seen.pop()

    return parse


@pytest.mark.parametrize(
    "words",
    [
        ("in", "out", "gates.min_side=96", "seed=3"),
        ("--workers", "2", "in", "out", "gates.min_side=96", "seed=3"),
        ("in", "out", "--workers", "2", "gates.min_side=96", "seed=3"),
        ("in", "out", "gates.min_side=96", "--executor", "serial", "seed=3"),
    ],
)
def test_settings_may_stand_before_and_behind_options(parse, words):
    args = parse(*words)
    assert (str(args.source), str(args.out)) == ("in", "out")
    assert args.settings == ["gates.min_side=96", "seed=3"]
    config = load_config(args.config, args.settings)
    assert (config.gates.min_side, config.seed) == (96, 3)


@pytest.mark.parametrize("words", [("--nope", "seed=3"), ("--workers", "2", "seed")])
def test_what_is_no_setting_is_a_mistake(parse, capsys, words):
    with pytest.raises(SystemExit):
        parse("in", "out", *words)
    assert f"unrecognized arguments: {words[-1]}" in capsys.readouterr().err.replace("--nope ", "")
