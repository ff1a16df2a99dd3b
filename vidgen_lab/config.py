"""Settings: a frozen dataclass says what there is; a YAML file and `name=value` pairs change it.

OmegaConf reads, merges and resolves interpolations (``${seed}``). Types are checked here: what it
would quietly convert ("3" to 3, 1 to True) is a slip of the pen far more often than not.
"""

import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

T = TypeVar("T")
_UNIONS = (Union, UnionType)
_PLAIN = {float: int | float, Path: str | Path, tuple: list | tuple}  # what YAML has for these


class ConfigError(ValueError):
    """A setting that does not exist or does not fit. One line: where, what, what would fit."""


def load(
    schema: type[T],
    source: str | Path | Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    where: str = "",
) -> T:
    """The settings `schema`, changed by `source`, changed by `overrides`.

    Args:
        schema: a frozen dataclass; fields may be int, float, bool, str, Path, literals, their
            unions, tuples and dicts, and further such dataclasses. A field without a default must
            be given.
        source: a YAML file, or what one would hold; None leaves the defaults.
        overrides: pairs such as "gates.min_motion=0.1"; the value is YAML, for text it is the text.
        where: named in errors instead of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ConfigError: the YAML is damaged; a setting is unknown, missing, of another type or refused.
    """
    where = where or (str(source) if isinstance(source, str | Path) else "")
    content = read_yaml(source) if isinstance(source, str | Path) else source or {}
    with _naming(", ".join(filter(None, (where, *overrides)))):
        given = [_parse(schema, pair) for pair in overrides]
        tree = OmegaConf.merge(_defaults(schema), content, *given)
        return _settings(schema, OmegaConf.to_container(tree, resolve=True), "")


def listed(folder: Path) -> dict[str, str]:
    """The YAML files of a folder: name and first line of comment."""
    files = sorted(folder.glob("*.yaml"))
    return {f.stem: f.read_text("utf-8").partition("\n")[0].lstrip("# ") for f in files}


def load_listed(
    schema: type[T], folder: Path, source: str | Path, overrides: Sequence[str] = ()
) -> T:
    """As `load`: from the YAML file `source`, or else the one of this name in a folder.

    Raises:
        FileNotFoundError: there is neither; names what is in the folder.
        ConfigError: as by `load`.
    """
    for path in (Path(source), folder / f"{source}.yaml"):
        if path.is_file():
            return load(schema, path, overrides)
    known = ", ".join(listed(folder))
    raise FileNotFoundError(f"no configuration {source}; listed {folder.name}: {known}")


@contextmanager
def _naming(where: str) -> Iterator[None]:
    """Errors of the block, a `__post_init__` among them, as one line that begins with `where`."""
    try:
        yield
    except (ValueError, OmegaConfBaseException, yaml.YAMLError) as error:
        said = "not valid YAML: " * isinstance(error, yaml.YAMLError) + _one_line(error)
        raise ConfigError(f"{where}: {said}" if where else said) from None


def check_ranges(settings: Any, **allowed: Iterable[Any]) -> None:
    """Check settings, None apart: each among its words, or finite and in its range, both ends
    included. ConfigError names the first that is not."""
    for name, known in allowed.items():
        value, low, high = getattr(settings, name), next(iter(known)), [*known][-1]
        if isinstance(low, str):
            words = value if isinstance(value, list | tuple) else (value,)
            if wrong := [word for word in words if word not in (None, *known)]:
                raise ConfigError(f"{name} must be one of {', '.join(known)}, not {wrong[0]!r}")
        elif value is not None and not (low <= value <= high and math.isfinite(value)):
            within = (
                f"lie in {low:g}..{high:.10g}" if math.isfinite(high) else f"be {low:g} or more"
            )
            raise ConfigError(f"{name} must {within}, not {value}")


def as_paths(settings: Any, *names: str) -> None:
    """Make these settings of a frozen dataclass paths, where a caller wrote text."""
    for name in names:
        if isinstance(getattr(settings, name), str):
            object.__setattr__(settings, name, Path(getattr(settings, name)))


class Checked:
    """Settings that keep, however they are made, to what is given with their class: the words or
    the range of each, see `check_ranges`."""

    def __init_subclass__(cls, **allowed: Iterable[Any]) -> None:
        cls._allowed = allowed

    def __post_init__(self) -> None:
        check_ranges(self, **self._allowed)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file, empty for an empty file; ConfigError names the file."""
    with _naming(str(path)):
        text = Path(path).read_text(encoding="utf-8")
        _check_depth(text)
        try:
            content = OmegaConf.create(text)
        except AssertionError:
            raise ConfigError("not valid YAML: one value") from None
        if not isinstance(content, DictConfig) or text.strip() and content == {text.strip(): None}:
            raise ConfigError("must hold lines of the form 'name: value'")
    return OmegaConf.to_container(content)


def _check_depth(text: str, most: int = 100) -> None:
    """Endless brackets end the whole process: the YAML library calls itself for every level."""
    depth = 0
    for sign in re.findall(r"[\[{]|[\]}]|(?:- ?){100}", text):
        depth += 1 if sign in "[{" else -1 if sign in "]}" else most + 1
        if depth > most:
            raise ConfigError("not valid YAML: nested too deeply")


def _parse(schema: Any, pair: str) -> dict[str, Any]:
    """A pair as nested mappings."""
    name, mark, text = pair.partition("=")
    *parents, last = name.strip().split(".")
    if not mark:
        raise ConfigError(f"settings are given as name=value, not {pair!r}")
    for parent in parents:
        schema = _hints(schema).get(parent)
    hint = _hints(schema).get(last)
    kinds = get_args(hint) if get_origin(hint) in (*_UNIONS, Literal) else (hint,)
    spoken = any(kind in (str, Path) or isinstance(kind, str) for kind in kinds)
    content: Any = text
    if not spoken or text == "null" and NoneType in kinds:
        content = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))["value"]
    for part in (last, *reversed(parents)):
        content = {part: content}
    return content


def _defaults(schema: Any) -> dict[str, Any]:
    """Plain values by name, MISSING where there is no default. `OmegaConf.structured` says the same
    from 2.4 on; the 2.3 that Colab has knows no Literal."""
    found = {}
    for one in fields(schema):
        value = one.default_factory() if callable(one.default_factory) else one.default
        found[one.name] = asdict(value) if is_dataclass(value) else value
    return {name: MISSING if value is NO_DEFAULT else value for name, value in found.items()}


def _settings(schema: type[T], values: Mapping[str, Any], place: str) -> T:
    """Plain values as settings; ConfigError for what is unknown, missing or of another type."""
    hints = _hints(schema)
    if unknown := [name for name in values if name not in hints]:
        raise ConfigError(_unknown(schema, str(unknown[0]), place))
    values = _defaults(schema) | values
    if missing := [name for name, value in values.items() if value == MISSING]:
        raise ConfigError(f"{place}{missing[0]} must be given")
    typed = {name: _typed(hints[name], v, f"{place}{name}") for name, v in values.items()}
    with _naming(place.rstrip(".")):
        return schema(**typed)


def _typed(hint: Any, value: Any, full: str) -> Any:
    """A plain value as its type, with tuples for lists; of a union the first type that takes it."""
    kinds = get_args(hint) if get_origin(hint) in _UNIONS else (hint,)
    kind = next((kind for kind in kinds if _takes(kind, value)), None)
    if kind is None and is_dataclass(hint):
        raise ConfigError(f"{full} has settings of its own: {full}.NAME=VALUE")
    if kind is None:
        words = ", ".join(map(repr, get_args(hint))) if get_origin(hint) is Literal else ""
        name = hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
        raise ConfigError(
            f"{full} cannot be {value!r}: it is {f'one of {words}' if words else name}"
        )
    if is_dataclass(kind):
        return _settings(kind, value, f"{full}.")
    if isinstance(value, Mapping):
        of = (Any, *get_args(kind))[-1]
        return {name: _typed(of, item, f"{full}.{name}") for name, item in value.items()}
    if isinstance(value, list | tuple):
        of = (*get_args(kind), Any)[0]
        items = [_typed(of, item, f"{full}[{i}]") for i, item in enumerate(value)]
        return tuple(items) if tuple in (kind, get_origin(kind)) else items
    return kind(value) if kind in (float, Path) else value


def _takes(kind: Any, value: Any) -> bool:
    """Whether a plain value is of this type itself, not of one that could be made into it."""
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if isinstance(value, bool):
        return kind in (bool, Any)
    holder = Mapping if is_dataclass(kind) else get_origin(kind) or kind
    fits = holder is Any or isinstance(value, _PLAIN.get(holder, holder))
    return fits and value == value  # NaN is not


def _hints(schema: Any) -> dict[str, Any]:
    return get_type_hints(schema) if is_dataclass(schema) else {}


def _unknown(schema: Any, name: str, place: str) -> str:
    """That there is no such setting, and which one may be meant: here, or further in."""
    known = list(_names(schema))
    near = [full for full in known if full.rpartition(".")[2] == name]
    near += difflib.get_close_matches(name, [full for full in known if "." not in full], 1)
    near += difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {place}{near[0]}?" if near else f"known: {', '.join(_hints(schema))}"
    return f"there is no setting {place}{name}; {hint}"


def _names(schema: Any, place: str = "") -> Iterator[str]:
    for name, hint in _hints(schema).items():
        yield f"{place}{name}"
        yield from _names(hint, f"{place}{name}.")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).partition("\n    full_key")[0].split())


__all__ = [
    "MISSING", "Checked", "ConfigError", "as_paths", "check_ranges", "listed", "load",
    "load_listed", "read_yaml",
]  # fmt: skip
