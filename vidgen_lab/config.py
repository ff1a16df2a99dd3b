"""Settings: a frozen dataclass says what there is; a YAML file and `name=value` pairs change it.

OmegaConf checks the types and resolves interpolations (``${seed}``). What it would quietly convert
("3" to 3, 1 to True) is refused here: such a value is a slip of the pen far more often than not.
"""

import difflib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml
from omegaconf import MISSING, DictConfig, OmegaConf, read_write
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

T = TypeVar("T")


class ConfigError(ValueError):
    """A setting that does not exist or does not fit. One line: where, what, what would fit."""


def load(
    schema: type[T],
    source: str | Path | Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    where: str = "",
) -> T:
    """The settings `schema`, changed by `source`, changed by `overrides`.

    schema: a frozen dataclass; fields may be int, float, bool, str, Path, enums, literals, their
        tuples and dicts, and further such dataclasses. A field without a default must be given.
    source: a YAML file, or what one would hold. where: named in errors instead of the file.
    overrides: pairs such as "gates.min_motion=0.1"; the value is YAML, for text it is the text.
    Raises FileNotFoundError, or ConfigError (a ValueError).
    """
    where = where or (str(source) if isinstance(source, str | Path) else "")
    content = read_yaml(source) if isinstance(source, str | Path) else source or {}
    config = OmegaConf.structured(schema)
    with _naming(where):
        _apply(config, content, "")
    for pair in overrides:
        _apply(config, _parse(schema, pair), "")
    with _naming(where):
        return _with_tuples(OmegaConf.to_object(config))


def listed(folder: Path) -> dict[str, str]:
    """The YAML files of a folder: name and first line of comment."""
    files = sorted(folder.glob("*.yaml"))
    return {f.stem: f.read_text("utf-8").partition("\n")[0].lstrip("# ") for f in files}


def load_listed(
    schema: type[T], folder: Path, source: str | Path, overrides: Sequence[str] = ()
) -> T:
    """As `load`: from a YAML file, or else the one of this name in a folder.

    Raises FileNotFoundError naming what is in the folder, or ConfigError.
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
    except (ValueError, OmegaConfBaseException) as error:
        missing = isinstance(error, MissingMandatoryValue)
        said = f"{error.full_key} must be given" if missing else _one_line(error)
        raise ConfigError(f"{where}: {said}" if where else said) from None


def check_ranges(settings: Any, **ranges: tuple[float, float]) -> None:
    """ValueError for the first of these settings that lies outside its range, both ends included,
    or is no finite number; None is left alone."""
    for name, (low, high) in ranges.items():
        value = getattr(settings, name)
        if value is not None and not (low <= value <= high and math.isfinite(value)):
            within = (
                f"lie in {low:g}..{high:.10g}" if math.isfinite(high) else f"be {low:g} or more"
            )
            raise ConfigError(f"{name} must {within}, not {value}")


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file, empty for an empty file; ConfigError names the file."""
    with _naming(str(path)):
        text = Path(path).read_text(encoding="utf-8")
        _check_depth(text)
        try:
            content = OmegaConf.create(text)
        except (yaml.YAMLError, AssertionError) as error:
            raise ConfigError(f"not valid YAML: {_one_line(error) or 'one value'}") from None
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


def _parse(schema: type, pair: str) -> dict[str, Any]:
    """A pair as nested mappings."""
    name, mark, text = pair.partition("=")
    *parents, last = name.strip().split(".")
    if not mark:
        raise ConfigError(f"settings are given as name=value, not {pair!r}")
    for parent in parents:
        schema = _hints(schema).get(parent)
    hint = _hints(schema).get(last)
    kinds = {hint} if get_origin(hint) not in (Union, UnionType) else {*get_args(hint)}
    if get_origin(hint) is Literal and all(isinstance(word, str) for word in get_args(hint)):
        kinds = {str}  # "no" is a word there
    if kinds & {str, Path} and not (text == "null" and NoneType in kinds):
        content: Any = text
    else:
        try:
            parsed = OmegaConf.from_dotlist([f"value={text}"])
        except yaml.YAMLError as error:
            raise ConfigError(f"{name} cannot be {text!r}: {_one_line(error)}") from None
        content = OmegaConf.to_container(parsed)["value"]
    for part in (last, *reversed(parents)):
        content = {part: content}
    return content


def _apply(node: DictConfig, content: Mapping[str, Any], place: str) -> None:
    """Write `content` into `node`, refusing what does not belong there."""
    schema = OmegaConf.get_type(node)
    hints = _hints(schema)
    for name, value in content.items():
        full, hint = f"{place}{name}", hints.get(name)
        if hints and name not in hints:
            raise ConfigError(_unknown(schema, str(name), place))
        if not isinstance(value, Mapping):
            if is_dataclass(hint):
                raise ConfigError(f"{full} has settings of its own: {full}.NAME=VALUE")
            _assign(node, name, _settings_in(value, hint, full), full, hint)
            continue
        if name not in node or OmegaConf.is_missing(node, name) or node[name] is None:
            _assign(node, name, {}, full, hint)
        if not isinstance(node[name], DictConfig):
            raise ConfigError(_unfit(full, value, hint))
        _apply(node[name], value, f"{full}.")


def _assign(node: DictConfig, name: str, value: Any, full: str, hint: Any) -> None:
    """Write one value into a node."""
    try:
        with read_write(node):
            node.merge_with({name: value})
        fit = OmegaConf.is_interpolation(node, name) or _same(value, node[name])
        said = "it is of another type"
    except OmegaConfBaseException as error:
        fit, said = False, _one_line(error)
    if not fit:
        raise ConfigError(_unfit(full, value, hint, said))


def _unfit(full: str, value: Any, hint: Any, said: str = "") -> str:
    kind = hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
    if get_origin(hint) is Literal:
        kind = f"one of {', '.join(map(repr, get_args(hint)))}"
    return f"{full} cannot be {value!r}: {'it is ' + kind if hint else said}"


def _settings_in(value: Any, hint: Any, full: str) -> Any:
    """The items of a list of settings, read one by one: OmegaConf 2.4 takes them as they are."""
    kind = next(filter(is_dataclass, get_args(hint)), None)
    if kind and isinstance(value, list | tuple) and all(isinstance(v, Mapping) for v in value):
        return [load(kind, item, where=f"{full}[{i}]") for i, item in enumerate(value)]
    return value


def _same(given: Any, taken: Any) -> bool:
    """Whether a value was taken as it is, and is no NaN."""
    if isinstance(given, list | tuple):
        return all(map(_same, given, taken))
    if isinstance(given, float) and math.isnan(given):
        return False
    for kind in (bool, str):
        if isinstance(taken, kind) and not isinstance(given, kind):
            return False
    return not (isinstance(given, str) and isinstance(taken, bool | int | float))


def _with_tuples(value: Any, hint: Any = None) -> Any:
    """Tuples where the fields are tuples: OmegaConf 2.3 returns lists."""
    if isinstance(value, dict):
        return {name: _with_tuples(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        kinds = {type(value), *map(get_origin, (hint, *get_args(hint)))}
        return (tuple if tuple in kinds else list)(map(_with_tuples, value))
    if not is_dataclass(value):
        return value
    hints = _hints(type(value))
    names = [f.name for f in fields(value) if f.init]
    return replace(value, **{n: _with_tuples(getattr(value, n), hints[n]) for n in names})


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


__all__ = ["MISSING", "ConfigError", "check_ranges", "listed", "load", "load_listed", "read_yaml"]
