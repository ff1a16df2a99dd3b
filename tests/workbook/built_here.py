"""Does a piece that a notebook builds in view equal the package's?

Cells tagged `build-it` write functions and classes a second time, so that the reader sees them
grow. They may leave out what the package adds around the idea: docstrings, type hints, and the
checks of its input.
"""

import ast
import importlib
import inspect
from collections.abc import Iterable, Iterator

CHECKS = ("require", "require_one_of", "require_rank", "require_finite", "require_multiple")


class _Bare(ast.NodeTransformer):
    """Take away docstrings, annotations and input checks."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
        for name in ("returns", "annotation"):
            if hasattr(node, name):
                setattr(node, name, None)
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        call = node.value
        checks = isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
        return None if checks and call.func.id in CHECKS else node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if node.value is None:
            return None
        return ast.copy_location(ast.Assign([node.target], node.value), node)


def bare(source: str) -> dict[str, str]:
    """The functions and classes of a piece of source, by name, in a form that compares."""
    tree = _Bare().visit(ast.parse(source))
    kinds = ast.FunctionDef | ast.ClassDef
    return {n.name: ast.dump(n) for n in tree.body if isinstance(n, kinds)}


def differing(cells: Iterable[str], modules: Iterable[str]) -> Iterator[str]:
    """Yield the names built in the cells that differ from the modules' or are not in them."""
    package: dict[str, str] = {}
    for module in modules:
        package |= bare(inspect.getsource(importlib.import_module(module)))
    for cell in cells:
        yield from (name for name, form in bare(cell).items() if package.get(name) != form)
