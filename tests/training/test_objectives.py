"""Objectives: each against what it is in another form."""

from dataclasses import replace

import pytest
import torch
from diffusers.training_utils import compute_snr
from torch import nn

from vidgen_lab.latte import NoiseScheduler
from vidgen_lab.training.objectives import (
    ObjectiveConfig,
    TwoExperts,
    frame_difference_loss,
    min_snr_weight,
)
from vidgen_lab.training.stream import Draw

CLIPS = torch.randn(8, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def draw(level=None, seed=0):
    return Draw(0, 0, torch.Generator().manual_seed(seed), level)


class Perfect(nn.Module):
    """Knows the clips, and so every target."""

    def __init__(self, config, offset=0.0):
        super().__init__()
        self.config, self.offset = config, offset

    def forward(self, noisy, t):
        if self.config.prediction == "flow":
            s = (t / self.config.num_timesteps).view(-1, 1, 1, 1, 1)
            return (noisy - CLIPS) / s + self.offset
        scheduler = self.config.scheduler()
        a, s = scheduler.coefficients(t, noisy)
        return scheduler.target(CLIPS, (noisy - a * CLIPS) / s, t) + self.offset


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v", "flow"])
def test_a_model_that_knows_the_clips_has_no_loss_and_any_other_has(prediction):
    config = ObjectiveConfig(prediction=prediction)
    loss, numbers = config.build()(Perfect(config), {"latents": CLIPS}, draw())
    assert loss.shape == (8,) and loss.max() < 1e-4
    wrong, _ = config.build()(Perfect(config, 0.5), {"latents": CLIPS}, draw())
    assert torch.allclose(wrong, torch.full((8,), 0.25), atol=5e-3)
    assert set(numbers) == {"mse"}


@pytest.mark.parametrize("prediction", ["v", "flow"])
def test_an_error_counts_where_the_batch_says_so(prediction):
    config, left = ObjectiveConfig(prediction=prediction), torch.zeros_like(CLIPS[:, :1])
    left[..., 0] = 1
    model = Perfect(config, 0.5 * left)  # wrong in a quarter of the picture
    for weights, expected in ((1 + 0 * left, 0.25 / 4), (1 + 2 * left, 0.25 / 2), (1 - left, 0.0)):
        found, _ = config.build()(model, {"latents": CLIPS, "weights": weights}, draw())
        assert torch.allclose(found, torch.full((8,), expected), atol=5e-3)


def test_every_batch_sees_all_noise_levels_and_held_out_ones_are_exact():
    config = ObjectiveConfig(prediction="v")
    one = draw()
    config.build()(Perfect(config), {"latents": CLIPS}, one)
    assert sorted((one.levels * 8).long().tolist()) == list(range(8))
    fixed = draw(level=0.3)
    config.build()(Perfect(config), {"latents": CLIPS}, fixed)
    assert torch.equal(fixed.levels, torch.full((8,), 0.3))
    normal = replace(config, levels="logit_normal").build()
    drawn = torch.cat([normal.draw_levels(64, draw(seed=n)) for n in range(50)])
    for share in (0.1, 0.5, 0.9):
        exact = torch.special.ndtri(torch.tensor(share)).sigmoid().item()
        assert drawn.quantile(share).item() == pytest.approx(exact, abs=0.01)


def test_a_shifted_flow_trains_on_more_noise():
    levels = {}
    for shift in (1.0, 3.0):
        config = ObjectiveConfig(prediction="flow", shift=shift)
        one = draw()
        config.build()(Perfect(config), {"latents": CLIPS}, one)
        levels[shift] = one.levels
    assert torch.allclose(levels[3.0], 3 * levels[1.0] / (1 + 2 * levels[1.0]))


def test_min_snr_weighs_the_error_of_x0_alike_in_every_form():
    from diffusers import DDPMScheduler

    scheduler = NoiseScheduler(prediction="v")
    t = torch.arange(1000)
    snr = scheduler.snr(t)
    assert torch.allclose(snr, compute_snr(DDPMScheduler(), t), rtol=1e-4)
    on_x0 = min_snr_weight(snr, "x0")
    assert torch.allclose(min_snr_weight(snr, "epsilon") * snr, on_x0, rtol=1e-5)
    assert torch.allclose(min_snr_weight(snr, "v") * (snr + 1), on_x0, rtol=1e-5)
    none_left = torch.zeros(1)
    for prediction in ("epsilon", "x0", "v"):
        assert min_snr_weight(none_left, prediction).isfinite().all()
    config = ObjectiveConfig(prediction="epsilon", weighting="min_snr")
    plain = replace(config, weighting="none")
    weighed, _ = config.build()(Perfect(config, 1.0), {"latents": CLIPS}, draw(0.01))
    bare, _ = plain.build()(Perfect(plain, 1.0), {"latents": CLIPS}, draw(0.01))
    assert (weighed / bare).mean() == pytest.approx(float(min_snr_weight(snr, "epsilon")[10]))


def test_learned_variance_is_scored_beside_the_mean():
    config = ObjectiveConfig(prediction="epsilon")

    class WithVariance(Perfect):
        def forward(self, noisy, t):
            mean = super().forward(noisy, t)
            return torch.cat([mean, torch.full_like(mean, -1.0)], 1)

    loss, numbers = config.build()(WithVariance(config), {"latents": CLIPS}, draw(0.5))
    # -1 names the posterior's own variance, and the mean is right: nothing is left to learn
    assert set(numbers) == {"mse", "vlb"} and loss.abs().max() < 1e-3


def test_frozen_video_is_not_rewarded_by_the_frame_difference_term():
    frozen = CLIPS.mean(2, keepdim=True).expand_as(CLIPS)
    assert frame_difference_loss(CLIPS, CLIPS).max() == 0
    assert frame_difference_loss(CLIPS[:, :, :1], -CLIPS[:, :, :1]).tolist() == [0] * 8  # not NaN
    assert frame_difference_loss(CLIPS + 1.0, CLIPS).max() < 1e-10  # how they follow, not what
    assert frame_difference_loss(frozen, CLIPS).min() > 0.5
    config = ObjectiveConfig(frame_difference=1.0, alignment=1.0)
    objective = config.build(features=lambda x: x.flatten(1))
    loss, numbers = objective(Perfect(config, 0.5), {"latents": CLIPS}, draw())
    assert {"mse", "frame_difference", "alignment"} == set(numbers)
    assert (loss >= numbers["mse"]).all() and numbers["alignment"].max() > 0


def test_each_sample_goes_to_the_expert_of_its_level():
    class Says(nn.Module):
        def __init__(self, word):
            super().__init__()
            self.word = nn.Parameter(torch.tensor(word))

        def forward(self, noisy, t, text):
            return torch.zeros_like(noisy) + self.word + text[:, None, None, None]

    model = TwoExperts(Says(1.0), Says(2.0), boundary=0.9)
    t, text = torch.tensor([0, 899, 900, 999, 5, 950, 1, 2]), torch.arange(8.0)[:, None]
    out = model(CLIPS, t, text=text)[:, 0, 0, 0, 0] - text[:, 0]
    assert out.tolist() == [2, 2, 1, 1, 2, 1, 2, 2]
    out.sum().backward()
    assert model.high.word.grad == 3 and model.low.word.grad == 5


def test_what_does_not_go_together_is_refused():
    for wrong, said in (
        (ObjectiveConfig(prediction="flow", weighting="min_snr"), "not a flow"),
        (ObjectiveConfig(prediction="epsilon", weighting="cogvideox"), "belongs to prediction=v"),
        (ObjectiveConfig(alignment=1.0), "needs features"),
        (ObjectiveConfig(prediction="epsilon", zero_terminal_snr=True), "zero terminal SNR"),
    ):
        with pytest.raises(ValueError, match=said):
            wrong.build()
