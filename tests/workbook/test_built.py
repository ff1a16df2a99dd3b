"""Pieces that a reader builds in a chapter, taken out of its cells and tested by themselves."""

import hashlib
import html
import math
import re
from collections import Counter
from functools import cache
from types import SimpleNamespace

import cv2
import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.video.conftest import numbered_clip
from vidgen_lab.generation.request import GenerationRequest
from vidgen_lab.metrics.basics import evaluate_video_basics
from vidgen_lab.paths import model_dir, notebooks_dir
from vidgen_lab.video.clip import Clip
from vidgen_lab.video.show import show_video
from vidgen_lab.workbook.exercises import chapter01 as exercises_of_chapter_1

CHAPTERS = {
    1: "01_first_video",
    2: "02_data_pipeline",
    3: "03_latte_from_scratch",
    4: "04_training",
    5: "05_lora_sft",
}


@cache
def _sources(chapter):
    path = notebooks_dir() / f"{CHAPTERS[chapter]}.ipynb"
    return {cell.id: cell.source for cell in nbformat.read(path, as_version=4).cells}


def built(chapter, *cells, **given):
    """What the cells define, with `given` and the usual imports in place."""
    space = {"np": np, "pd": pd, "cv2": cv2, "torch": torch, "F": F, "nn": nn, "math": math}
    space |= {"re": re, "Clip": Clip} | given
    for cell in cells:
        exec(_sources(chapter)[cell], space)
    return SimpleNamespace(**space)


# chapter 1
def test_guidance_at_0_1_and_beyond():
    guide = built(1, "guide").guide
    assert (guide(2.0, 3.0, 0), guide(2.0, 3.0, 1), guide(2.0, 3.0, 6)) == (2, 3, 8)


@pytest.fixture(scope="module")
def measured():
    clips = built(1, "paradox").paradox_clips()
    return {name: evaluate_video_basics(clip) for name, clip in clips.items()}


def test_the_paradox_consistency_prefers_what_is_broken(measured):
    assert measured["frozen"].consistency == 1
    assert measured["flickering"].consistency > 0.95 > measured["moving"].consistency


def test_the_flow_tells_all_four_apart(measured):
    moving, frozen = measured["moving"], measured["frozen"]
    flickering, teleporting = measured["flickering"], measured["teleporting"]
    assert moving.flow_speed > 3 and moving.verdicts["steadiness"] == "steady"
    assert frozen.static and not any(measured[n].static for n in measured if n != "frozen")
    assert flickering.flow_speed < 0.05 and flickering.warping_error > 10 * moving.warping_error
    assert teleporting.unexplained > 10 * moving.unexplained
    assert teleporting.verdicts["steadiness"].startswith("jumps")


def test_teleporting_has_flawless_frames_and_clips_are_repeatable():
    paradox_clips = built(1, "paradox").paradox_clips
    clips = paradox_clips(seed=3)
    shuffled = np.sort([frame.sum() for frame in clips["teleporting"].frames.astype(np.int64)])
    in_order = np.sort([frame.sum() for frame in clips["moving"].frames.astype(np.int64)])
    assert np.array_equal(shuffled, in_order)
    again = paradox_clips(seed=3)
    assert all(np.array_equal(clips[name].frames, again[name].frames) for name in clips)
    hidden = exercises_of_chapter_1._paradox(3)  # of the checker
    assert all(np.array_equal(clips[name].frames, hidden[name].frames) for name in clips)


def test_raters_see_two_clips_in_either_order():
    form, clip = built(1, "rating", show_video=show_video).RatingForm, numbered_clip(3)
    orders = {tuple(form({"a": clip, "b": clip}, ["motion"], r).names) for r in "abcdefgh"}
    assert orders == {("a", "b"), ("b", "a")}


def test_rating_form_is_blind_and_counts_only_what_was_touched():
    clips = dict.fromkeys(("first", "second", "third"), numbered_clip(3))
    built_here = built(1, "rating", show_video=show_video)
    form = built_here.RatingForm(clips, ["prompt", "motion"], "ann")
    assert sorted(form.names) == sorted(clips) and form.names != list(clips)
    assert form.table.empty and list(form.table) == ["rater", "clip", "question", "score"]
    shown = " ".join(card.children[0].value for card in form.box.children)
    assert "first" not in shown and "second" not in shown
    form.box.children[1].children[1].value = 5
    assert set(form.table["clip"]) == {form.names[1]}
    assert form.table.set_index("question").score.to_dict() == {"prompt": 5, "motion": 3}
    assert "1 of 3" in form.summary()


def test_a_grid_of_settings_and_seeds_is_measured_and_resumed(tmp_path):
    made, request = [], GenerationRequest("a ball")

    def generate(pipe, asked):
        if len(made) == 3 and not asked.guidance_scale == 1:
            raise KeyboardInterrupt
        made.append(asked)
        bright = 10 * asked.num_inference_steps + asked.seed
        frames = np.full((2, 4, 4, 3), bright, np.uint8)
        return SimpleNamespace(clip=Clip(frames, 8), recipe={"seconds": 0.5})

    loaded = SimpleNamespace(revision="1", dtype="float32", device="cpu")
    pipe, checked = SimpleNamespace(loaded=loaded), []
    cell = built(
        1, "grid", pipe=pipe, generate=generate, Progress=lambda jobs, *_: jobs,
        validate_request=lambda asked, _: checked.append(asked),
    )  # fmt: skip

    def run(**changes):
        grid = {n: request.with_(num_inference_steps=n, **changes) for n in (1, 2)}
        bright = lambda clip, prompt: {"bright": clip.frames.mean()}  # noqa: E731
        return cell.run_grid("", grid, (0, 1), bright, tmp_path / "cache")

    with pytest.raises(KeyboardInterrupt):
        run()
    assert len(checked) == 4 and len(made) == 3  # all are checked before the first is made
    made.pop()
    table, clips = run()
    assert len(made) == 3 and list(table.bright) == [10, 11, 20, 21]  # three were there
    assert list(zip(table.setting, table.seed, strict=True)) == list(clips)
    made.clear()
    run(guidance_scale=1)  # another request is another clip
    assert len(made) == 4
    loaded.revision = "2"  # and so is another model's
    run(guidance_scale=1)
    assert len(made) == 8


@pytest.fixture(scope="module")
def toy():
    from diffusers import CogVideoXPipeline

    return CogVideoXPipeline.from_pretrained(model_dir("toy-cogvideox"), dtype=torch.float32)


def test_a_velocity_read_as_noise_ruins_the_clip(toy):
    """Erratum E92."""
    from vidgen_lab.toyworld import Scene, render

    config = toy.transformer.config
    factor = toy.vae_scale_factor_spatial
    size = (config.sample_width * factor, config.sample_height * factor, config.sample_frames)
    clip = render(Scene("ball", "red", "left", "meadow", seed=1), *size).clip
    with torch.no_grad():
        text, empty = toy.encode_prompt(
            "a red ball moving left", max_sequence_length=config.max_text_seq_length
        )
    pieces = built(1, "decode", "c061b", "predict", toy=toy, text=text, without_text=empty)
    clean = pieces.encode(clip)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    a = toy.scheduler.alphas_cumprod[500]
    noisy = a.sqrt() * clean + (1 - a).sqrt() * noise
    _, said = pieces.predict(noisy, torch.tensor(500))
    as_velocity = a.sqrt() * noisy - (1 - a).sqrt() * said
    as_noise = (noisy - (1 - a).sqrt() * said) / a.sqrt()
    error = [(guess - clean).square().mean() for guess in (as_velocity, as_noise)]
    assert error[1] > 3 * error[0]
    assert pieces.decode(clean).shape == (size[2], size[1], size[0], 3)


def test_bands_tell_blur_from_noise():
    band_energy = built(1, "bands").band_energy
    rng = np.random.default_rng(0)
    final = rng.random((2, 64, 96, 3))
    blurred = np.stack([cv2.GaussianBlur(f, (0, 0), 3) for f in final])
    left = 1 - band_energy(blurred - final) / band_energy(final)
    assert left[0] > 0.8 and left[3] < 0.2


def test_the_text_has_parameters_of_its_own_in_cogvideox():
    """Erratum E62: 177 M in the norms, and a matrix."""
    from diffusers import CogVideoXTransformer3DModel

    with torch.device("meta"):
        model = CogVideoXTransformer3DModel(num_attention_heads=30, num_layers=30)
    pieces = built(1, "c075")
    assert pieces.parameter_groups(model).sum() == model.num_parameters() == 1_693_783_872
    norms = [p for n, p in model.named_parameters() if re.search(r"blocks.*norm[12]\.linear", n)]
    assert sum(p.numel() for p in norms) / 2 == pytest.approx(177.3e6, rel=0.001)
    assert all(p.shape[0] == 6 * 30 * 64 for p in norms)  # shift, scale, gate, twice


def test_dit_xl_2_has_675_million_parameters():
    """diffusers gives each block embedders of its own, which makes it look larger."""
    from diffusers import DiTTransformer2DModel

    with torch.device("meta"):
        dit = DiTTransformer2DModel(
            num_attention_heads=16, attention_head_dim=72, in_channels=4, out_channels=8,
            num_layers=28, sample_size=32,
        )  # fmt: skip
    repeated = (p for b in dit.transformer_blocks[1:] for p in b.norm1.emb.parameters())
    assert dit.num_parameters() - sum(p.numel() for p in repeated) == pytest.approx(675e6, rel=0.01)


def test_shares_of_attention_add_up_and_follow_the_keys():
    class Model(nn.Module):
        config = SimpleNamespace(patch_size_t=None)

        def forward(self, latents, texts, timestep):
            q, k = torch.zeros(1, 1, 14, 4), torch.zeros(1, 1, 14, 4)
            q[..., 2:, 0], k[..., :2, 0] = 100.0, 100.0  # 12 video tokens, all look at the 2 words
            F.scaled_dot_product_attention(q, k, k)

    from unittest import mock

    shares = built(1, "spy", mock=mock).attention_shares(
        Model(), torch.zeros(1, 3, 1, 1, 1), torch.zeros(1, 2, 4), torch.tensor(5)
    )
    assert shares.loc[0, "text"] == pytest.approx(1) and shares.sum(axis=1)[0] == pytest.approx(1)


def test_islands_are_counted():
    pieces = built(1, "islands")
    assert pieces.visit(pieces.sample_islands(1000))[0] == 8
    found, wet = pieces.visit(pieces.islands[:1].repeat(1000, 1))
    assert found == 1 and wet == 0
    assert pieces.visit(torch.zeros(100, 2))[1] == 1


def test_the_toys_learn():
    pieces = built(1, "islands", "gan", "vae", "diffusion", "dots", "mocogan", "dot-vae")
    clean = pieces.train_denoiser(steps=400)
    found, wet = pieces.visit(pieces.sample_diffusion(clean, torch.randn(500, 2), 30)[-1])
    assert found >= 6 and wet < 0.5
    assert pieces.train_vae(steps=30).shape == (1000, 2)
    assert len(pieces.train_gan(steps=60)[1]) == 30
    assert pieces.ContentMotion()(torch.tensor([0]), torch.tensor([1])).shape == (1, 8, 3, 12, 12)
    assert pieces.dot_clip(0, 5).std(0).max() < 1e-6  # "still" stands still


def test_the_exact_denoiser_is_the_mean_over_the_heaps():
    exact = built(1, "exact").exact
    x = torch.tensor([[0.4]])
    share, points = 0.5, torch.randn(400_000, generator=torch.Generator().manual_seed(0))
    heaps = torch.tensor([-1.6, 0.1, 1.8])
    clean = heaps[torch.arange(400_000) % 3] + 0.13 * points
    weight = (-((0.4 - share**0.5 * clean) ** 2) / (2 * (1 - share))).exp()
    assert exact(x, share).item() == pytest.approx(
        float((weight * clean).sum() / weight.sum()), abs=0.01
    )


def test_motion_and_similarity_of_simple_clips():
    pieces = built(1, "ssim", "flow")
    rng = np.random.default_rng(0)
    wall = cv2.GaussianBlur(rng.uniform(0, 255, (64, 160, 3)), (0, 0), 3).astype(np.float32)
    wall = cv2.normalize(wall, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    pan = Clip(np.stack([wall[:, 2 * n : 2 * n + 96] for n in range(6)]), fps=8)
    speed, unexplained = pieces.motion(pan)
    assert speed == pytest.approx(100 * 2 * 8 / 96, rel=0.2) and unexplained < 0.1
    still = Clip(np.repeat(wall[None, :, :96], 4, 0), fps=8)
    assert pieces.motion(still) == (0, 0) and pieces.neighbour_similarity(still).min() == 1


def test_blocks_of_video_come_back_as_they_were():
    pieces = built(1, "c090")
    video = np.random.default_rng(0).integers(0, 256, (4, 8, 12, 3))
    tokens = pieces.cut(video, 2, 4)
    assert tokens.shape == (2 * 2 * 3, 2 * 4 * 4 * 3)
    assert (pieces.paste(tokens, video.shape, 2, 4) == video).all()


def test_tokens_and_ratings():
    assert built(1, "tokens").count_tokens(49, 480, 720) == 17_776
    ratings = built(1, "elo").bradley_terry(np.array([[0, 10_000], [1_000, 0]]))
    assert ratings[0] - ratings[1] == pytest.approx(400, abs=1)  # ten to one, by definition


def test_paired_differences():
    paired = built(1, "c120").paired
    before, after = pd.Series([1.0, 2.0, 3.0, 4.0]), pd.Series([1.5, 2.5, 3.6, 4.4])
    assert paired(before, after)["clear"] and paired(before, after)["mean"] == pytest.approx(0.5)
    assert not paired(before, before + [0.1, -0.1, 0.1, -0.1])["clear"]


# chapter 2
def test_a_gate_has_three_endings(tmp_path):
    from vidgen_lab.video.reader import read_clip
    from vidgen_lab.video.writer import write_clip

    pieces = built(2, "steep", "gate", read_clip=read_clip)
    from vidgen_lab.toyworld import Scene, render

    sharp = render(Scene("star", "yellow", "right", "night_sky", seed=1), 160, 96, 16).clip
    soft = Clip(np.stack([cv2.GaussianBlur(f, (0, 0), 4) for f in sharp.frames]), sharp.fps)
    (tmp_path / "page.mp4").write_text("<html>not found</html>")
    ends = {
        "sharp": pieces.through_gates(write_clip(sharp, tmp_path / "sharp.mp4")),
        "soft": pieces.through_gates(write_clip(soft, tmp_path / "soft.mp4")),
        "page": pieces.through_gates(tmp_path / "page.mp4"),
    }
    assert [ends[n][0] for n in ("sharp", "soft", "page")] == ["kept", "rejected", "error"]
    assert "steepness" in ends["soft"][1]


def test_weights_and_thresholds():
    pieces = built(2, "temper")
    concept = np.repeat([0, 1, 2], [90, 9, 1])
    for temperature, expected in ((1, [90, 9, 1]), (0, [100 / 3] * 3)):
        drawn = np.bincount(concept, pieces.tempered_weights(concept, temperature))
        assert drawn == pytest.approx(expected)
    assert pieces.bits([1, 1, 1, 1]) == 2
    threshold, mistakes = built(2, "calibrate").best_threshold([5.0, 6.0, 2.0], [1.0, 1.5, 3.0])
    assert (threshold, mistakes) == (4.0, 1)


def test_a_family_never_splits_and_new_files_move_nothing():
    import hashlib

    split = built(2, "split", hashlib=hashlib).split
    rng = np.random.default_rng(0)
    clips = [(f"c{n:03}", f"s{rng.integers(60)}", f"g{rng.integers(80)}") for n in range(120)]
    sides = split(clips, val=0.4)
    for which in (1, 2):
        seen = {}
        for clip in clips:
            assert seen.setdefault(clip[which], sides[clip[0]]) == sides[clip[0]]
    shuffled = [clips[n] for n in rng.permutation(len(clips))]
    assert split(shuffled, val=0.4) == sides
    more = split([*clips, ("zzz", "elsewhere", "alone")], val=0.4)
    assert all(more[name] == side for name, side in sides.items())
    assert (
        0.02 < Counter(sides.values())["val"] / len(sides) < 0.98 or len(set(sides.values())) == 1
    )


def test_hashes_choices_seals_and_buffers():
    pieces = built(2, "phash", "chain", "ring", "kappa", hashlib=hashlib)
    grey = np.random.default_rng(0).integers(0, 256, (90, 120)).astype(np.uint8)
    grey = cv2.GaussianBlur(grey, (0, 0), 8)
    small = cv2.resize(grey, (60, 45), interpolation=cv2.INTER_AREA)
    assert pieces.bits_apart(pieces.picture_hash(grey), pieces.picture_hash(small)) <= 4
    assert pieces.seal(["a", "b"]) != pieces.seal(["b", "a"]) == pieces.seal(["b", "a"])
    shown, lost = pieces.simulate(0.004 * np.arange(30), 0.008, 3, "drop")
    assert len(shown) + lost == 30 and lost > 5
    assert pieces.simulate(0.004 * np.arange(30), 0.008, 3, "wait")[1] == 0
    assert pieces.kappa_of([1, 1, 0, 0], [1, 1, 0, 0]) == 1
    assert pieces.kappa_of([1, 1, 0, 0], [1, 0, 1, 0]) == 0


def test_a_caption_that_names_a_side_forbids_mirroring():
    pieces = built(2, "mirror")
    frames = np.arange(2 * 16 * 16 * 3, dtype=np.uint8).reshape(2, 16, 16, 3)
    clip = Clip(frames, 8)
    assert pieces.mirror(clip, "a car driving left, fast")[0] is clip
    assert (pieces.mirror(clip, "a ball bouncing")[0].frames == frames[:, :, ::-1]).all()


# chapter 3
def test_rotated_scores_depend_on_the_distance_alone():
    rotate = built(3, "rope").rotate
    q, k = torch.randn(2, 1, 32, generator=torch.Generator().manual_seed(0))
    score = [
        rotate(q, torch.tensor([a])) @ rotate(k, torch.tensor([b])).T for a, b in ((3, 7), (53, 57))
    ]
    assert torch.allclose(*score, atol=1e-4)


def test_zero_terminal_snr_and_a_shift():
    pieces = built(3, "shift")
    abar = (1 - torch.linspace(1e-4, 0.02, 1000)).cumprod(0)
    shifted = pieces.shift_snr(abar, 3.0)
    assert torch.allclose((shifted / (1 - shifted))[500], (abar / (1 - abar))[500] / 3)
    ended = pieces.no_signal_at_the_end(abar)
    assert ended[-1] == 0 and torch.allclose(ended[0], abar[0])


def test_samplers_find_three_heaps_and_subtraction_does_not():
    """Erratum E46."""
    from scipy.stats import wasserstein_distance

    pieces = built(3, "flow", "dpm")
    g = torch.Generator().manual_seed(0)
    truth = pieces.heaps[torch.randint(3, (4000,), generator=g)]
    truth = truth + pieces.width * torch.randn(4000, generator=g)
    start = torch.randn(4000, 1, generator=g)
    error = {
        how: wasserstein_distance(truth, pieces.walk_back(start, 20, how)[:, 0])
        for how in ("subtract the noise", "DDPM", "DDIM", "DPM-Solver++")
    }
    assert error["subtract the noise"] > 0.2
    assert max(error[how] for how in ("DDPM", "DDIM", "DPM-Solver++")) < 0.12
    assert wasserstein_distance(truth, pieces.flow(start, 20)[-1][:, 0]) < 0.12


def test_an_overwritten_stream_forgets():
    """Erratum E10."""
    from vidgen_lab.latte.conditioning import Modulation, vectors

    torch.manual_seed(0)
    block = built(3, "c091", "overwriting", vectors=vectors, Modulation=Modulation).OverwritingBlock
    tokens, cond = (
        torch.randn(2, 4, 16, 64) * torch.linspace(0.2, 5, 16)[:, None],
        torch.randn(2, 64),
    )
    x = tokens
    with torch.no_grad():
        for _ in range(12):
            x = block(64)(x, cond)
    assert F.cosine_similarity(x.flatten(), tokens.flatten(), 0) < 0.5


BLOCKS, FRAMES, HEADS, ROWS, COLS, WORDS = 2, 3, 2, 2, 3, 5


def _maps(seed):
    g, n = torch.Generator().manual_seed(seed), ROWS * COLS
    shapes = {
        "space": (BLOCKS, FRAMES, HEADS, n, n),
        "time": (BLOCKS, n, HEADS, FRAMES, FRAMES),
        "words": (BLOCKS, HEADS, FRAMES * n, WORDS),
    }
    return {name: torch.randn(s, generator=g).softmax(-1) for name, s in shapes.items()}


def _window():
    from vidgen_lab.workbook.show import BLUE, figure

    clip = Clip(np.zeros((FRAMES, 32, 48, 3), np.uint8), fps=8)
    return built(
        3, "looks", "window", attention={500: _maps(0), 900: _maps(1)}, grid=(ROWS, COLS),
        said=["red", "ball", "</s>"], known=SimpleNamespace(clip=clip), BLUE=BLUE, figure=figure,
    )  # fmt: skip


def test_the_panel_needs_no_click_and_follows_its_controls():
    panel = _window().AttentionPanel(frame=2, row=1, column=3)
    first = panel.shown.value
    assert "data:image/png" in first and "row 1, column 3 of frame 2" in panel.summary()
    bundle = panel._repr_mimebundle_()
    assert bundle["text/plain"] == panel.summary() == panel.picture.alt
    panel.controls["row"].value = 2
    assert panel.controls["head"].label == "mean of all"
    panel.controls["head"].value = 1
    assert panel.shown.value != first and "row 2, column 3" in panel.summary()
    panel.controls["level"].value = 900
    assert panel.summary() in html.unescape(panel.shown.value)


def test_what_it_shows_is_the_attention_of_the_token():
    level, looks_of = _maps(0), _window().looks_of
    space, time, words = looks_of(500, frame=2, row=2, column=3, block=2, head=1)
    assert np.array_equal(space.ravel(), level["space"][1, 1, 0, 5].numpy())
    assert np.array_equal(time, level["time"][1, 5, 0, 1].numpy())
    assert np.array_equal(words, level["words"][1, 0, 1 * 6 + 5, :3].numpy())
    mean = looks_of(500, frame=2, row=2, column=3, block=2, head=0)[0]
    assert np.allclose(mean.ravel(), level["space"][1, 1, :, 5].mean(0).numpy())


def test_every_layer_keeps_its_attention_while_the_model_is_watched():
    from vidgen_lab.latte.attention import merge_heads, split_heads

    heads = {"split_heads": split_heads, "merge_heads": merge_heads}
    pieces = built(3, "c064", "core", "c070", "c083", "add-noise", "c172", **heads,
                   make_betas=lambda *_: torch.linspace(1e-4, 0.02, 1000))  # fmt: skip

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.spatial, self.temporal = nn.Module(), nn.Module()
            self.spatial.attention = pieces.SelfAttention(8, 2)
            self.spatial.cross = pieces.CrossAttention(8, 6, 2)
            self.temporal.attention = pieces.SelfAttention(8, 2, "time")

        def forward(self, x, t, text, text_mask):
            x = self.spatial.attention(x.flatten(3).permute(0, 2, 3, 1))
            return self.temporal.attention(self.spatial.cross(x, text, text_mask))

    words = SimpleNamespace(embeddings=torch.randn(1, 5, 6), mask=torch.arange(5)[None] < 2)
    maps = pieces.look(Block(), torch.randn(1, 8, 3, 2, 2), words, 7)
    shapes = {name: tuple(kept.shape) for name, kept in maps.items()}
    assert shapes == {"space": (1, 3, 2, 4, 4), "time": (1, 4, 2, 3, 3), "words": (1, 2, 12, 5)}
    assert all(torch.allclose(kept.sum(-1), torch.ones(())) for kept in maps.values())
    assert maps["words"][..., 2:].abs().max() == 0  # padding gets nothing
