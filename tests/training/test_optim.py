"""Learning rates are functions of the step."""

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

from vidgen_lab.latte import Latte, LatteConfig
from vidgen_lab.training.optim import (
    OptimizerConfig,
    compile_blocks,
    warmup_cosine,
    warmup_exponential,
    warmup_stable_decay,
)


def test_learning_rates_warm_up_and_end_where_they_should():
    factors = [warmup_stable_decay(s, 1000, 100, 0.5) for s in (0, 99, 500, 750, 1000)]
    assert factors == pytest.approx([0.01, 1, 1, 0.5, 0])
    factors = [warmup_cosine(s, 1000, 100) for s in (0, 99, 550, 1000)]
    assert factors == pytest.approx([0.01, 1, 0.5, 0])
    factors = [warmup_exponential(s, 1000, 100, 0.01) for s in (0, 99, 550, 1000)]
    assert factors == pytest.approx([0.01, 1, 0.1, 0.01])
    constant = OptimizerConfig(schedule="constant", warmup=100).factor(1000)
    assert [constant(s) for s in (49, 100, 999)] == pytest.approx([0.5, 1, 1])


def test_a_configuration_has_one_of_them():
    config = OptimizerConfig(schedule="stable_decay", warmup=10, decay_share=0.2)
    factor = config.factor(100)
    assert [factor(s) for s in (0, 50, 90, 100)] == pytest.approx([0.1, 1, 0.5, 0])
    floor = OptimizerConfig(schedule="cosine", warmup=0, end=0.25).factor(100)
    assert [floor(s) for s in (0, 100, 150)] == pytest.approx([1, 0.25, 0.25])


def blocks(count, **extra):
    stack = nn.ModuleList(nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4)) for _ in range(count))
    return nn.ModuleDict({"blocks": stack, **extra})


def owners(optimizers):
    groups = {n: o.param_groups for n, o in optimizers.items()}
    return {n: {id(p) for g in gs for p in g["params"]} for n, gs in groups.items()}


@pytest.mark.parametrize("count", [1, 3])
def test_muon_has_the_matrices_of_blocks_and_adamw_the_rest(count):
    model = blocks(count, head=nn.Linear(4, 2))
    found = owners(OptimizerConfig(name="muon").build(model))
    assert found["muon"] == {id(block[1].weight) for block in model["blocks"]}
    assert found["muon"] | found["adamw"] == {id(p) for p in model.parameters()}
    assert not found["muon"] & found["adamw"]


def test_an_optimizer_that_would_have_no_parameters_is_left_out():
    model = blocks(2)
    for block in model["blocks"]:
        block[1].requires_grad_(False)
    assert owners(OptimizerConfig(name="muon").build(model)).keys() == {"adamw"}
    model.requires_grad_(False)
    for block in model["blocks"]:
        block[1].weight.requires_grad_(True)
    assert owners(OptimizerConfig(name="muon").build(model)).keys() == {"muon"}
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="nothing to train"):
        OptimizerConfig(name="muon").build(model)


def test_blocks_that_are_alike_are_compiled_once():
    torch.manual_seed(0)
    model = Latte(LatteConfig(hidden_size=24, depth=8, num_heads=2, sample_size=8, num_frames=2))
    x = torch.randn(1, 4, 2, 8, 8)
    before, graphs = model(x, 5), CompileCounter()
    compile_blocks(model, backend=graphs)
    torch.testing.assert_close(model(x, 5), before)
    # the first block has the frames' positions besides, all others are one
    assert graphs.frame_count == 2


def test_a_model_without_stacks_is_compiled_as_it_is():
    class Plain(nn.Linear):
        def forward(self, x):
            return super().forward(x).relu()

    graphs, model = CompileCounter(), Plain(2, 2)
    compile_blocks(model, backend=graphs)
    model(torch.ones(1, 2))
    assert graphs.frame_count == 1
