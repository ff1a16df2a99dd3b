"""No function of the workbook that nothing uses."""

import ast
import itertools
import re

import nbformat
import pytest

from vidgen_lab.paths import notebooks_dir

ROOT = notebooks_dir().parent
WORKBOOK = sorted((ROOT / "vidgen_lab" / "workbook").rglob("*.py"))


def trees():
    """Syntax trees of the package, the tools and every chapter."""
    for path in itertools.chain(*(ROOT.glob(p) for p in ("vidgen_lab/**/*.py", "tools/*.py"))):
        yield path, ast.parse(path.read_text(encoding="utf-8"))
    for path in notebooks_dir().glob("*.ipynb"):
        cells = nbformat.read(path, as_version=4).cells
        code = "\n".join(c.source for c in cells if c.cell_type == "code")
        yield path, ast.parse(code)


def _mentions(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.ImportFrom):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.Constant) and re.fullmatch(r"\d\.\d+", str(node.value)):
            found.add(f"exercise_{node.value}".replace(".", "_"))  # check("1.1", ...)
    return found


@pytest.fixture(scope="module")
def mentions():
    return {path: _mentions(tree) for path, tree in trees()}


@pytest.mark.parametrize("path", WORKBOOK, ids=lambda p: p.stem)
def test_a_public_name_of_the_workbook_is_used(path, mentions):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    defined = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    for node in defined:
        if not node.name.startswith("_"):
            assert any(node.name in m for m in mentions.values()), f"nothing uses {node.name}"


def test_an_unused_name_would_be_noticed():
    assert "nothing_of_this_name" not in _mentions(ast.parse("a.b(c)"))
    assert {"b", "c", "e"} <= _mentions(ast.parse("a.b(c)\nfrom d import e"))
