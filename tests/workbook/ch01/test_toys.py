"""The toy generators: exact formulas against brute force, counts, and that learning happens."""

import numpy as np
import pytest
import torch

from vidgen_lab.workbook.ch01 import toys


def test_exact_denoiser_equals_bayes_rule_on_a_grid():
    data = toys.Mixture(np.array([[-1.0], [1.5]]), spread=0.4)
    clean = np.linspace(-6, 6, 24001)[:, None]
    prior = data.density(clean)
    assert prior.sum() * (clean[1, 0] - clean[0, 0]) == pytest.approx(1, abs=1e-6)
    signal, noisy = 0.6, np.array([[0.3], [-1.2]])
    for i, value in enumerate(noisy[:, 0]):
        likelihood = np.exp(-((value - signal**0.5 * clean[:, 0]) ** 2) / (2 * (1 - signal)))
        weight = likelihood * prior
        expected = (weight * clean[:, 0]).sum() / weight.sum()
        assert data.denoise(noisy, signal)[i, 0] == pytest.approx(expected, abs=1e-6)


def test_sampling_with_the_exact_denoiser_reproduces_the_data():
    data = toys.ring()
    path = toys.sample_diffusion(data.denoise, 2000, 2, 60, np.random.default_rng(0))
    assert path.shape == (61, 2000, 2)
    score = toys.score(path[-1], data)
    assert score["islands found"] == 8
    assert score["stray"] < 0.01
    home = path[-1][np.linalg.norm(path[-1] - data.means[0], axis=1) < 0.6]
    assert home.std() > 0.5 * data.spread  # islands, not points


def test_score_counts_islands_and_strays():
    data = toys.ring()
    one_island = np.tile(data.means[3], (100, 1))
    assert toys.score(one_island, data) == {"islands found": 1, "stray": 0.0, "busiest island": 1.0}
    assert toys.score(np.zeros((100, 2)), data)["stray"] == 1.0


@pytest.mark.parametrize("train", [toys.train_gan, toys.train_vae, toys.train_denoiser])
def test_training_repeats_itself(train):
    first, second = (train(toys.ring(), steps=30, seed=3).samples for _ in range(2))
    assert first.shape == (1000, 2)
    assert np.array_equal(first, second)


def test_denoiser_learns():
    trained = toys.train_denoiser(toys.ring(), steps=300)
    assert trained.history[-50:].mean() < 0.95 * trained.history[:10].mean()
    distance = np.linalg.norm(trained.samples, axis=1)  # the islands lie on a circle of radius 2
    assert 1.4 < np.median(distance) < 2.6


def test_content_and_motion_can_be_swapped():
    clips = toys.dot_clips()
    assert clips.shape == (6, 6, 8, 3, 12, 12)
    red, green = clips[0], clips[2]
    assert red[:, :, 0].sum() > 0 and red[:, :, 1:].sum() == 0
    assert torch.allclose(red[:, :, 0], green[:, :, 1])  # same paths, another colour
    held_out = torch.eye(6, dtype=torch.bool)
    model = toys.fit_content_motion(clips, held_out, steps=200)
    with torch.no_grad():
        swapped = model(torch.tensor([2]), torch.tensor([2]))[0]  # big green going up: never seen
    error = ((swapped - clips[2, 2]) ** 2).mean()
    assert error < 0.3 * ((clips[0, 2] - clips[2, 2]) ** 2).mean()  # nearer than the wrong colour
