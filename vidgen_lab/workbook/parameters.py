"""The parameters of a chapter: read them from the notebook, check what a caller gives.

Papermill itself warns about an unknown name and goes on, and hands over YAML's ``1e-3`` as a
string. A class of thirty would then run the default without noticing, so both are settled here.
"""

import ast
import io
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import nbformat
import yaml

TAG = "parameters"


class ParameterError(ValueError):
    """A parameter that the chapter does not have, or a value that does not fit it."""


@dataclass(frozen=True)
class Parameter:
    """One line of the parameters cell: ``name: annotation = default  # help``."""

    name: str
    annotation: str
    default: Any
    help: str = ""

    def __str__(self) -> str:
        typed = f"{self.name}: {self.annotation}" if self.annotation else self.name
        return f"{typed} = {self.default!r}" + (f"  ({self.help})" if self.help else "")


def parameters_cell(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return the one code cell tagged ``parameters``; raises ParameterError otherwise."""
    cells = [c for c in notebook.cells if TAG in c.get("metadata", {}).get("tags", [])]
    if len(cells) != 1 or cells[0].cell_type != "code":
        raise ParameterError(
            f"the notebook needs exactly one code cell tagged '{TAG}', found {len(cells)}; "
            "add the tag in JupyterLab: property inspector > cell tags"
        )
    return cells[0]


def read_parameters(notebook: nbformat.NotebookNode) -> dict[str, Parameter]:
    """Return the parameters by name, in the order of the cell.

    Raises ParameterError for a statement that is not ``name: type = literal``: papermill inserts
    overrides *after* the cell, so a value derived inside it would silently keep the default.
    """
    source = parameters_cell(notebook).source
    try:
        statements, comments = ast.parse(source).body, _comments(source)
    except (SyntaxError, ValueError, tokenize.TokenError) as error:
        raise ParameterError(f"the parameters cell is not Python: {error}") from None
    found = {}
    for node in statements:
        name, annotation = _target(node)
        try:
            default = ast.literal_eval(node.value) if name else None
        except (ValueError, TypeError):
            name = None
        if name is None:
            raise ParameterError(
                "the parameters cell may hold only literals (name: type = value), not: "
                f"{ast.unparse(node)!r}; derive other values in the next cell"
            )
        found[name] = Parameter(name, annotation, default, comments.get(node.end_lineno, ""))
    return found


def _target(node: ast.stmt) -> tuple[str | None, str]:
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
        return node.target.id, ast.unparse(node.annotation)
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id, ""
    return None, ""


def _comments(source: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}


def check_parameters(
    known: Mapping[str, Parameter], given: Mapping[str, Any], typed: bool = False
) -> dict[str, Any]:
    """Return `given` with every value in the annotated type of its parameter.

    typed: False for strings from a command line, where ``[1, 2]`` means a list; True for values
        from a YAML file, which have types of their own.
    Raises ParameterError naming the known parameters, or the value that does not fit.
    """
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ParameterError(
            f"unknown parameter {', '.join(map(repr, unknown))}; this chapter knows: "
            + ", ".join(known)
        )
    return {name: _coerce(known[name], value, typed) for name, value in given.items()}


def _coerce(parameter: Parameter, value: Any, typed: bool) -> Any:
    options = [o.strip() for o in parameter.annotation.split("|")] if parameter.annotation else []
    if not typed and isinstance(value, str) and options != ["str"]:
        value = _from_text(value, keep_text="str" in options)
    if value is None and "None" in options:
        return None
    for option in [o for o in options if o != "None"] or ["Any"]:
        try:
            return _as(option, value)
        except (ValueError, TypeError, OverflowError):
            continue
    raise ParameterError(f"{parameter.name} must be {parameter.annotation}, not {value!r}")


def _from_text(text: str, keep_text: bool) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return text if keep_text and value is not None else value


def _as(option: str, value: Any) -> Any:
    """Convert `value` to one annotated type, refusing what would lose information."""
    kind, _, inner = option.partition("[")
    inner = inner.rstrip("]")
    if kind == "Any":
        return value
    if kind in ("list", "dict"):
        if type(value).__name__ != kind:
            raise TypeError(kind)
        return [_as(inner, v) for v in value] if kind == "list" and inner else value
    if kind == "bool":
        if not isinstance(value, bool):
            raise TypeError("bool")
        return value
    if isinstance(value, (bool, list, dict)) or value is None:
        raise TypeError(kind)
    if kind == "str":
        return str(value)
    if kind == "float":
        return float(value)
    if kind == "int" and float(value).is_integer():
        return int(float(value)) if not isinstance(value, int) else value
    raise ValueError(kind)
