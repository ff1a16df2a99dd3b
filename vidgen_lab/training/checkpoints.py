"""Checkpoints that a killed run can be continued from."""

import os
from pathlib import Path
from typing import Any

import torch


def save_checkpoint(path: Path, parts: dict[str, Any], step: int) -> None:
    """Write the state of every part (anything with `state_dict`) and the step; a kill leaves the
    old file whole."""
    state = {name: part.state_dict() for name, part in parts.items()} | {"step": step}
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)


def load_checkpoint(path: Path, parts: dict[str, Any], device: str = "cpu") -> int:
    """Restore every part from `path` and return the step to continue with; 0 when there is no
    checkpoint yet."""
    if not path.exists():
        return 0
    state = torch.load(path, map_location=device, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return state["step"]
