"""Chapter 3's errata: the printed formula, restated in a few lines, goes wrong; ours does not.

Numbers are those of the errata list. Each "printed" function is a minimal restatement of the idea.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.latte.references import randomise, small_vae, tiny_text_pair
from tests.workbook.test_built import built
from vidgen_lab.latte import (
    DDIMSampler,
    Latte,
    LatteConfig,
    NoiseScheduler,
    TextEncoder,
    VideoGenerator,
    latte_config,
)
from vidgen_lab.latte.attention import CrossAttention, SelfAttention, split_heads
from vidgen_lab.latte.blocks import LatteTransformerBlock
from vidgen_lab.latte.diffusion.losses import diffusion_loss
from vidgen_lab.latte.diffusion.samplers import Guidance, sample
from vidgen_lab.latte.measure import saved_bytes
from vidgen_lab.latte.text import MAX_TOKENS, TextEmbedding
from vidgen_lab.latte.tokens import (
    VideoPatchEmbed,
    sincos_1d,
    sincos_2d,
)


# ----- E01: the cosine schedule accumulated twice
def printed_cosine_table() -> torch.Tensor:
    u = torch.linspace(0, 999, 1000) / 1000
    signal = ((u + 0.008) / 1.008 * math.pi / 2).cos().square()  # already cumulative
    return (signal / signal[0]).cumprod(0)


def test_e01_printed_schedule_is_destroyed_after_a_tenth_of_its_steps():
    printed, ours = printed_cosine_table(), NoiseScheduler(schedule="cosine").alphas_cumprod
    half = lambda table: int((table < 0.5).nonzero()[0])  # noqa: E731
    assert half(printed) == 88 and abs(half(ours) - 497) <= 2
    assert (printed == 0).sum() > 500 and (ours == 0).sum() == 0
    useful = lambda table: int((table / (1 - table).clamp_min(1e-9) > 0.01).sum())  # noqa: E731
    assert useful(printed) < 180 and useful(ours) > 930


def test_e01_doing_nothing_scores_well_on_the_printed_schedule():
    """Loss of a "model" that returns its input: looks excellent, teaches nothing."""
    g = torch.manual_seed(0)
    x, noise = torch.randn(2, 20000, generator=g)
    t = torch.randint(0, 1000, (20000,), generator=g)

    def idle_loss(table):
        x_t = table[t].sqrt() * x + (1 - table[t]).sqrt() * noise
        return (x_t - noise).square().mean().item()

    assert idle_loss(printed_cosine_table()) == pytest.approx(0.134, abs=0.02)
    assert idle_loss(NoiseScheduler(schedule="cosine").alphas_cumprod) > 0.68


# ----- E09: positions that collide
def printed_code(width: int, patch: int, frame: int) -> torch.Tensor:
    codes = sincos_1d(width, torch.arange(16))
    return codes[patch] + codes[frame]


def test_e09_printed_positions_collide_and_ours_do_not():
    swapped = [(i, j) for i in range(16) for j in range(i)]
    same = [torch.equal(printed_code(64, i, j), printed_code(64, j, i)) for i, j in swapped]
    assert sum(same) == 120
    space, time = sincos_2d(64, 4, 4), sincos_1d(64, torch.arange(16)).float()
    ours = (space[:, None] + time[None, :]).flatten(0, 1)  # every (patch, frame)
    distance = torch.cdist(ours, ours) + 1e9 * torch.eye(len(ours))
    assert distance.min() > 0.1


def test_e09_a_raster_index_takes_the_end_of_a_row_for_the_neighbour_of_the_next():
    raster = F.normalize(sincos_1d(768, torch.arange(256)), dim=1)
    grid = F.normalize(sincos_2d(768, 16, 16).double(), dim=1)
    near = lambda codes, a, b: float(codes[a[0] * 16 + a[1]] @ codes[b[0] * 16 + b[1]])  # noqa: E731
    right, below, wrap = ((7, 7), (7, 8)), ((7, 7), (8, 7)), ((0, 15), (1, 0))
    assert near(raster, *wrap) == pytest.approx(near(raster, *right), abs=1e-6)
    assert near(raster, *below) < 0.7
    assert near(grid, *right) == pytest.approx(near(grid, *below), abs=1e-6)
    assert near(grid, *wrap) < near(grid, *right) - 0.1


# ----- E10: AdaLN on the residual stream
class PrintedBlock(nn.Module):
    """x <- AdaLN(x); then x <- x + branch(x), the branch with a norm of its own."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(dim, 2 * dim)
        self.branch = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.GELU())
        self.out = nn.Linear(4 * dim, dim)

    def forward(self, x, cond):
        scale, shift = self.modulation(F.silu(cond))[:, None].chunk(2, -1)
        x = F.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift
        return x + self.out(self.branch(x))


def test_e10_printed_block_forgets_its_input_and_adaln_zero_starts_as_the_identity():
    torch.manual_seed(0)
    dim = 64
    tokens = torch.randn(2, 4, 16, dim) * torch.linspace(0.2, 5, 16)[None, None, :, None]
    cond = torch.randn(2, dim)
    alike = lambda a: float(F.cosine_similarity(a.flatten(), tokens.flatten(), 0))  # noqa: E731
    printed, ours = tokens.flatten(1, 2), tokens
    with torch.no_grad():
        for _ in range(12):
            printed = PrintedBlock(dim)(printed, cond)
        config = LatteConfig(hidden_size=dim, depth=24, num_heads=4, sample_size=8, num_frames=4)
        for block in Latte(config).blocks:
            ours = block(ours, cond)
    assert alike(printed) < 0.3
    assert torch.equal(ours, tokens)  # correlation 1 exactly


def test_e10_a_uniform_scale_on_the_stream_is_undone_by_the_next_norm():
    x, shift = torch.randn(2, 16, 64), torch.zeros(1)
    norm = lambda v: F.layer_norm(v, (64,))  # noqa: E731
    printed = [norm(norm(x) * (1 + gamma) + shift) for gamma in (0.0, 4.0)]
    assert (printed[0] - printed[1]).abs().max() < 1e-4  # the branch never hears of it
    ours = [norm(x) * (1 + gamma) for gamma in (0.0, 4.0)]
    assert (ours[0] - ours[1]).abs().max() > 1


# ----- E29: what the chapter says is complete, end to end
def without_some(text: TextEmbedding, null: TextEmbedding, p: float) -> TextEmbedding:
    """Chapter 3's own, which knows plain pairs."""
    drop = built(3, "drop").drop_prompts
    pairs = (text.embeddings, text.mask), (null.embeddings, null.mask)
    return TextEmbedding(*drop(*pairs, p, torch.Generator().manual_seed(0)))


def test_e29_train_and_generate_end_to_end():
    """Prompt, VAE, model, schedule, dropout, guidance, sampler, decoder: nothing is missing."""
    torch.manual_seed(0)
    encoder, vae = TextEncoder(*tiny_text_pair(), max_length=8), small_vae()
    config = LatteConfig(
        hidden_size=16, depth=2, num_heads=2, sample_size=4, num_frames=2, condition="text",
        text_dim=12,
    )  # fmt: skip
    model, scheduler = Latte(config), NoiseScheduler(schedule="cosine")
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    clips = torch.rand(4, 3, 2, 32, 32) * 2 - 1
    scale = 1 / vae.encode(clips).std().item()
    latents = scale * vae.encode(clips).detach()
    text = encoder.encode(["a red ball", "a blue ball", "a star", "the ocean"])
    losses = []
    for _ in range(15):
        dropped = without_some(text, encoder.encode(""), 0.1)
        noise, t = torch.randn_like(latents), torch.randint(1000, (4,))
        x_t = scheduler.add_noise(latents, noise, t)
        output = model(x_t, t, text=dropped.embeddings, text_mask=dropped.mask)
        loss = diffusion_loss(scheduler, output, latents, noise, x_t, t)
        optimizer.zero_grad()
        (loss.mse + loss.vlb).mean().backward()
        optimizer.step()
        losses.append(loss.mse.mean().item())
    assert sum(losses[-5:]) < sum(losses[:5])
    made = VideoGenerator(model, vae, encoder)("a red ball", DDIMSampler(scheduler, 4), 4.0)
    assert made.frames.shape == (1, 3, 2, 32, 32)


# ----- E30: not "just MSE"
def test_e30_the_variance_half_learns_from_the_bound_alone():
    scheduler = NoiseScheduler()
    x, noise = torch.randn(2, 2, 4, 2, 4, 4)
    t = torch.tensor([10, 600])
    x_t = scheduler.add_noise(x, noise, t)
    output = torch.randn(2, 8, 2, 4, 4, requires_grad=True)
    printed = (output[:, :4] - noise).square().mean()  # the printed loss
    (grad,) = torch.autograd.grad(printed, output)
    assert grad[:, 4:].abs().max() == 0  # half of Latte's output would never be trained
    ours = diffusion_loss(scheduler, output, x, noise, x_t, t)
    (grad,) = torch.autograd.grad((ours.mse + ours.vlb).mean(), output)
    assert grad[:, 4:].abs().min() > 0
    assert latte_config("S/2").out_channels == 8


# ----- E31: a norm that leaks over time
def test_e31_a_group_norm_over_the_clip_makes_every_frame_feel_all_others():
    printed, ours = nn.GroupNorm(4, 8), built(3, "c018").FrameGroupNorm(4, 8)
    x = torch.randn(1, 8, 16, 4, 4)
    y = x.clone()
    y[:, :, 0] += 5
    leak = lambda norm: (norm(x) - norm(y))[:, :, 15].abs().mean().item()  # noqa: E731
    assert leak(printed) > 0.1 and leak(ours) == 0
    short = lambda norm: (norm(x[:, :, :4]) - norm(x)[:, :, :4]).abs().max().item()  # noqa: E731
    assert short(printed) > 0.01 and short(ours) < 1e-6


# ----- E32: tables of a fixed size
def test_e32_a_table_fits_one_size_and_computed_positions_fit_all():
    table = nn.Parameter(torch.zeros(1, 256, 24))
    with pytest.raises(RuntimeError):
        torch.zeros(1, 128, 24) + table
    layer = VideoPatchEmbed(2, 4, 24, sample_size=32)
    for frames, height, width in ((24, 32, 32), (8, 32, 32), (16, 16, 32)):
        tokens = layer(torch.zeros(1, 4, frames, height, width))
        assert tokens.shape == (1, frames, height * width // 4, 24)
    assert not any("position" in n for n, _ in layer.named_parameters())


def test_e32_the_order_inside_a_patch_must_be_stated():
    conv, x = nn.Conv2d(4, 24, 2, 2), torch.randn(1, 4, 1, 8, 8)
    expected = conv(x[:, :, 0]).flatten(2).transpose(1, 2)[:, None]
    matrix = conv.weight.flatten(1).T
    patchify = built(3, "c043").patchify
    printed = patchify(x, 2, "ppc") @ matrix + conv.bias  # pixels first, weights channels first
    ours = patchify(x, 2, "cpp") @ matrix + conv.bias
    assert (printed - expected).abs().max() > 0.1
    torch.testing.assert_close(ours, expected)


# ----- E33: attention to padding
def test_e33_padding_changes_the_answer_unless_masked():
    torch.manual_seed(0)
    layer = CrossAttention(32, 24, 4)
    x, words = torch.randn(1, 1, 10, 32), torch.randn(1, 6, 24)
    padded = torch.cat([words, torch.zeros(1, 71, 24)], 1)
    mask = torch.arange(77)[None] < 6
    alone = layer(x, words)
    printed = layer(x, padded)
    assert (printed - alone).norm() > 0.3 * alone.norm()
    torch.testing.assert_close(layer(x, padded, mask), alone)


# ----- E44: one resolution only
def test_e44_a_grid_in_the_constructor_breaks_on_other_sizes():
    printed = lambda x: x.reshape(1, 16, 256, 32)  # noqa: E731  frames, patches constant
    with pytest.raises(RuntimeError):
        printed(torch.zeros(1, 16 * 64, 32))
    block = LatteTransformerBlock(LatteConfig(hidden_size=32, num_heads=4))
    for frames, patches in ((16, 64), (16, 256), (8, 30)):
        assert block(torch.zeros(1, frames, patches, 32), torch.zeros(1, 32)).shape[2] == patches
    assert latte_config("B/2").num_heads == 12  # not the listing's default of 8


# ----- E45: where each half of the VAE works, and the forgotten scale
def test_e45_generation_decodes_only_and_latents_are_scaled():
    vae = small_vae()
    vae.vae.encode = None  # would fail if called
    model = Latte(LatteConfig(hidden_size=16, depth=2, num_heads=2, sample_size=4, num_frames=2))
    made = VideoGenerator(model, vae)(None, DDIMSampler(NoiseScheduler(schedule="cosine"), 2))
    assert made.frames.shape == (1, 3, 2, 32, 32)
    assert AutoencoderKL().config.scaling_factor == 0.18215  # Stable Diffusion's


def test_e45_unscaled_latents_shift_every_noise_level():
    """Latents five times too large are as if the clip had 25 times the signal-to-noise ratio."""
    g = torch.manual_seed(0)
    latents, noise = (
        torch.randn(1, 4, 2, 32, 32, generator=g) / 0.18215,
        torch.randn(1, 4, 2, 32, 32),
    )
    scheduler, t = NoiseScheduler(), torch.tensor([500])
    ratio = lambda x: (  # noqa: E731
        (scheduler.add_noise(x, torch.zeros_like(x), t).var())
        / (scheduler.add_noise(torch.zeros_like(x), noise, t).var())
    ).item()
    expected = scheduler.snr(t).item()
    assert ratio(latents) == pytest.approx(expected / 0.18215**2, rel=0.05)
    assert ratio(latents * 0.18215) == pytest.approx(expected, rel=0.05)


# ----- E61: where text enters
def test_e61_text_enters_the_spatial_blocks_only():
    config = LatteConfig(
        hidden_size=16, depth=56, num_heads=2, sample_size=4, num_frames=2, condition="text",
        text_dim=6, modulation="single",
    )  # fmt: skip
    model = Latte(config)
    assert sum(b.spatial.cross is not None for b in model.blocks) == 28
    assert sum(b.temporal.cross is not None for b in model.blocks) == 0


# ----- E64: the parameter column of table 3-1
def test_e64_parameter_counts():
    printed = {"S/2": 84e6, "B/2": 151e6, "L/2": 459e6, "XL/2": 674e6}
    with torch.device("meta"):
        off = {n: printed[n] / Latte(latte_config(n)).num_parameters() for n in printed}
    assert off["S/2"] > 2.5 and off["B/2"] > 1.16
    assert off["L/2"] == pytest.approx(1.005, abs=0.001)
    assert off["XL/2"] == pytest.approx(1.0, abs=0.001)
    assert latte_config("XL/2").pairs == 14  # 28 blocks are 14 spatial and 14 temporal ones


# ----- E65: 77 tokens
def test_e65_prompt_length_is_the_models_choice():
    tokenizer, model = tiny_text_pair()
    prompt = "a red ball moving left over ocean " * 14  # 98 words
    for name, length in MAX_TOKENS.items():
        real = int(TextEncoder(tokenizer, model, length).encode(prompt).mask.sum())
        assert real == min(length, 99), name


# ----- E76: "strong early, subtle late"
def test_e76_nothing_makes_early_modulation_stronger():
    """Zero for all steps at the start; after that weights decide, in either direction."""
    modulation_strength = built(3, "modulated").modulation_strength
    t = torch.tensor([0, 250, 500, 750, 999])
    config = LatteConfig(hidden_size=16, depth=2, num_heads=2, sample_size=4, num_frames=2)
    assert modulation_strength(Latte(config), t)["scale"].abs().max() == 0
    rises = []
    for seed in range(12):
        strength = modulation_strength(randomise(Latte(config), seed, 0.3), t)["scale"].mean(1)
        rises.append(bool(strength[-1] > strength[0]))
    assert any(rises) and not all(rises)


# ----- E77: "discrete tokens"
def test_e77_tokens_are_continuous():
    layer, x = VideoPatchEmbed(2, 4, 24, 8), torch.randn(1, 4, 1, 8, 8)
    base = layer(x)
    steps = [(layer(x + e) - base).norm().item() for e in (1e-3, 1e-2, 1e-1)]
    assert steps[1] == pytest.approx(10 * steps[0], rel=0.02)  # a smaller change, a smaller step
    assert steps[2] == pytest.approx(10 * steps[1], rel=0.02)
    # a codebook would jump, or not move at all
    codebook = torch.randn(512, 24)
    nearest = lambda v: codebook[torch.cdist(v[0, 0], codebook).argmin(1)]  # noqa: E731
    assert torch.equal(nearest(layer(x + 1e-4)), nearest(base))
    # and nothing is lost on the way to patches and back
    pieces = built(3, "c043")
    assert torch.equal(pieces.unpatchify(pieces.patchify(x, 2), 2, 4, 4), x)


# ----- E82: silent broadcasting
def test_e82_a_fixed_number_of_axes_mixes_samples():
    scheduler = NoiseScheduler()
    x, t = torch.randn(4, 4, 8, 8), torch.tensor([1, 10, 100, 999])
    printed = scheduler.alphas_cumprod[t].sqrt().reshape(-1, 1, 1, 1, 1) * x
    assert printed.shape == (4, 4, 4, 8, 8)  # every image at every noise level, without an error
    ours = scheduler.add_noise(x, torch.zeros_like(x), t)
    assert ours.shape == x.shape
    for i in range(4):
        torch.testing.assert_close(ours[i], scheduler.alphas_cumprod[t[i]].sqrt() * x[i])
    assert len(list(scheduler.buffers())) == 2  # the tables move with .to()


# ----- E85: guidance, trained for and bounded
def test_e85_guidance_needs_dropped_prompts_and_has_no_magic_range():
    x, t = torch.randn(1, 4, 2, 4, 4), torch.tensor([5])
    model = lambda x, t, y: x * y.view(-1, 1, 1, 1, 1)  # noqa: E731
    cond, null = {"y": torch.tensor([1.5])}, {"y": torch.tensor([1.0])}
    out = {w: Guidance(model, cond, null, w)(x, t) for w in (0.0, 1.0, 4.0, 10.0)}
    torch.testing.assert_close(out[0.0], x)
    torch.testing.assert_close(out[1.0], 1.5 * x)
    sizes = [v.std().item() for v in out.values()]
    assert sizes == sorted(sizes) and sizes[-1] == pytest.approx(6 * sizes[0], rel=1e-4)
    # the training half: some prompts become the empty one
    encoder = TextEncoder(*tiny_text_pair(), max_length=6)
    text = without_some(encoder.encode(["a red ball"] * 200), encoder.encode(""), 0.1)
    dropped = text.mask.sum(1) == 1
    assert int(dropped.sum()) in range(10, 31)
    assert torch.equal(text.embeddings[dropped][0], encoder.encode("").embeddings[0])


# ----- E86: complexity in pixels, "massive" gains
def test_e86_the_gain_of_alternating_is_at_most_the_number_of_frames():
    scores = built(3, "scores").scores
    counted = scores(16, 256)
    gain = counted["full"] / counted["alternating"]
    assert gain == pytest.approx(16 * 256 / (16 + 256)) and gain == pytest.approx(15.06, abs=0.01)
    assert scores(16, 256 * 256)["spatial"] == 65536 * counted["spatial"]
    for frames in (4, 16, 64):
        counted = scores(frames, 4096)
        assert counted["full"] / counted["alternating"] < frames


# ----- E93 and table 3-2: "256 GB", "impossible"
def test_e93_full_attention_stores_no_scores_when_fused():
    """The table's 256 GB are scores that nobody needs to keep."""
    full = built(3, "scores").scores(16, 256)["full"]
    assert full * 16 * 2 / 2**30 == 0.5  # GiB: one layer, 16 heads, fp16
    x, layer = torch.randn(1, 8, 64, 32, requires_grad=True), SelfAttention(32, 4, "both")
    fused = saved_bytes(lambda: layer(x), layer)
    with sdpa_kernel(SDPBackend.MATH):
        assert saved_bytes(lambda: layer(x), layer) > 8 * fused


# ----- C: what the chapter has right
def test_checked_and_found_right():
    """Written-out attention equals the fused kernel and the causal mask is exact; so is E01's
    formula once accumulated a single time; reparameterisation and guidance are tested elsewhere.
    """
    naive_attention = built(3, "c064").naive_attention
    q, k, v = torch.randn(3, 2, 4, 6, 8)
    for causal in (False, True):
        expected = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        torch.testing.assert_close(naive_attention(q, k, v, causal=causal)[0], expected)
    weights = naive_attention(q, k, v, causal=True)[1]
    assert weights.triu(1).abs().max() == 0
    assert SelfAttention(16, 4, "time", causal=True).causal


def test_upstream_flash_branch_lost_its_transpose():
    """The original's fused branch merges heads without the transpose: a shuffled answer."""
    q, k, v = torch.randn(3, 2, 4, 6, 8)
    y = F.scaled_dot_product_attention(q, k, v)  # [B, heads, L, d]
    upstream, right = y.reshape(2, 6, 32), y.transpose(1, 2).reshape(2, 6, 32)
    assert (upstream - right).abs().max() > 0.3
    layer = SelfAttention(32, 4)
    x = torch.randn(2, 1, 6, 32)
    q, k, v = (split_heads(m(x)[:, 0], 4) for m in (layer.q, layer.k, layer.v))
    y = built(3, "c064").naive_attention(q, k, v)[0].transpose(1, 2).reshape(2, 6, 32)
    torch.testing.assert_close(layer(x)[:, 0], layer.out(y))


def test_plain_subtraction_is_no_sampler():
    """ "Noise is subtracted from the video": without the schedule's factors the result is wrong."""
    scheduler = NoiseScheduler(schedule="cosine")
    clip = torch.full((1, 4, 2, 4, 4), 2.0)

    def perfect(x, t):
        a, s = scheduler.coefficients(t, x)
        return (x - a * clip) / s

    noise, sampler = torch.randn(1, 4, 2, 4, 4), DDIMSampler(scheduler, 50)
    x = noise
    for t in sampler.timesteps:
        x = x - perfect(x, t.expand(1))
    assert (x - clip).abs().max() > 0.1
    assert (sample(perfect, sampler, noise) - clip).abs().max() < 1e-3
