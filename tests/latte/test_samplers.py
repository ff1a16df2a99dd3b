import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler

from vidgen_lab.latte import (
    DDIMSampler,
    FlowEulerSampler,
    FlowMatchingPath,
    LatteInputError,
    NoiseScheduler,
)
from vidgen_lab.latte.diffusion.samplers import (
    Guidance,
    sample,
    spaced_timesteps,
    split_variance,
    trajectory,
)

PREDICTIONS = {"epsilon": "epsilon", "x0": "sample", "v": "v_prediction"}
SCHEDULES = {"linear": "linear", "cosine": "squaredcos_cap_v2"}
SHAPE = (2, 4, 3, 4, 4)


def ddpm(scheduler, steps):
    return DDIMSampler(scheduler, steps, eta=1.0)


def walk(sampler, theirs, **step_arguments):
    """Both samplers, each from its own last state; the largest gap relative to size."""
    x = torch.randn(SHAPE, generator=torch.manual_seed(3))
    ours_g, their_g = (torch.Generator().manual_seed(7) for _ in range(2))
    outputs = torch.Generator().manual_seed(11)
    assert sampler.timesteps.tolist() == theirs.timesteps.tolist()
    a = b = x
    worst = 0.0
    for index, t in enumerate(theirs.timesteps):
        output = torch.randn(SHAPE, generator=outputs).tanh()
        # an answer that depends on the state, as a network's does
        output = 0.3 * output + 0.9 * b / (1 + b.abs().mean())
        step = sampler.step(output, index, a, ours_g)
        result = theirs.step(output, t, b, generator=their_g, **step_arguments)
        scale = 1 + result.prev_sample.abs().max().item()
        worst = max(worst, (step.latents - result.prev_sample).abs().max().item() / scale)
        scale = 1 + result.pred_original_sample.abs().max().item()
        worst = max(worst, (step.x0 - result.pred_original_sample).abs().max().item() / scale)
        a, b = step.latents, result.prev_sample
    return worst


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ddpm_equals_diffusers_step_by_step(schedule, prediction):
    """DDIM that draws all of its noise anew."""
    theirs = DDPMScheduler(
        beta_schedule=SCHEDULES[schedule],
        prediction_type=PREDICTIONS[prediction],
        clip_sample=False,
    )
    theirs.set_timesteps(20)
    scheduler = NoiseScheduler(schedule=schedule, prediction=prediction)
    assert walk(ddpm(scheduler, 20), theirs) <= 1e-5


def test_ddpm_all_thousand_steps():
    theirs = DDPMScheduler(clip_sample=False)
    theirs.set_timesteps(1000)
    # a thousand roundings: the same steps, from other differences of the table
    assert walk(ddpm(NoiseScheduler(), 1000), theirs) <= 1e-4


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ddim_equals_diffusers_step_by_step(schedule, prediction, eta):
    theirs = DDIMScheduler(
        beta_schedule=SCHEDULES[schedule],
        prediction_type=PREDICTIONS[prediction],
        clip_sample=False,
    )
    theirs.set_timesteps(25)
    ours = DDIMSampler(NoiseScheduler(schedule=schedule, prediction=prediction), 25, eta)
    assert walk(ours, theirs, eta=eta) <= 1e-5


@pytest.mark.parametrize("steps", [7, 50])
def test_ddim_of_any_number_of_steps(steps):
    theirs = DDIMScheduler(clip_sample=False)
    theirs.set_timesteps(steps)
    assert walk(DDIMSampler(NoiseScheduler(), steps), theirs) <= 1e-5


def test_ddim_on_cogvideox_settings():
    """Zero terminal SNR, trailing spacing, v: the schedule of the big text-to-video models."""
    settings = dict(beta_start=0.00085, beta_end=0.012)
    theirs = DDIMScheduler(
        beta_schedule="scaled_linear", prediction_type="v_prediction", clip_sample=False,
        rescale_betas_zero_snr=True, timestep_spacing="trailing", **settings,
    )  # fmt: skip
    theirs.set_timesteps(25)
    scheduler = NoiseScheduler(
        schedule="scaled_linear", prediction="v", zero_terminal_snr=True, **settings
    )
    assert walk(DDIMSampler(scheduler, 25, spacing="trailing"), theirs) <= 1e-5


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("steps", [1, 4, 30])
def test_flow_euler_equals_diffusers(shift, steps):
    theirs = FlowMatchEulerDiscreteScheduler(shift=shift)
    theirs.set_timesteps(steps)
    ours = FlowEulerSampler(FlowMatchingPath(shift=shift), steps)
    torch.testing.assert_close(ours.levels, theirs.sigmas, rtol=0, atol=1e-6)
    torch.testing.assert_close(ours.timesteps, theirs.timesteps, rtol=1e-5, atol=1e-4)
    a = b = torch.randn(SHAPE)
    for index, t in enumerate(theirs.timesteps):
        output = torch.randn(SHAPE)
        a = ours.step(output, index, a).latents
        b = theirs.step(output, t, b).prev_sample
        assert (a - b).abs().max() <= 1e-5


# ----- a denoiser that knows the answer
def perfect(scheduler, clip):
    """The network that training aims at for a data set of one clip."""

    def denoiser(x, t):
        a, s = scheduler.coefficients(t, x)
        return scheduler.target(clip.expand_as(x), (x - a * clip) / s, t)

    return denoiser


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("make", [ddpm, DDIMSampler])
def test_perfect_denoiser_recovers_the_clip(make, schedule, prediction):
    scheduler = NoiseScheduler(schedule=schedule, prediction=prediction)
    clip = torch.randn(1, *SHAPE[1:])
    noise = torch.randn(SHAPE)
    made = sample(perfect(scheduler, clip), make(scheduler, 50), noise, torch.manual_seed(0))
    assert (made - clip).abs().max() < 1e-3
    assert (made - clip).square().mean() < 1e-6


def test_perfect_flow_recovers_the_clip_in_one_step():
    clip, noise = torch.randn(SHAPE), torch.randn(SHAPE)
    made = sample(lambda x, t: noise - clip, FlowEulerSampler(FlowMatchingPath(), 1), noise)
    torch.testing.assert_close(made, clip, rtol=0, atol=1e-6)


@pytest.mark.parametrize("make", [ddpm, DDIMSampler])
def test_samplers_reproduce_a_distribution(make):
    """Data N(2, 0.5^2) and its exact denoiser: mean and spread come out right."""
    scheduler = NoiseScheduler(schedule="cosine")
    mean, std = 2.0, 0.5

    def denoiser(x, t):
        a, s = scheduler.coefficients(t, x)
        return s * (x - a * mean) / (a**2 * std**2 + s**2)

    noise = torch.randn(4000, 1, generator=torch.manual_seed(0))
    made = sample(denoiser, make(scheduler, 100), noise, torch.manual_seed(1))
    assert made.mean().item() == pytest.approx(mean, abs=0.05)
    assert made.std().item() == pytest.approx(std, abs=0.05)


def test_ddim_is_deterministic_and_ddpm_is_seeded():
    scheduler = NoiseScheduler(schedule="cosine")
    noise, denoiser = torch.randn(SHAPE), lambda x, t: 0.5 * x
    run = lambda s, seed: sample(denoiser, s, noise, torch.Generator().manual_seed(seed))  # noqa: E731
    ddim, noisy = DDIMSampler(scheduler, 10), ddpm(scheduler, 10)
    assert torch.equal(run(ddim, 0), run(ddim, 1))
    assert torch.equal(run(noisy, 0), run(noisy, 0))
    assert not torch.equal(run(noisy, 0), run(noisy, 1))


# ----- guidance
def toy_model(x, t, y):
    return torch.cat([x * y.view(-1, 1, 1), torch.tanh(x) + y.view(-1, 1, 1)], 1)


def test_guidance_is_its_formula():
    x, t = torch.randn(2, 3, 4), torch.tensor([5, 5])
    cond, null = torch.tensor([1.0, 2.0]), torch.tensor([0.5, 0.5])
    with_prompt, without = toy_model(x, t, cond), toy_model(x, t, null)
    for w in (0.0, 0.5, 1.0, 7.0):
        out = Guidance(toy_model, {"y": cond}, {"y": null}, w)(x, t)
        torch.testing.assert_close(out[:, :3], without[:, :3] + w * (with_prompt - without)[:, :3])
        assert torch.equal(out[:, 3:], with_prompt[:, 3:])  # variance is the prompt's own


def test_guidance_costs_two_rows_per_sample_and_one_at_scale_one():
    seen = []
    spy = lambda x, t, y: seen.append(len(x)) or toy_model(x, t, y)  # noqa: E731
    x, t = torch.randn(2, 3, 4), torch.tensor([5, 5])
    for w in (7.0, 1.0):
        Guidance(spy, {"y": torch.ones(2)}, {"y": torch.zeros(2)}, w)(x, t)
    assert seen == [4, 2]


def test_rescaled_guidance_has_the_prompts_contrast():
    x, t = torch.randn(2, 3, 400), torch.tensor([5, 5])
    cond, null = {"y": torch.ones(2)}, {"y": torch.zeros(2)}
    plain = Guidance(toy_model, cond, null, 7.0)(x, t)[:, :3]
    full = Guidance(toy_model, cond, null, 7.0, rescale=1.0)(x, t)[:, :3]
    target = toy_model(x, t, torch.ones(2))[:, :3]
    assert plain.std() > 6 * target.std()
    torch.testing.assert_close(full.std((1, 2)), target.std((1, 2)))


# ----- small parts and errors
def test_split_variance():
    assert split_variance(torch.zeros(1, 4, 2), 4)[1] is None
    a, b = split_variance(torch.arange(8.0).view(1, 8, 1), 4)
    assert a.flatten().tolist() == [0, 1, 2, 3] and b.flatten().tolist() == [4, 5, 6, 7]
    with pytest.raises(LatteInputError, match="4 or 8, given 5"):
        split_variance(torch.zeros(1, 5, 2), 4)


def test_trajectory_yields_every_step():
    scheduler = NoiseScheduler(schedule="cosine")
    steps = list(trajectory(lambda x, t: x, DDIMSampler(scheduler, 6), torch.randn(SHAPE)))
    assert len(steps) == 6 and all(s.latents.shape == SHAPE for s in steps)


def test_a_broken_model_is_named():
    with pytest.raises(LatteInputError, match="output of the model at timestep 900: .*finite"):
        sample(lambda x, t: x / 0, DDIMSampler(NoiseScheduler(), 10), torch.randn(SHAPE))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda s: DDIMSampler(s, 0), "1 .. 1000, given 0"),
        (lambda s: DDIMSampler(s, 2000), "1 .. 1000, given 2000"),
        (lambda s: DDIMSampler(s, 10, eta=2), "eta"),
        (lambda s: spaced_timesteps(1000, 10, "even"), "given 'even'"),
        (lambda s: Guidance(toy_model, {"y": 1}, {"z": 1}), "keys of the null condition"),
        (
            lambda s: Guidance(toy_model, {"y": torch.ones(2)}, {"y": torch.ones(1)}),
            r"null condition: expected .'y': \[2\].*given .'y': \[1\]",
        ),
        (lambda s: Guidance(toy_model, {"y": torch.ones(2)}, {"y": None}), "null condition"),
    ],
)
def test_wrong_inputs(make, message):
    with pytest.raises(LatteInputError, match=message):
        make(NoiseScheduler())


@pytest.mark.parametrize("steps", [3, 7, 9, 15])
def test_as_noisy_as_can_be_from_pure_noise_is_finite(steps):
    """The first jump leaves a variance of zero for the old noise, or a rounding error below."""
    scheduler = NoiseScheduler(schedule="cosine", prediction="v", zero_terminal_snr=True)
    sampler = DDIMSampler(scheduler, steps, eta=1.0, spacing="trailing")
    x = torch.randn(1, 4)
    assert torch.isfinite(sampler.step(0 * x, 0, x, torch.manual_seed(0)).latents).all()
