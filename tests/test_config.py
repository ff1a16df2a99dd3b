"""One reader for every typed setting: what it takes, and what it refuses in one line."""

from dataclasses import FrozenInstanceError, dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from omegaconf import OmegaConf

from vidgen_lab.config import ConfigError, load


@dataclass(frozen=True)
class Gates:
    min_motion: float = 0.1
    min_side: int = 256
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Settings:
    steps: int
    seed: int = 0
    split_seed: int = 0
    name: str = "a"
    note: str | None = None
    strict: bool = True
    out: Path = Path("runs")
    gates: Gates = field(default_factory=Gates)
    sizes: tuple[float, ...] = (1.0,)
    parts: dict[str, float] = field(default_factory=dict)
    named: dict[str, Gates] = field(default_factory=dict)
    list_of: tuple[Gates, ...] = (Gates(),)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError("steps must be positive")


@pytest.fixture
def file(tmp_path):
    def write(text: str) -> Path:
        (tmp_path / "settings.yaml").write_text(text, encoding="utf-8")
        return tmp_path / "settings.yaml"

    return write


def test_pairs_win_over_the_file_and_the_file_over_defaults(file):
    path = file("steps: 3\nseed: 1\nsplit_seed: ${seed}\ngates: {min_side: 64}\n")
    got = load(Settings, path, ["seed=2", "gates.min_motion=1e-3", "gates.size=[3, 4]"])
    assert got == Settings(3, 2, 2, gates=Gates(0.001, 64, (3, 4)))
    assert isinstance(got.gates.size, tuple) and isinstance(got.out, Path)


def test_what_is_not_given_keeps_its_default(file):
    assert load(Settings, {"steps": 1}) == load(Settings, None, ["steps=1"]) == Settings(1)
    assert load(Gates) == load(Gates, file("")) == Gates()


def test_dicts_and_settings_by_name():
    given = {
        "steps": 1,
        "sizes": [2, 3.5],
        "parts": {"text encoder": 9, "a.b/C-1": 0.5},
        "named": {"owner/model-1.5": {"min_side": 8}},
        "list_of": [{}, {"size": [1, 2]}],
    }
    got = load(Settings, given)
    assert got.sizes == (2.0, 3.5) and isinstance(got.sizes, tuple)
    assert got.parts == {"text encoder": 9.0, "a.b/C-1": 0.5}
    assert got.named == {"owner/model-1.5": Gates(min_side=8)}
    assert got.list_of == (Gates(), Gates(size=(1, 2)))


def test_settings_are_read_without_what_omegaconf_2_3_lacks(monkeypatch):
    """Colab's OmegaConf makes no structure of a dataclass with a Literal."""
    monkeypatch.delattr(OmegaConf, "structured")
    assert load(Settings, {"steps": 1}) == Settings(1)


def test_text_on_the_command_line_stays_text():
    got = load(Settings, None, ["steps=1", "name=12", "note=a: [b, c=d", "out=7", "parts={a: 1}"])
    assert (got.name, got.note, got.out) == ("12", "a: [b, c=d", Path("7"))
    assert got.parts == {"a": 1.0}
    assert load(Settings, None, ["steps=1", "note=null"]).note is None


@dataclass(frozen=True)
class Words:
    precision: Literal["no", "bf16"] = "bf16"


def test_a_word_that_yaml_takes_for_false_is_the_word_on_the_command_line():
    assert load(Words, None, ["precision=no"]).precision == "no"
    with pytest.raises(ConfigError, match="precision cannot be 'yes': it is one of 'no', 'bf16'"):
        load(Words, None, ["precision=yes"])


@dataclass(frozen=True)
class Outer:
    words: Words  # must be given


def test_a_value_where_settings_must_be_given_is_told_that():
    with pytest.raises(ConfigError, match=r"words has settings of its own: words\.NAME=VALUE"):
        load(Outer, {"words": "clips"})


def test_the_result_is_read_only():
    with pytest.raises(FrozenInstanceError):
        load(Settings, {"steps": 1}).seed = 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sed": 1}, "there is no setting sed; did you mean seed?"),
        ({"gates": {"min_moton": 1}}, "no setting gates.min_moton; did you mean gates.min_motion?"),
        ({"min_side": 1}, "there is no setting min_side; did you mean gates.min_side?"),
        ({"named": {"x": {"min_sid": 1}}}, "named.x.min_sid; did you mean named.x.min_side?"),
        ({"gates": {"zzz": 1}}, "there is no setting gates.zzz; known: min_motion, min_side, size"),
        (
            {"list_of": [{"min_sid": 1}]},
            "no setting list_of[0].min_sid; did you mean list_of[0].min_side?",
        ),
        ({"list_of": [3]}, "list_of[0] has settings of its own"),
        ({"gates": 3}, "gates has settings of its own: gates.NAME=VALUE"),
        ({"seed": "3"}, "seed cannot be '3': it is int"),
        ({"seed": 1.5}, "seed cannot be 1.5: it is int"),
        ({"seed": True}, "seed cannot be True: it is int"),
        ({"seed": [1]}, "seed cannot be [1]: it is int"),
        ({"seed": {"a": 1}}, "seed cannot be {'a': 1}: it is int"),
        ({"seed": None}, "seed cannot be None: it is int"),
        ({"strict": 1}, "strict cannot be 1: it is bool"),
        ({"strict": "yes"}, "strict cannot be 'yes': it is bool"),
        ({"name": 3}, "name cannot be 3: it is str"),
        ({"gates": {"min_motion": float("nan")}}, "gates.min_motion cannot be nan: it is float"),
        ({"gates": {"min_motion": "nan"}}, "gates.min_motion cannot be 'nan': it is float"),
        ({"gates": {"size": 3}}, "gates.size cannot be 3: it is tuple[int, int] | None"),
        ({"gates": {"size": ["a", 3]}}, "gates.size[0] cannot be 'a': it is int"),
        ({"sizes": [float("nan")]}, "sizes[0] cannot be nan: it is float"),
        ({"parts": {"a": "x"}}, "parts.a cannot be 'x': it is float"),
        ({"seed": "${nowhere}"}, "Interpolation key 'nowhere' not found"),
        ({"steps": 0}, "steps must be positive"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(given, message):
    with pytest.raises(ConfigError) as error:
        load(Settings, {"steps": 1} | given, where="here")
    assert str(error.value).startswith("here: ") and "\n" not in str(error.value)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("seed", "settings are given as name=value, not 'seed'"),
        ("seed=a", "seed cannot be 'a': it is int"),
        ("seed=[1", "seed=[1: not valid YAML: "),
        ("gates.min_motion=.nan", "gates.min_motion cannot be nan: it is float"),
        ("gates.sid=1", "there is no setting gates.sid; known: min_motion, min_side, size"),
        ("gate.size=1", "there is no setting gate; did you mean gates?"),
        ("seed.x=1", "seed cannot be {'x': 1}: it is int"),
    ],
)
def test_a_mistake_in_a_pair(pair, message):
    with pytest.raises(ConfigError) as error:
        load(Settings, {"steps": 1}, [pair])
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: [", "not valid YAML: "),
        ("just words", "must hold lines of the form 'name: value'"),
        ("- 1", "must hold lines of the form 'name: value'"),
        ("seed: 1", "steps must be given"),
        ("steps: 1\nsteps: 2", "found duplicate key"),
    ],
)
def test_a_mistake_in_the_file_names_the_file(file, text, message):
    path = file(text)
    with pytest.raises(ConfigError) as error:
        load(Settings, path)
    assert str(error.value).startswith(f"{path}: ") and message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_in_another_encoding_is_named(tmp_path):
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"name: caf\xe9")
    with pytest.raises(ConfigError, match=r"latin\.yaml: 'utf-8' codec"):
        load(Settings, path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(Settings, tmp_path / "none.yaml")
