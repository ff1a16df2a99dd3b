"""Annotators by their short names: the embedded ones, and trained ones from the hub."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from vidgen_lab.pipeline.annotate.annotators import (
    FlowActions,
    JudgeEmbedder,
    LookEmbedder,
    MotionDetector,
    TemplateCaptioner,
)


@dataclass(frozen=True)
class Trained:
    """A trained annotator: the class of `hub` that wraps it, and its weights."""

    kind: str
    hub_id: str


Table = Mapping[str, type | Trained]

DETECTORS: Table = {
    "motion": MotionDetector,
    "yolos": Trained("HubDetector", "hustvl/yolos-tiny"),
    "rtdetr": Trained("HubDetector", "PekingU/rtdetr_r18vd"),
}
ACTIONS: Table = {
    "flow": FlowActions,
    "xclip": Trained("XClipActions", "microsoft/xclip-base-patch32"),
}
CAPTIONERS: Table = {
    "template": TemplateCaptioner,
    "blip": Trained("BlipCaptioner", "Salesforce/blip-image-captioning-base"),
    "smolvlm": Trained("SmolVlmCaptioner", "HuggingFaceTB/SmolVLM2-256M-Video-Instruct"),
}
EMBEDDERS: Table = {
    "look": LookEmbedder,
    "judge": JudgeEmbedder,
    "clip": Trained("HubEmbedder", "openai/clip-vit-base-patch32"),
    "siglip": Trained("HubEmbedder", "google/siglip-base-patch16-224"),
}
TABLES = {
    "detector": DETECTORS, "actor": ACTIONS, "captioner": CAPTIONERS, "embedder": EMBEDDERS,
}  # fmt: skip


def make(table: Table, name: str, download: bool = False) -> Any:
    """An annotator by its short name; `table` is DETECTORS, ACTIONS, CAPTIONERS or EMBEDDERS.

    Trained ones are loaded once a process, and fetched only if `download` allows it. Raises
    ValueError for an unknown name, FileNotFoundError naming size and licence of missing weights.
    """
    if name not in table:
        raise ValueError(f"no annotator {name!r}; one of {', '.join(table)}")
    entry = table[name]
    return _load_trained(entry, download) if isinstance(entry, Trained) else entry()


@lru_cache(maxsize=4)
def _load_trained(entry: Trained, download: bool) -> Any:
    from vidgen_lab.pipeline.annotate import hub

    return getattr(hub, entry.kind).load(hub_id=entry.hub_id, download=download)
