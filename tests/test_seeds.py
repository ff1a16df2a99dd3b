import numpy as np
import torch

from vidgen_lab.seeds import rng, torch_generator


def test_the_same_purpose_draws_the_same_and_another_one_does_not():
    first = rng(1, 0, "clip").random()
    assert first == rng(1, 0, "clip").random()
    others = {rng(*key).random() for key in ((2, 0, "clip"), (1, 1, "clip"), (1, 0, "clap"), (1,))}
    assert first not in others and len(others) == 4


def test_numbers_are_numpys_own_seeds():
    assert rng(3, 7).random() == np.random.default_rng((3, 7)).random()
    assert rng(3).random() == np.random.default_rng(3).random()


def test_torch_generator_follows_numpys():
    seed = int(rng(1).integers(2**62))
    assert torch_generator(rng(1)).initial_seed() == seed
    drawn = torch.rand(2, generator=torch_generator(rng(1)))
    assert torch.equal(drawn, torch.rand(2, generator=torch.Generator().manual_seed(seed)))
