"""On a GPU: every part of the embedded models is trained there from its recipe.

make gpu      (or: pytest -m gpu)
"""

import pytest
import torch

from tests.recipes.samples import RECIPES, train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def test_all_parts_are_trained_where_there_is_a_gpu(tmp_path):
    for part in RECIPES:
        train(part, tmp_path)
    assert torch.cuda.max_memory_allocated() > 0
    assert (tmp_path / "transformer" / "pipeline" / "model_index.json").is_file()
