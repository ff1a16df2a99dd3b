import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from vidgen_lab.config import ConfigError
from vidgen_lab.workbook.parameters import check_parameters, read_parameters

CELL = """\
tier: str = "auto"  # ci, tiny, t4, ...
rate: float = 1e-4  # step size
steps: int | None = None
sizes: list[int] = [64, 96]
quick = False
"""


def notebook(source: str = CELL, tags: tuple[str, ...] = ("parameters",)) -> nbformat.NotebookNode:
    return new_notebook(cells=[new_code_cell(source, metadata={"tags": list(tags)})])


def test_reads_names_types_defaults_and_comments():
    known = read_parameters(notebook())
    assert list(known) == ["tier", "rate", "steps", "sizes", "quick"]
    assert (known["rate"].annotation, known["rate"].default) == ("float", 1e-4)
    assert known["rate"].help == "step size"
    assert known["quick"].annotation == ""


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match=r"tear; did you mean tier"):
        check_parameters(read_parameters(notebook()), typed={"tear": "ci"})
    with pytest.raises(ConfigError, match=r"tear; did you mean tier"):
        check_parameters(read_parameters(notebook()), {"tear": "ci"})


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("rate", "1e-3", 1e-3),  # YAML 1.1 reads this as a string
        ("rate", "2", 2.0),
        ("tier", "4090", "4090"),
        ("tier", "no", "no"),
        ("tier", "costs ${5}", "costs ${5}"),  # no interpolation
        ("steps", "1000", 1000),
        ("steps", "null", None),
        ("sizes", "[32, 48]", [32, 48]),
        ("quick", "true", True),
    ],
)
def test_command_line_strings_take_the_annotated_type(name, text, value):
    (result,) = check_parameters(read_parameters(notebook()), typed={name: text}).values()
    assert result == value
    assert type(result) is type(value)


def test_yaml_values_take_the_annotated_type():
    known = read_parameters(notebook())
    given = {"rate": 1e-3, "steps": 5, "sizes": [32]}
    assert check_parameters(known, given) == given
    assert check_parameters(known, given, {"rate": "2"}) == given | {"rate": 2.0}
    assert check_parameters(known, {"quick": "no"}) == {"quick": "no"}  # it has no type
    assert check_parameters(known, {"tier": "${steps}"}) == {"tier": "${steps}"}
    for slip in ({"rate": "1e-3"}, {"tier": 4090}, {"steps": 2.5}):
        with pytest.raises(ConfigError, match=next(iter(slip))):
            check_parameters(known, slip)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("steps", "2.5"),
        ("steps", "many"),
        ("rate", "fast"),
        ("sizes", "64"),
        ("sizes", "[a]"),
        ("rate", "true"),
        ("rate", "null"),
        ("tier", "???"),
    ],
)
def test_value_that_does_not_fit_is_refused(name, text):
    with pytest.raises(ConfigError, match=name):
        check_parameters(read_parameters(notebook()), typed={name: text})


@pytest.mark.parametrize("source", ["a = 1\nb = a + 1", "import os", "print(a)", "x: int"])
def test_only_literals_are_allowed(source):
    with pytest.raises(ConfigError, match="literals"):
        read_parameters(notebook(source))


def test_missing_tag_is_an_error():
    with pytest.raises(ConfigError, match="tagged"):
        read_parameters(notebook(tags=()))
