"""Tiny random models in the layouts of all published CogVideoX checkpoints, and the toy model."""

from pathlib import Path

import pytest
import torch

from tests.tiny_models import IMAGE_LAYOUTS, LAYOUTS, tiny_pipeline

VARIANTS = (*LAYOUTS, *IMAGE_LAYOUTS)


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Saved once a session, in the real format."""
    root = tmp_path_factory.mktemp("tiny")
    made = {}
    for variant in VARIANTS:
        made[variant] = root / variant
        tiny_pipeline(variant).save_pretrained(made[variant])
    return made


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
