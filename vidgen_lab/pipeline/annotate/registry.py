"""Annotators by role and short name: the embedded ones, and a trained one from the hub for each."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from vidgen_lab.pipeline.annotate.annotators import (
    FlowActions,
    JudgeEmbedder,
    MotionDetector,
    NoCaptioner,
    TemplateCaptioner,
)

# A name stands for a class of `hub`, which is imported and loaded when somebody asks for it.
ANNOTATORS: Mapping[str, Mapping[str, type | str]] = {
    "detector": {"motion": MotionDetector, "rtdetr": "RtDetrDetector"},
    "actor": {"flow": FlowActions, "xclip": "XClipActions"},
    "captioner": {
        "template": TemplateCaptioner, "none": NoCaptioner, "smolvlm": "SmolVlmCaptioner",
    },
    "embedder": {"judge": JudgeEmbedder, "clip": "ClipEmbedder"},
}  # fmt: skip


def check(role: str, name: str) -> None:
    """Raises ValueError unless there is such an annotator."""
    if name not in ANNOTATORS[role]:
        raise ValueError(f"{role} must be one of {', '.join(ANNOTATORS[role])}, not {name!r}")


def make(role: str, name: str, download: bool = False) -> Any:
    """The annotator of a role by its short name.

    Trained ones are loaded once a process, and fetched only if `download` allows it. Raises
    ValueError for an unknown name, FileNotFoundError naming size and licence of missing weights.
    """
    check(role, name)
    kind = ANNOTATORS[role][name]
    return _load(kind, download) if isinstance(kind, str) else kind()


@lru_cache(maxsize=4)
def _load(name: str, download: bool) -> Any:
    from vidgen_lab.pipeline.annotate import hub

    return getattr(hub, name).load(download=download)
