"""`python recipes/make.py`: one command a part, which says what is wrong before it works."""

import pytest

from recipes import make
from vidgen_lab.config import load


@pytest.mark.parametrize("part", make.PARTS)
def test_every_recipe_is_of_its_part(part):
    schema = make.PARTS[part][0]
    assert isinstance(load(schema, make.read_recipe(part)), schema)


def test_parts_out_of_order_say_what_to_make_first(tmp_path, capsys):
    for part, first in {
        "judge": "vae", "transformer": "vae", "latte": "frame-vae",
        "ship": "transformer", "ship-latte": "latte",
    }.items():  # fmt: skip
        assert make.main([part, "--out", str(tmp_path)]) == 1
        error = capsys.readouterr().err
        assert f"{tmp_path / first}/" in error and "is missing: make" in error
        assert f"make {first} first" in error
    assert not list(tmp_path.iterdir())


def test_a_setting_that_is_not_there_names_the_nearest(tmp_path, capsys):
    assert make.main(["text", "steps=7", "--out", str(tmp_path)]) == 1
    said = "there is no setting steps; did you mean training.steps?"
    assert said in capsys.readouterr().err
    assert make.main(["text", "training.steps=many", "--out", str(tmp_path)]) == 1
    assert "training.steps cannot be 'many': it is int" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        make.main(["everything"])
    assert "invalid choice: 'everything'" in capsys.readouterr().err


def test_numbers_can_be_changed_by_name(tmp_path, monkeypatch):
    given = []
    part = (make.TextConfig, lambda config, out: given.append((config, out)), ())
    monkeypatch.setitem(make.PARTS, "text", part)
    changes = ["training.steps=7", "optimizer.learning_rate=1e-4"]
    assert make.main(["text", *changes, "--out", str(tmp_path)]) == 0
    config, out = given[0]
    assert (config.training.steps, config.optimizer.learning_rate) == (7, 1e-4)
    assert out == tmp_path / "text" and config.batch == make.TextConfig().batch


@pytest.fixture
def shipping(tmp_path, monkeypatch):
    """Two parts that are ready, beside a model that is shipped already."""
    for source, target in make.SHIPPED["ship"].items():
        for folder, text in (
            (tmp_path / "runs" / source, "new"),
            (tmp_path / "models" / target, "old"),
        ):
            folder.mkdir(parents=True)
            (folder / "weights").write_text(text)
    (tmp_path / "models" / "toy-judge" / "left over").touch()
    cards = []
    monkeypatch.setattr("vidgen_lab.paths.data_dir", lambda: tmp_path)
    monkeypatch.setattr(make, "write_cards", lambda *arguments: cards.append(arguments))
    return tmp_path, cards


def shipped(folder):
    return {f.parent.name: f.read_text() for f in (folder / "models").rglob("weights")}


def test_shipping_asks_before_it_replaces(shipping, capsys, monkeypatch):
    folder, cards = shipping
    arguments = ["ship", "--out", str(folder / "runs")]
    assert make.main(arguments) == 1  # nobody is there to answer
    said = capsys.readouterr().out
    assert f"would replace {folder / 'models' / 'toy-cogvideox'} by" in said
    assert "nothing was changed; --yes replaces without asking" in said
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: "n")
    assert make.main(arguments) == 1
    assert set(shipped(folder).values()) == {"old"} and not cards
    monkeypatch.setattr("builtins.input", lambda question: "y")
    assert make.main(arguments) == 0
    assert set(shipped(folder).values()) == {"new"} and len(cards) == 1


def test_yes_replaces_without_asking(shipping):
    folder, cards = shipping
    assert make.main(["ship", "--yes", "--out", str(folder / "runs")]) == 0
    assert set(shipped(folder).values()) == {"new"}
    assert not (folder / "models" / "toy-judge" / "left over").exists()
    assert cards == [("ship", folder / "runs", folder / "runs" / "ship")]


def test_what_cannot_be_measured_replaces_nothing(shipping, monkeypatch):
    folder, _ = shipping
    monkeypatch.setattr(make, "write_cards", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        make.main(["ship", "--yes", "--out", str(folder / "runs")])
    assert set(shipped(folder).values()) == {"old"}
