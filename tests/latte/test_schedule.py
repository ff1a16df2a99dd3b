import math

import pytest
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    DDIMScheduler,
    DDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
)
from diffusers.training_utils import compute_snr

from vidgen_lab.latte import FlowMatchingPath, LatteInputError, NoiseScheduler

NAMES = {"linear": "linear", "scaled_linear": "scaled_linear", "cosine": "squaredcos_cap_v2"}


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("schedule", [*NAMES, "sigmoid"])
def test_tables_equal_diffusers(schedule, zero):
    theirs = DDPMScheduler(beta_schedule=NAMES.get(schedule, schedule), rescale_betas_zero_snr=zero)
    ours = NoiseScheduler(schedule=schedule, prediction="v", zero_terminal_snr=zero)
    torch.testing.assert_close(ours.betas, theirs.betas, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(ours.alphas_cumprod, theirs.alphas_cumprod, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("schedule", [*NAMES, "sigmoid"])
def test_signal_only_ever_shrinks(schedule):
    abar = NoiseScheduler(schedule=schedule).alphas_cumprod
    assert (abar.diff() < 0).all()
    assert 0.99 < abar[0] < 1 and 0 < abar[-1] < 0.11
    if schedule == "cosine":
        assert abar[-1] < 1e-6  # almost nothing left
        assert abs(int((abar < 0.5).nonzero()[0]) - 497) <= 2  # half the signal near the middle


def test_cosine_table_is_the_closed_form():
    abar = NoiseScheduler(schedule="cosine").alphas_cumprod
    f = lambda u: math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2  # noqa: E731
    for t in (0, 100, 300, 500, 900):
        assert abar[t].item() == pytest.approx(f((t + 1) / 1000) / f(0), rel=1e-4)


def test_beta_arguments_are_used():
    a, b = NoiseScheduler(beta_end=0.02), NoiseScheduler(beta_end=0.01)
    assert not torch.equal(a.alphas_cumprod, b.alphas_cumprod)


def test_zero_terminal_snr_ends_in_pure_noise():
    scheduler = NoiseScheduler(schedule="scaled_linear", prediction="v", zero_terminal_snr=True)
    assert scheduler.alphas_cumprod[-1].abs() < 1e-6
    with pytest.raises(LatteInputError, match="'x0' or 'v', given 'epsilon'"):
        NoiseScheduler(zero_terminal_snr=True)


@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 4, 8, 8), (4, 4, 3, 8, 8)])
def test_add_noise_equals_diffusers_at_any_rank(shape):
    ours, theirs = NoiseScheduler(), DDPMScheduler()
    x, noise, t = torch.randn(shape), torch.randn(shape), torch.tensor([0, 10, 500, 999])
    given = ours.add_noise(x, noise, t)
    assert given.shape == x.shape
    torch.testing.assert_close(given, theirs.add_noise(x, noise, t), rtol=0, atol=1e-6)


def test_mixing_keeps_the_variance():
    scheduler = NoiseScheduler(schedule="cosine")
    a, s = scheduler.coefficients(torch.arange(1000), torch.zeros(1000, 1))
    torch.testing.assert_close(a**2 + s**2, torch.ones(1000, 1))


def test_velocity_equals_diffusers():
    x, noise, t = torch.randn(3, 4, 2), torch.randn(3, 4, 2), torch.tensor([1, 500, 999])
    given = NoiseScheduler(prediction="v").target(x, noise, t)
    torch.testing.assert_close(given, DDPMScheduler().get_velocity(x, noise, t))


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
def test_three_targets_say_the_same(prediction):
    """Whatever the network is asked for, clip and noise come back from a right answer."""
    scheduler = NoiseScheduler(schedule="cosine", prediction=prediction).double()
    x, noise = torch.randn(5, 3, 2, dtype=torch.float64), torch.randn(5, 3, 2, dtype=torch.float64)
    t = torch.tensor([1, 100, 500, 900, 990])
    x_t, answer = scheduler.add_noise(x, noise, t), scheduler.target(x, noise, t)
    torch.testing.assert_close(scheduler.to_x0(answer, x_t, t), x, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(scheduler.to_epsilon(answer, x_t, t), noise, rtol=1e-6, atol=1e-6)


def test_snr_equals_diffusers():
    t = torch.tensor([0, 10, 500, 999])
    torch.testing.assert_close(
        NoiseScheduler().snr(t), compute_snr(DDPMScheduler(), t), rtol=1e-4, atol=1e-7
    )
    assert NoiseScheduler().snr().shape == (1000,)


def test_bfloat16_is_mixed_in_float32():
    """Tables stay float32: in bfloat16 sqrt(abar_1) = 0.9998 would be 1 and two levels the same."""
    scheduler = NoiseScheduler()
    x = torch.ones(1, 1000)
    noisy = scheduler.add_noise(x.bfloat16(), torch.full_like(x, 8).bfloat16(), torch.tensor([1]))
    assert noisy.dtype == torch.bfloat16
    assert noisy.float().mean().item() == pytest.approx(0.9999 + 8 * 0.0148, rel=0.01)


def test_tables_are_buffers_that_move_but_are_not_saved():
    scheduler = NoiseScheduler()
    assert {n for n, _ in scheduler.named_buffers()} == {"betas", "alphas_cumprod"}
    assert not scheduler.state_dict() and not list(scheduler.parameters())
    assert scheduler.to("meta").betas.device.type == "meta"


def test_posterior_is_bayes():
    """q(x_{t-1} | x_t, x_0) by multiplying the two Gaussians it comes from."""
    scheduler = NoiseScheduler(schedule="cosine").double()
    x0, x_t = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    t = torch.tensor([1, 10, 500, 999])
    abar, beta = scheduler.alphas_cumprod[t - 1][:, None], scheduler.betas[t][:, None]
    # prior N(sqrt(abar_{t-1}) x0, 1 - abar_{t-1}), likelihood x_t ~ N(sqrt(1-beta) x_{t-1}, beta)
    precision = 1 / (1 - abar) + (1 - beta) / beta
    mean = (abar.sqrt() * x0 / (1 - abar) + (1 - beta).sqrt() * x_t / beta) / precision
    given_mean, given_log = scheduler.posterior(x0, x_t, t)
    torch.testing.assert_close(given_mean, mean, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(given_log, -precision.log(), rtol=1e-3, atol=1e-3)


def test_learned_variance_stays_between_its_bounds():
    scheduler = NoiseScheduler()
    t = torch.tensor([1, 400, 999])
    low = scheduler.posterior(torch.zeros(3, 2), torch.zeros(3, 2), t)[1].expand(3, 2)
    high = scheduler.betas[t].log()[:, None].expand(3, 2)
    for value, bound in ((-1.0, low), (1.0, high)):
        given = scheduler.learned_log_variance(torch.full((3, 2), value), t)
        torch.testing.assert_close(given, bound)
    assert (low <= high).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.add_noise(torch.zeros(2, 3), torch.zeros(2, 4), torch.zeros(2).long()), "noi"),
        (
            lambda s: s.add_noise(*[torch.zeros(2, 3)] * 2, torch.zeros(3).long()),
            r"\[2\], given \[3\]",
        ),
        (lambda s: s.add_noise(*[torch.zeros(2, 3)] * 2, torch.zeros(2)), "integers"),
        (lambda s: NoiseScheduler(schedule="quadratic"), "given 'quadratic'"),
        (lambda s: NoiseScheduler(prediction="score"), "given 'score'"),
        (lambda s: NoiseScheduler(beta_end=2), "between 0 and 1, given"),
        (lambda s: NoiseScheduler(beta_start=math.nan), "between 0 and 1, given"),
    ],
)
def test_wrong_inputs(call, message):
    with pytest.raises(LatteInputError, match=message):
        call(NoiseScheduler())


# ----- flow matching
def test_flow_path_is_a_straight_line_with_constant_velocity():
    path = FlowMatchingPath()
    x, noise = torch.randn(3, 2, 2), torch.randn(3, 2, 2)
    s = torch.tensor([0.0, 0.25, 1.0])
    x_s = path.add_noise(x, noise, s)
    assert torch.equal(x_s[0], x[0]) and torch.equal(x_s[2], noise[2])
    step = path.add_noise(x, noise, s * 0.5)
    slope = (x_s - step)[1:] / (s * 0.5)[1:, None, None]
    torch.testing.assert_close(slope, path.target(x, noise)[1:])
    torch.testing.assert_close(path.to_x0(path.target(x, noise), x_s, s), x)


def test_a_flow_keeps_the_precision_of_its_clips():
    x = torch.ones(2, 3).bfloat16()
    assert FlowMatchingPath().add_noise(x, x, torch.tensor([0.1, 0.9])).dtype == torch.bfloat16


def test_flow_noising_equals_diffusers():
    theirs = FlowMatchEulerDiscreteScheduler()
    x, noise, s = torch.randn(2, 3, 2), torch.randn(2, 3, 2), theirs.sigmas[[10, 800]]
    expected = theirs.scale_noise(x, theirs.timesteps[[10, 800]], noise)
    torch.testing.assert_close(FlowMatchingPath().add_noise(x, noise, s), expected)


def test_flow_shift_moves_levels_to_noise():
    plain, shifted = FlowMatchingPath(), FlowMatchingPath(shift=3.0)
    levels = torch.tensor([0.0, 0.25, 0.5, 1.0])
    assert torch.equal(plain.warp(levels), levels)
    assert shifted.warp(levels).tolist() == [0.0, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("kind", ["ddim", "cosine", "zero"])
def test_levels_of_a_saved_scheduler(tmp_path, kind):
    theirs = {
        "ddim": DDIMScheduler(prediction_type="v_prediction"),
        "cosine": DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        "zero": DDIMScheduler(prediction_type="sample", rescale_betas_zero_snr=True),
    }[kind]
    theirs.save_pretrained(tmp_path)
    ours = NoiseScheduler.from_diffusers(tmp_path)
    names = {"v_prediction": "v", "sample": "x0", "epsilon": "epsilon"}
    assert ours.prediction == names[theirs.config.prediction_type]
    torch.testing.assert_close(ours.alphas_cumprod, theirs.alphas_cumprod, atol=1e-6, rtol=0)
    file = tmp_path / "scheduler_config.json"
    file.write_text(file.read_text().replace(theirs.config.beta_schedule, "laplace"))
    with pytest.raises(LatteInputError, match="beta_schedule"):
        NoiseScheduler.from_diffusers(tmp_path)


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        (CogVideoXDDIMScheduler(snr_shift_scale=3.0), "snr_shift_scale in .*given 3"),
        (DDIMScheduler(trained_betas=[0.1] * 1000), "trained_betas in"),
        (FlowMatchEulerDiscreteScheduler(), "settings of a scheduler, given none for"),
    ],
)
def test_levels_that_are_not_ours_are_refused(tmp_path, theirs, message):
    theirs.save_pretrained(tmp_path)
    with pytest.raises(LatteInputError, match=message):
        NoiseScheduler.from_diffusers(tmp_path)


def test_the_levels_of_the_large_cogvideox(tmp_path):
    theirs = CogVideoXDDIMScheduler(snr_shift_scale=1.0, rescale_betas_zero_snr=True,
                                    prediction_type="v_prediction")  # fmt: skip
    theirs.save_pretrained(tmp_path)
    ours = NoiseScheduler.from_diffusers(tmp_path)
    torch.testing.assert_close(
        ours.alphas_cumprod, theirs.alphas_cumprod.float(), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b"\xff", b"[" * 100_000])
def test_a_file_that_is_no_scheduler_is_named(tmp_path, text):
    (tmp_path / "scheduler_config.json").write_bytes(text)
    with pytest.raises(LatteInputError, match="scheduler_config.json: expected settings"):
        NoiseScheduler.from_diffusers(tmp_path)
