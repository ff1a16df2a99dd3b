import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from vidgen_lab.latte import LatteInputError, NoiseScheduler
from vidgen_lab.latte.diffusion.losses import (
    diffusion_loss,
    gaussian_kl,
    mean_square,
    variance_bound,
)

SHAPE = (3, 4, 2, 4, 4)


def batch(scheduler, t=(0, 300, 999)):
    g = torch.manual_seed(0)
    x0, noise = torch.randn(SHAPE, generator=g), torch.randn(SHAPE, generator=g)
    t = torch.tensor(t)
    return x0, noise, scheduler.add_noise(x0, noise, t), t


def test_kl_equals_torch():
    m1, m2, l1, l2 = torch.randn(4, 100)
    expected = kl_divergence(Normal(m1, (l1 / 2).exp()), Normal(m2, (l2 / 2).exp()))
    torch.testing.assert_close(gaussian_kl(m1, l1, m2, l2), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
def test_perfect_answer_costs_nothing(prediction):
    scheduler = NoiseScheduler(prediction=prediction)
    x0, noise, x_t, t = batch(scheduler)
    loss = diffusion_loss(scheduler, scheduler.target(x0, noise, t), x0, noise, x_t, t)
    assert loss.mse.abs().max() == 0 and loss.vlb is None


def test_simple_loss_is_the_mean_square():
    scheduler = NoiseScheduler()
    x0, noise, x_t, t = batch(scheduler)
    loss = diffusion_loss(scheduler, torch.zeros(SHAPE), x0, noise, x_t, t)
    torch.testing.assert_close(loss.mse, noise.square().flatten(1).mean(1))


def test_weights_say_where_an_error_counts():
    error = torch.zeros(2, 3, 2, 4, 4)
    error[0, ..., 0], error[1, ..., 1] = 1, 1  # each in a quarter of the picture
    weights = torch.ones(2, 1, 2, 4, 4)
    weights[..., 0] = 3
    both = mean_square(error, weights)
    torch.testing.assert_close(both, torch.tensor([3 / 6, 1 / 6]))
    torch.testing.assert_close(mean_square(error, 7 * weights), both)  # only their ratios matter
    torch.testing.assert_close(mean_square(error, weights[:, :, :1]), both)
    torch.testing.assert_close(mean_square(error), torch.tensor([0.25, 0.25]))


def test_bound_is_zero_when_mean_and_variance_are_right():
    """Perfect noise and the posterior's own variance: no distance left, at any t > 0."""
    scheduler = NoiseScheduler()
    x0, noise, x_t, t = batch(scheduler, (1, 300, 999))
    bits = variance_bound(scheduler, noise, -torch.ones(SHAPE), x0, x_t, t)
    assert bits.abs().max() < 1e-3
    wider = variance_bound(scheduler, noise, torch.ones(SHAPE), x0, x_t, t)
    assert (wider >= bits - 1e-6).all() and wider[0] > 0.01


def test_bound_equals_torch_distributions():
    scheduler = NoiseScheduler(schedule="cosine")
    x0, noise, x_t, t = batch(scheduler, (0, 300, 900))
    output, variance = torch.randn(SHAPE), torch.randn(SHAPE).tanh()
    mean, log_var = scheduler.posterior(x0, x_t, t)
    model_mean = scheduler.posterior(scheduler.to_x0(output, x_t, t), x_t, t)[0]
    model = Normal(model_mean, (scheduler.learned_log_variance(variance, t) / 2).exp())
    true = Normal(mean, (log_var / 2).exp().expand_as(mean))
    expected = torch.stack(
        [-model.log_prob(x0)[0].mean(), *kl_divergence(true, model)[1:].flatten(1).mean(1)]
    )
    given = variance_bound(scheduler, output, variance, x0, x_t, t)
    torch.testing.assert_close(given, expected / math.log(2), rtol=1e-3, atol=1e-4)


def test_the_bound_teaches_the_variance_and_leaves_the_mean_alone():
    scheduler = NoiseScheduler()
    x0, noise, x_t, t = batch(scheduler, (50, 300, 900))
    output = torch.randn(3, 8, *SHAPE[2:], requires_grad=True)
    loss = diffusion_loss(scheduler, output, x0, noise, x_t, t)
    loss.vlb.sum().backward(retain_graph=True)
    assert output.grad[:, :4].abs().max() == 0 and output.grad[:, 4:].abs().min() > 0
    output.grad = None
    loss.mse.sum().backward()
    assert output.grad[:, 4:].abs().max() == 0 and output.grad[:, :4].abs().max() > 0


def test_loss_is_computed_in_float32():
    scheduler = NoiseScheduler()
    x0, noise, x_t, t = batch(scheduler)
    loss = diffusion_loss(scheduler, torch.zeros(SHAPE).bfloat16(), x0, noise, x_t, t)
    assert loss.mse.dtype == torch.float32


def test_wrong_shapes():
    scheduler = NoiseScheduler()
    x0, noise, x_t, t = batch(scheduler)
    with pytest.raises(LatteInputError, match="4 or 8, given 6"):
        diffusion_loss(scheduler, torch.zeros(3, 6, 2, 4, 4), x0, noise, x_t, t)
    with pytest.raises(LatteInputError, match="equal shapes"):
        diffusion_loss(scheduler, torch.zeros(SHAPE), x0, noise[:2], x_t, t)
