"""A small procedural cartoon world: scenes with full ground truth, rendered to captioned clips."""

from vidgen_lab.toyworld.language import caption
from vidgen_lab.toyworld.prompts import parse_prompt
from vidgen_lab.toyworld.world import (
    ATTRIBUTES,
    BACKGROUNDS,
    COLOURS,
    Scene,
    is_held_out,
    sample_scene,
)

__all__ = [
    "ATTRIBUTES",
    "BACKGROUNDS",
    "COLOURS",
    "Scene",
    "caption",
    "is_held_out",
    "parse_prompt",
    "render",
    "sample_scene",
]


def __getattr__(name: str):
    # The renderer needs OpenCV; the grammar does not. Load it only for those who draw.
    if name == "render":
        from vidgen_lab.toyworld.renderer import render

        return render
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
