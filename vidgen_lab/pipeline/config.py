"""All settings of the pipeline in one place, from defaults, a YAML file and `key=value` pairs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vidgen_lab.config import Checked, load
from vidgen_lab.pipeline.annotate import annotators
from vidgen_lab.pipeline.deliver.cut import MediaSettings
from vidgen_lab.pipeline.deliver.export import ExportSettings
from vidgen_lab.pipeline.read.scenes import SceneSettings
from vidgen_lab.pipeline.select.balance import BalanceSettings
from vidgen_lab.pipeline.select.duplicates import DuplicateSettings
from vidgen_lab.pipeline.select.gates import GateSettings
from vidgen_lab.pipeline.select.scoring import ScoreSettings
from vidgen_lab.pipeline.select.split import SplitSettings


@dataclass(frozen=True)
class AnnotateSettings(Checked, **annotators.ANNOTATORS):
    """Who annotates, by the names in `annotate.annotators`; the defaults need no download.

    Attributes:
        captioner: "template" makes a plain sentence of colours and motion, and every export says
            so; "none" leaves captions empty; the others are trained models.
        download: trained ones may be fetched.
    """

    detector: str = "motion"
    actor: str = "flow"
    captioner: str = "template"
    embedder: str = "judge"
    download: bool = False


@dataclass(frozen=True)
class Config(Checked, seed=(0, 2**32 - 1), limit=(0.001, math.inf)):
    """All settings of a run: the `seed` of everything drawn, the `limit` in seconds after which a
    task is killed (large files and long clips get more), and the settings of every stage."""

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
    export: ExportSettings = field(default_factory=ExportSettings)


def load_config(path: str | Path | None = None, pairs: Sequence[str] = ()) -> Config:
    """Defaults, changed by a YAML file, changed by pairs such as "gates.min_flow_speed=0.1".

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a setting does not exist or fit; the message names it.
    """
    return load(Config, path, pairs)
