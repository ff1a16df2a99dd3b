"""Learning rates are functions of the step."""

import pytest

from vidgen_lab.training.optim import (
    OptimizerConfig,
    warmup_constant,
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
    assert [warmup_constant(s, 1000, 100) for s in (49, 100, 999)] == pytest.approx([0.5, 1, 1])


def test_a_configuration_has_one_of_them():
    config = OptimizerConfig(schedule="stable_decay", warmup=10, decay_share=0.2)
    factor = config.factor(100)
    assert [factor(s) for s in (0, 50, 90, 100)] == pytest.approx([0.1, 1, 0.5, 0])
    floor = OptimizerConfig(schedule="cosine", warmup=0, end=0.25).factor(100)
    assert [floor(s) for s in (0, 100, 150)] == pytest.approx([1, 0.25, 0.25])
