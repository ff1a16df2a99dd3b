"""The floors hold, and the check of them can fail."""

import sys

import pytest

from tests import floors

MODULES = floors.modules_in("vidgen_lab")


def test_no_import_leads_up_and_none_in_a_circle():
    assert list(floors.upward(MODULES)) == []
    assert list(floors.circles(MODULES)) == []


def test_no_room_is_too_large():
    assert list(floors.too_large(MODULES)) == []
    sizes = floors.sizes(MODULES)
    print(sizes.to_string(), "\n\ntogether", sizes.lines.sum(), "lines")  # for `make lint`
    assert list(sizes.index[:2]) == ["the ground", "settings"]


def test_imports_and_requirements_are_the_same():
    assert list(floors.requirements(MODULES)) == []


def test_the_package_itself_imports_nothing():
    text = (floors.ROOT / "vidgen_lab" / "__init__.py").read_text(encoding="utf-8")
    assert "import" not in text.replace("importing", "")


def test_latte_needs_torch_alone():
    for module in MODULES:
        if module.room == "latte":
            foreign = {name for name in module.at_top if name.startswith("vidgen_lab")}
            assert all(name.startswith("vidgen_lab.latte") for name in foreign), module.name
            tops = {name.partition(".")[0] for name in module.at_top - foreign}
            assert tops - sys.stdlib_module_names <= {"torch"}, module.name


PROJECT = """\
[project]
dependencies = [
  "torch>=2",
  "sentencepiece>=0.2", # for transformers
]
[project.optional-dependencies]
data = ["scikit-learn>=1"]
workbook = []
"""


@pytest.fixture
def house(tmp_path):
    """A package of its own, from `path: source` pairs."""

    def build(**files: str) -> list[floors.Module]:
        for name, source in files.items():
            path = tmp_path / "vidgen_lab" / (name.replace("__", "/") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source, encoding="utf-8")
        (tmp_path / "pyproject.toml").write_text(PROJECT, encoding="utf-8")
        return floors.modules_in("vidgen_lab", root=tmp_path)

    return build


def test_an_upward_import_is_named_wherever_it_stands(house):
    modules = house(metrics__flow="def f():\n    from vidgen_lab.latte import model\n")
    assert list(floors.upward(modules)) == [
        "vidgen_lab.metrics.flow imports latte, which is no floor below"
    ]
    assert list(floors.upward(house(metrics__flow="import vidgen_lab.video.clip\n"))) == []


def test_a_circle_is_named(house):
    modules = house(video__a="import vidgen_lab.video.b\n", video__b="import vidgen_lab.video.a\n")
    (said,) = floors.circles(modules)
    assert "vidgen_lab.video.a -> vidgen_lab.video.b" in said


def test_a_room_without_a_floor_is_named(house):
    (said,) = floors.upward(house(attic__a="import vidgen_lab.video.b\n"))
    assert "attic has no floor" in said


def test_a_large_room_and_too_many_tools_are_named(house, tmp_path):
    modules = house(video__a="x = 1\n" * 2501, **{f"metrics__m{i}": "" for i in range(13)})
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "a.py").write_text("x = 1\n" * (floors.TOOL_LINES + 1), encoding="utf-8")
    assert sorted(floors.too_large(modules, tmp_path)) == [
        "metrics has 0 lines in 13 modules",
        f"recipes/ and tools/ have {floors.TOOL_LINES + 1} lines, more than {floors.TOOL_LINES}",
        "video has 2501 lines in 1 modules",
    ]


def test_imports_without_requirement_and_requirements_without_import_are_named(house, tmp_path):
    modules = house(
        video__a="import numpy\n",
        metrics__a="import sklearn\n",
        settings__a="def f():\n    import sklearn\n",
        pipeline__a="import sklearn\n",
        training__a="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import sklearn\n",
        training__b="try:\n    import sklearn\nexcept ImportError:\n    pass\n",
    )
    assert list(floors.requirements(modules, tmp_path)) == [
        "vidgen_lab.metrics.a imports scikit-learn, which its part of pyproject.toml lacks",
        "vidgen_lab.training.b imports scikit-learn, which its part of pyproject.toml lacks",
        "vidgen_lab.video.a imports numpy, which its part of pyproject.toml lacks",
        "nothing imports torch",
    ]
