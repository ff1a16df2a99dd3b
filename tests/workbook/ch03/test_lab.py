"""Chapter 3's experiments, figures and panel: each measures what it says."""

import ast

import nbformat
import numpy as np
import pytest
import torch

from tools import built_here
from vidgen_lab.latte import Latte, LatteConfig, NoiseScheduler, VideoVAE
from vidgen_lab.latte.measure import attention_cost
from vidgen_lab.paths import notebooks_dir
from vidgen_lab.video.clip import Clip
from vidgen_lab.video.tensors import as_clip, as_tensor
from vidgen_lab.workbook.ch03 import lab as latte_lab

MODULES = [
    f"vidgen_lab.latte.{name}"
    for name in (
        *("vae", "tokens", "attention", "conditioning", "blocks", "text"),
        *("diffusion.schedule", "diffusion.losses", "diffusion.samplers"),
    )
]


# what is built in view
def test_what_the_notebook_builds_is_what_the_package_has():
    notebook = nbformat.read(notebooks_dir() / "03_latte_from_scratch.ipynb", as_version=4)
    cells = [c.source for c in notebook.cells if "build-it" in c.metadata.get("tags", [])]
    names = [name for cell in cells for name in built_here.bare(cell)]
    assert len(names) >= 25 and len(set(names)) == len(names)
    assert list(built_here.differing(cells, MODULES)) == []


def test_a_changed_piece_is_noticed():
    source = (
        "def kl_divergence(mu, logvar):\n    return 0.5 * (mu.square() + {} - 1 - logvar).mean()"
    )
    right, wrong = source.format("logvar.exp()"), source.format("logvar")
    assert list(built_here.differing([right], MODULES)) == []
    assert list(built_here.differing([wrong, "def unknown(): pass"], MODULES)) == [
        "kl_divergence",
        "unknown",
    ]


def test_words_types_and_checks_do_not_count():
    long = '''
class A(B):
    """Words."""

    size: int

    def f(self, x: Tensor, n: int = 3) -> Tensor:
        """More words."""
        require(n > 0, "n", "> 0", n)
        y: Tensor = x + n
        return y
'''
    bare = "class A(B):\n    def f(self, x, n=3):\n        y = x + n\n        return y"
    assert built_here.bare(long) == built_here.bare(bare)
    other = bare.replace("n=3", "n=4")
    assert built_here.bare(long) != built_here.bare(other)
    assert ast.parse(bare)


# compression
def test_clips_survive_the_way_to_tensors_and_back():
    frames = np.random.default_rng(0).integers(0, 256, (3, 8, 12, 3)).astype(np.uint8)
    x = as_tensor([Clip(frames, fps=8)])
    assert x.shape == (1, 3, 3, 8, 12) and x.min() >= -1 and x.max() <= 1
    assert np.array_equal(as_clip(x[0]).frames, frames)
    assert latte_lab.psnr(x, x) > 100
    half = torch.zeros(1, 3, 2, 4, 4)
    assert latte_lab.psnr(half, half + 0.2) == pytest.approx(20)


def test_impulses_reach_what_the_kernel_reaches():
    assert latte_lab.time_impulse(1).nonzero()[0].tolist() == [4]
    assert latte_lab.time_impulse(3).nonzero()[0].tolist() == [3, 4, 5]
    assert latte_lab.time_impulse(3, causal=True).nonzero()[0].tolist() == [4, 5, 6]
    assert latte_lab.time_impulse(3).sum() == pytest.approx(1)


def test_more_components_and_more_training_are_better():
    clips = latte_lab.toy_clips(4, 0, 32, 32, 2)
    curve = latte_lab.pca_curve(clips, clips, 8, [1, 4, 16])
    assert curve.dB.is_monotonic_increasing
    assert curve["values per pixel"].tolist() == [1 / 64, 4 / 64, 16 / 64]
    torch.manual_seed(0)
    errors = latte_lab.train_small_vae(VideoVAE(base_channels=8), clips, 12, batch=2)
    assert np.mean(errors[-4:]) < np.mean(errors[:4])


# attention
def test_costs_are_the_formulas_and_the_counter_agrees():
    table = latte_lab.attention_table()
    assert table.loc["full", "GiB of scores"] == pytest.approx(0.5)
    counted = latte_lab.attention_flops_counted(3, 8, 16, 2)
    formula = attention_cost(3, 8, 16, 2)
    assert counted == {kind: formula[kind].flops for kind in counted}
    kept = latte_lab.attention_measured(2, (2, 4), 16, 2)
    assert kept.tokens.tolist() == [8, 32]
    assert (kept["both, naive"] > kept["both, fused"]).all()


# depth and diffusion
def test_the_overwritten_stream_forgets_and_the_gated_one_does_not():
    book, ours = latte_lab.memory_of_the_input([1, 12]).to_numpy().T
    assert book[1] < 0.4 < book[0] and (ours == pytest.approx(1))


def test_the_printed_schedule_is_the_one_of_the_errata():
    table = latte_lab.printed_cosine_table()
    assert int((table < 0.5).nonzero()[0]) == 88
    assert latte_lab.idle_loss(table) == pytest.approx(0.134, abs=0.01)


def test_samplers_find_the_distribution_and_subtraction_does_not():
    found = latte_lab.ways_back(4000)
    for name in ("DDPM", "DDIM"):
        assert found[name].mean() == pytest.approx(2, abs=0.06)
        assert found[name].std() == pytest.approx(0.5, abs=0.05)
    assert found["subtract"].std() < 0.01
    assert max(latte_lab.sampler_differences(6).values()) <= 1e-5


def test_one_clip_is_learned():
    torch.manual_seed(0)
    config = LatteConfig(sample_size=4, num_frames=2, hidden_size=32, depth=2, num_heads=2)
    latents, calls = torch.randn(1, 4, 2, 4, 4).repeat(4, 1, 1, 1, 1), []
    losses = latte_lab.overfit(
        Latte(config), NoiseScheduler(prediction="v"), latents, 30, lambda: calls.append(1)
    )
    assert len(calls) == 30 and np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])
