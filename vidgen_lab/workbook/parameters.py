"""The parameters of a chapter: read them from the notebook, check what a caller gives.

Papermill itself warns about an unknown name and goes on, and hands over YAML's ``1e-3`` as a
string. A class of thirty would then run the default without noticing, so both are settled here, by
the reader of all settings (`vidgen_lab.config`).
"""

import ast
import io
import re
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass, field, make_dataclass
from functools import partial
from typing import Any

import nbformat
from omegaconf import MISSING

from vidgen_lab.config import ConfigError, load

TAG = "parameters"


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


def read_parameters(notebook: nbformat.NotebookNode) -> dict[str, Parameter]:
    """Return the parameters by name, in the order of the one code cell tagged ``parameters``.

    It may hold only lines ``name: type = literal``: papermill inserts overrides *after* the cell,
    so a value derived inside it would silently keep the default.

    Raises:
        ConfigError: there is not exactly one such cell, or it holds anything else.
    """
    cells = [c for c in notebook.cells if TAG in c.get("metadata", {}).get("tags", [])]
    if len(cells) != 1 or cells[0].cell_type != "code":
        raise ConfigError(
            f"the notebook needs exactly one code cell tagged '{TAG}', found {len(cells)}; "
            "add the tag in JupyterLab: property inspector > cell tags"
        )
    source = cells[0].source
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
        statements = ast.parse(source).body
    except (SyntaxError, ValueError, tokenize.TokenError) as error:
        raise ConfigError(f"the parameters cell is not Python: {error}") from None
    comments = {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}
    found = {}
    for node in statements:
        try:
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            name, default = target.id, ast.literal_eval(node.value)
        except (AttributeError, ValueError, TypeError):
            raise ConfigError(
                "the parameters cell may hold only literals (name: type = value), not: "
                f"{ast.unparse(node)!r}; derive other values in the next cell"
            ) from None
        annotation = ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else ""
        found[name] = Parameter(name, annotation, default, comments.get(node.end_lineno, ""))
    return found


def check_parameters(
    known: Mapping[str, Parameter],
    from_file: Mapping[str, Any] | None = None,
    typed: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the given parameters, every value in its annotated type.

    Args:
        known: those of the notebook.
        from_file: values of a YAML file.
        typed: texts as on a command line, which win over them.

    Raises:
        ConfigError: a name is unknown, the nearest one is told; or a value does not fit.
    """
    from_file, typed = from_file or {}, typed or {}
    for name, value in {**from_file, **typed}.items():
        if value == MISSING:  # which OmegaConf would take for "not given"
            raise ConfigError(f"{name} cannot be {value!r}; leave it out for the default")
    fields = [
        (p.name, _kind(p.annotation or "Any"), field(default_factory=partial(_literal, p.default)))
        for p in known.values()
    ]
    schema = make_dataclass("Parameters", fields, frozen=True)
    pairs = [f"{name}={_literal(value)}" for name, value in typed.items()]
    listed = {name: _literal(value) for name, value in from_file.items()}
    values = load(schema, listed, pairs, "parameters")
    return {name: getattr(values, name) for name in known if name in from_file or name in typed}


def _literal(value: Any) -> Any:
    """A text in which ``${...}`` is no interpolation: prompts may hold any sign."""
    return value.replace("${", "\\${") if isinstance(value, str) else value


def _kind(annotation: str) -> Any:
    """The type that an annotation names; a notebook's own words are never run here."""
    known = {kind.__name__: kind for kind in (str, int, float, bool, list, dict)} | {"Any": Any}
    if not {*re.sub(r"[\[\], |]", " ", annotation).split()} <= {*known, "None"}:
        raise ConfigError(
            f"the annotation {annotation!r} is no type here; types: {', '.join(known)}, None"
        )
    try:
        return eval(annotation, {"__builtins__": {}}, known)
    except TypeError as error:  # such as int[str]
        raise ConfigError(f"the annotation {annotation!r} is no type: {error}") from None
