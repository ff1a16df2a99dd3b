"""Chapter 3's experiments, figures and panel: each measures what it says."""

import ast

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch

from tools import built_here
from vidgen_lab.latte import Latte, LatteConfig, NoiseScheduler, VideoVAE
from vidgen_lab.latte.measure import attention_cost
from vidgen_lab.latte.text import TextEmbedding
from vidgen_lab.paths import notebooks_dir
from vidgen_lab.video.clip import Clip
from vidgen_lab.video.tensors import as_clip, as_tensor
from vidgen_lab.workbook.ch03 import diagrams as latte_diagrams
from vidgen_lab.workbook.ch03 import figures as latte_figures
from vidgen_lab.workbook.ch03 import lab as latte_lab
from vidgen_lab.workbook.panels.attention import AttentionPanel, look, pick, share_on

MODULES = [
    f"vidgen_lab.latte.{name}"
    for name in (
        *("vae", "tokens", "attention", "conditioning", "blocks", "schedule", "losses", "samplers"),
        "text",
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


# figures
FIGURES = {
    "impulses": lambda: latte_figures.impulses({"a": np.eye(5)[2], "b": np.ones(5) / 5}),
    "rate_quality": lambda: latte_figures.rate_quality(
        {"PCA": pd.DataFrame({"values per pixel": [0.1, 0.2], "dB": [20.0, 25.0]})},
        {"VAE": (0.1, 22.0)},
    ),
    "position_maps": lambda: latte_figures.position_maps({"a": np.eye(4)}, (1, 1)),
    "codes": lambda: latte_figures.codes(np.eye(4), "codes", "frame", 3),
    "kept_memory": lambda: latte_figures.kept_memory(
        pd.DataFrame(
            {"tokens": [8, 32]}
            | {f"{v}, {h}": [1.0, 4.0] for v in ("both", "space") for h in ("naive", "fused")}
        )
    ),
    "fading": lambda: latte_figures.fading(
        pd.DataFrame({"a": [1, 0.2], "b": [1, 1]}, index=[1, 9])
    ),
    "schedules": lambda: latte_figures.schedules({"a": np.linspace(1, 0, 10)}),
    "losses": lambda: latte_figures.losses({"a": [3.0, 2.0, 1.0]}, "loss"),
    "samples_1d": lambda: latte_figures.samples_1d({"a": np.arange(4.0), "b": np.ones(4)}),
    "modulation": lambda: latte_figures.modulation(
        {n: np.ones((2, 4)) for n in ("shift", "scale", "gate")}, [0, 9]
    ),
    "sweep": lambda: latte_figures.sweep(pd.DataFrame({"a": [1, 2]}, index=[1.0, 4.0]), "scale"),
    "token_costs": lambda: latte_figures.token_costs(
        pd.DataFrame({"tokens": [4, 16], "products": [1.0, 4.0], "attention": [0.1, 1.0]})
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_pictures_of_one_width_with_alt_text(name):
    picture = FIGURES[name]()
    assert picture.data.startswith(b"\x89PNG") and picture.width == 860
    assert len(picture.alt) > 10


def test_drawings_have_a_title_and_fit_their_sheet():
    shapes = dict.fromkeys(("text", "latents", "tokens", "video"), (1, 2))
    for drawing in (latte_diagrams.system(shapes), latte_diagrams.views(), latte_diagrams.block()):
        assert drawing.alt in drawing.svg() and drawing.width == 860


def test_no_writing_runs_over_the_edge_of_a_box():
    shapes = dict.fromkeys(("text", "latents", "tokens", "video"), (16, 256, 1152))
    for drawing in (latte_diagrams.system(shapes), latte_diagrams.block()):
        boxes = [box(p, "x", "y", "width", "height") for p in drawing.parts if "<rect" in p]
        texts = [p for p in drawing.parts if "<text" in p and "'middle'" in p]
        assert boxes and texts
        for part in texts:
            x, y, size = box(part, "x", "y", "font-size")
            half = 0.24 * size * len(part.split(">")[1].split("<")[0])  # of a slim letter
            for left, top, w, h in boxes:
                if top < y < top + h:
                    inside = left <= x - half and x + half <= left + w
                    assert inside or x + half < left or x - half > left + w, part


def box(part, *names):
    return [float(part.split(f" {name}='")[1].split("'")[0]) for name in names]


def test_exploded_frames_keep_every_pixel():
    frame = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    sheet = latte_figures.exploded(frame, 2, scale=1, gap=1)
    assert sheet.shape == (5, 8, 3)
    assert np.array_equal(sheet[3:5, 6:8], frame[2:4, 4:6])
    assert (sheet[2] == 255).all()


# where does this token look
@pytest.fixture(scope="module")
def maps():
    torch.manual_seed(0)
    config = LatteConfig(
        sample_size=4, num_frames=3, hidden_size=16, depth=4, num_heads=2, condition="text",
        text_dim=6, modulation="single",
    )  # fmt: skip
    model = Latte(config)
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(std=0.5)
    text = TextEmbedding(torch.randn(1, 5, 6), torch.tensor([[True, True, True, False, False]]))
    return look(model, NoiseScheduler(), torch.randn(1, 4, 3, 4, 6), text, 300)


def test_maps_are_attention_by_place(maps):
    assert maps.space.shape == (2, 3, 2, 6, 6) and (maps.rows, maps.cols) == (2, 3)
    assert maps.time.shape == (2, 6, 2, 3, 3) and maps.words.shape == (2, 2, 3, 6, 5)
    for kind in (maps.space, maps.time, maps.words):
        torch.testing.assert_close(kind.sum(-1), torch.ones_like(kind.sum(-1)))
    assert maps.words[..., 3:].max() == 0  # padding is not looked at
    space, time, words = pick(maps, frame=1, row=1, col=2, pair=1, head=0)
    assert np.array_equal(space.ravel(), maps.space[1, 1, 0, 5].numpy())
    assert np.array_equal(time, maps.time[1, 5, 0, 1].numpy())
    assert np.array_equal(words, maps.words[1, 0, 1, 5].numpy())


def test_even_attention_has_a_share_of_one(maps):
    from dataclasses import replace

    mask = np.zeros((3, 32, 48), bool)
    mask[:, :16, :16] = True
    even = replace(maps, space=torch.full_like(maps.space, 1 / 6))
    assert share_on(even, mask) == pytest.approx(1)
    drawn = even.space.clone()
    drawn[..., 0, :] = torch.eye(6)[0]  # tokens on the subject see the subject alone
    drawn = replace(maps, space=drawn)
    assert share_on(drawn, mask) == pytest.approx(6)
    assert share_on(drawn, mask, inside=False) == pytest.approx(1)


def test_the_panel_needs_no_click_and_follows_its_controls(maps):
    clip = Clip(np.zeros((3, 32, 48, 3), np.uint8), fps=8)
    panel = AttentionPanel(clip, {300: maps, 600: maps}, ["red", "ball", "</s>"], start=(1, 0, 2))
    first = bytes(panel.view.value)
    assert first.startswith(b"\xff\xd8") and "row 1, column 3 of frame 2" in panel.summary()
    bundle = panel._repr_mimebundle_()
    assert bundle["text/plain"] == panel.summary()
    panel.controls["row"].value = 2
    assert panel.controls["head"].label == "mean of all" and panel.choice["head"] is None
    panel.controls["head"].value = 1
    assert bytes(panel.view.value) != first and "row 2, column 3" in panel.text.value
    assert panel.choice["row"] == 1 and panel.picture().alt == panel.summary()
