"""All settings of the pipeline in one place, from defaults, a YAML file and `key=value` pairs."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from vidgen_lab.pipeline.annotate import registry
from vidgen_lab.pipeline.deliver.cut import MediaSettings
from vidgen_lab.pipeline.read.scenes import SceneSettings
from vidgen_lab.pipeline.select.balance import BalanceSettings
from vidgen_lab.pipeline.select.duplicates import DuplicateSettings
from vidgen_lab.pipeline.select.gates import GateSettings
from vidgen_lab.pipeline.select.scoring import ScoreSettings
from vidgen_lab.pipeline.select.split import SplitSettings


@dataclass(frozen=True)
class AnnotateSettings:
    """Annotators by their names in `annotate.registry`. download: trained ones may be fetched."""

    detector: str = "motion"
    actor: str = "flow"
    captioner: str = "template"
    embedder: str = "judge"
    download: bool = False

    def __post_init__(self) -> None:
        for role, table in registry.TABLES.items():
            if (name := getattr(self, role)) not in table:
                raise ValueError(f"{role} must be one of {', '.join(table)}, not {name!r}")


@dataclass(frozen=True)
class Config:
    """seed: of everything drawn. limit: seconds a single task may take before it is killed."""

    seed: int = 0
    limit: float = 300.0
    scenes: SceneSettings = field(default_factory=SceneSettings)
    score: ScoreSettings = field(default_factory=ScoreSettings)
    gates: GateSettings = field(default_factory=GateSettings)
    duplicates: DuplicateSettings = field(default_factory=DuplicateSettings)
    balance: BalanceSettings = field(default_factory=BalanceSettings)
    media: MediaSettings = field(default_factory=MediaSettings)
    annotate: AnnotateSettings = field(default_factory=AnnotateSettings)
    split: SplitSettings = field(default_factory=SplitSettings)

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must lie in 0..{2**32 - 1}, not {self.seed}")
        if not 0 < self.limit < float("inf"):
            raise ValueError(f"limit must be a number of seconds, not {self.limit}")


def load_config(path: str | Path | None = None, pairs: Sequence[str] = ()) -> Config:
    """Defaults, changed by a YAML file, changed by pairs such as "gates.min_motion=0.1".

    Raises FileNotFoundError, or ValueError naming the setting that does not exist or fit.
    """
    config = Config()
    if path is not None:
        content = _yaml(Path(path).read_text(encoding="utf-8"), str(path)) or {}
        if not isinstance(content, dict):
            raise ValueError(f"{path} must hold settings such as 'gates: {{min_side: 256}}'")
        config = _changed(config, content, "")
    for pair in pairs:
        name, mark, text = pair.partition("=")
        if not mark:
            raise ValueError(f"settings are given as name=value, not {pair!r}")
        content: Any = _yaml(text, name)
        for part in reversed(name.strip().split(".")):
            content = {part: content}
        config = _changed(config, content, "")
    return config


def _yaml(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{where} is not valid YAML: {error}") from None


def _changed(settings: Any, content: dict[str, Any], prefix: str) -> Any:
    known = {f.name: f.type for f in fields(settings)}
    changes = {}
    for name, value in content.items():
        if name not in known:
            raise ValueError(f"no setting {prefix}{name}; known: {', '.join(known)}")
        current = getattr(settings, name)
        if is_dataclass(current):
            if not isinstance(value, dict):
                raise ValueError(f"{prefix}{name} has settings of its own: {prefix}{name}.NAME=...")
            changes[name] = _changed(current, value, f"{prefix}{name}.")
        else:
            changes[name] = _fitting(value, known[name], f"{prefix}{name}")
    return replace(settings, **changes)


def _fitting(value: Any, kind: Any, name: str) -> Any:
    """The value as its field wants it. A number in quotes or a list for a number is a mistake."""
    text = str(getattr(kind, "__name__", kind)) if not isinstance(kind, str) else kind
    if value is None and "None" in str(kind):
        return None
    if "tuple" in str(kind):
        if isinstance(value, list | tuple):
            return tuple(value)
        fits = False
    elif "bool" in text:
        fits = isinstance(value, bool)
    elif "float" in str(kind):
        fits = isinstance(value, int | float) and not isinstance(value, bool)
    elif "int" in text or "int" in str(kind):
        fits = isinstance(value, int) and not isinstance(value, bool)
    else:
        fits = isinstance(value, str)
    if not fits:
        raise ValueError(f"{name} cannot be {value!r}; it is a {kind if text == 'str' else text}")
    return value
