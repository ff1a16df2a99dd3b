"""Prompt to clip: our five steps, and the same numbers from stock LattePipeline."""

import copy

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, LattePipeline

from tests.latte.references import randomise, reference, small_vae, stock_pair, tiny_text_pair
from tests.latte.test_vae import reference as reference_vae
from vidgen_lab.latte import (
    DDIMSampler,
    FlowEulerSampler,
    FlowMatchingPath,
    FrameVAE,
    Latte,
    LatteConfig,
    LatteInputError,
    NoiseScheduler,
    TextEncoder,
    VideoGenerator,
)
from vidgen_lab.latte.text import TextEmbedding

NO_WORDS = TextEmbedding(torch.zeros(1, 1, 12), torch.ones(1, 1, dtype=torch.bool))

SAMPLERS = {
    "ddim": (
        DDIMScheduler(clip_sample=False),
        lambda: DDIMSampler(NoiseScheduler(), 6),
    ),
    "ddpm cosine v": (
        DDPMScheduler(
            beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", clip_sample=False
        ),
        lambda: DDIMSampler(NoiseScheduler(schedule="cosine", prediction="v"), 6, eta=1.0),
    ),
}


@pytest.fixture(scope="module")
def stock():
    tokenizer, text_model = tiny_text_pair()
    pipe = LattePipeline(tokenizer, text_model, reference_vae(), reference(), None)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def ours(stock):
    return VideoGenerator(
        Latte.from_diffusers(stock.transformer),
        FrameVAE.from_diffusers(stock.vae),
        TextEncoder(stock.tokenizer, stock.text_encoder),
    )


def run_stock(pipe, scheduler, **arguments):
    pipe.scheduler = scheduler
    settings = dict(
        num_inference_steps=6, video_length=3, height=32, width=32, clean_caption=False,
        output_type="pt", generator=torch.Generator().manual_seed(4),
    )  # fmt: skip
    return pipe(**{**settings, **arguments}).frames.transpose(1, 2)


@pytest.mark.parametrize("guidance", [1.0, 7.0])
@pytest.mark.parametrize("name", SAMPLERS)
def test_prompt_to_frames_equals_stock_latte_pipeline(stock, ours, name, guidance):
    scheduler, sampler = SAMPLERS[name]
    prompt = "A red ball moving left"
    expected = run_stock(stock, scheduler, prompt=prompt, guidance_scale=guidance)
    text, null = stock_pair(ours.text_encoder, prompt)
    given = ours(None, sampler(), guidance, seed=4, text=text, null=null).frames
    assert given.shape == (1, 3, 3, 32, 32) and given.std() > 0.01
    assert (given - expected).abs().max() <= 1e-5


def test_two_prompts_given_as_embeddings(stock, ours):
    g = torch.Generator().manual_seed(0)
    text, null = torch.randn(2, 5, 12, generator=g), torch.randn(2, 5, 12, generator=g)
    expected = run_stock(
        stock, SAMPLERS["ddim"][0], prompt_embeds=text, negative_prompt_embeds=null,
        negative_prompt=None, guidance_scale=4.0, height=16, width=48,
    )  # fmt: skip
    everything = torch.ones(2, 5, dtype=torch.bool)
    given = ours(
        None, SAMPLERS["ddim"][1](), 4.0, seed=4, height=16, width=48,
        text=TextEmbedding(text, everything), null=TextEmbedding(null, everything),
    )  # fmt: skip
    assert (given.frames - expected).abs().max() <= 1e-5


def test_a_saved_pipeline_with_its_text_encoder_in_half_precision(stock, ours, tmp_path):
    """As Latte-1 is used on a GPU: T5 takes half the memory, all else stays as exact as it was."""
    stock.scheduler = SAMPLERS["ddim"][0]
    stock.save_pretrained(tmp_path)
    loaded = VideoGenerator.from_diffusers(tmp_path, "cpu", torch.bfloat16)
    weights = dict(loaded.text_encoder.model.named_parameters())
    # transformers 5.0 keeps this one matrix of T5 in single precision, later ones do not
    halved = {p.dtype for name, p in weights.items() if not name.endswith(".wo.weight")}
    assert halved == {torch.bfloat16}
    assert {p.dtype for part in (loaded.model, loaded.vae) for p in part.parameters()} == {
        torch.float32
    }
    run = lambda make: make("a red ball", SAMPLERS["ddim"][1](), 4.0).frames  # noqa: E731
    exact, near = run(ours), run(loaded)
    assert near.dtype == torch.float32 and 0 < (near - exact).abs().mean() < 0.02
    exact_too = VideoGenerator.from_diffusers(tmp_path)
    assert torch.equal(run(exact_too), exact)


def test_our_unconditional_model_in_the_stock_pipeline(tmp_path):
    """Our own weights, exported: stock LattePipeline makes the clip that we make."""
    model = randomise(
        Latte(
            LatteConfig(
                hidden_size=16, depth=4, num_heads=2, sample_size=8, num_frames=3,
                modulation="single",
            )
        )
    )  # fmt: skip
    vae = reference_vae()
    pipe = LattePipeline(None, None, vae, model.to_diffusers(), None)
    pipe.set_progress_bar_config(disable=True)
    expected = run_stock(
        pipe, SAMPLERS["ddim"][0], prompt_embeds=torch.zeros(1, 1, 1), guidance_scale=1.0,
        negative_prompt=None, mask_feature=False,
    )  # fmt: skip
    given = VideoGenerator(model, FrameVAE.from_diffusers(vae))(None, SAMPLERS["ddim"][1](), seed=4)
    assert given.frames.std() > 0.01 and (given.frames - expected).abs().max() <= 1e-5
    pipe.save_pretrained(tmp_path)  # without a text encoder
    again = VideoGenerator.from_diffusers(tmp_path)(None, SAMPLERS["ddim"][1](), seed=4)
    assert torch.equal(again.frames, given.frames)


# ----- our own way
def tiny(kind="text", **overrides):
    kinds = {
        "none": {},
        "class": {"condition": "class", "num_classes": 4},
        "text": {"condition": "text", "text_dim": 12},
    }
    config = dict(hidden_size=16, depth=2, num_heads=2, sample_size=4, num_frames=3)
    model = randomise(Latte(LatteConfig(**{**config, **kinds[kind], **overrides})), std=0.2)
    torch.manual_seed(0)
    encoder = TextEncoder(*tiny_text_pair(), max_length=12) if kind == "text" else None
    return VideoGenerator(model, small_vae(), encoder)


def ddim(steps=4):
    return DDIMSampler(NoiseScheduler(schedule="cosine"), steps)


def test_prompt_changes_the_clip_and_the_seed_fixes_it():
    make = tiny()
    run = lambda prompt, seed, w=7.0: make(prompt, ddim(), w, seed).frames  # noqa: E731
    a = run("a red ball", 0)
    assert torch.equal(a, run("a red ball", 0))
    assert not torch.allclose(a, run("a red ball", 1), atol=1e-3)
    assert not torch.allclose(a, run("blue star over ocean", 0), atol=1e-5)
    assert not torch.allclose(a, run("a red ball", 0, 1.0), atol=1e-5)
    assert a.min() >= 0 and a.max() <= 1 and a.dtype == torch.float32


def test_a_negative_prompt_takes_the_empty_ones_place():
    make, prompts = tiny(), ["a red ball", "a blue star"]
    run = lambda **told: make(prompts, ddim(), 5.0, **told).latents  # noqa: E731
    empty, negative = make.encode_prompt(""), make.encode_prompt("blue star")
    assert torch.equal(run(), run(null=empty)) and torch.equal(run(), run(null=empty.repeat(2)))
    assert not torch.equal(run(), run(null=negative))
    assert torch.equal(run(null=negative), run(null=negative.repeat(2)))


def test_several_clips_of_each_prompt():
    make = tiny()
    assert len(make("a ball", ddim(), batch=3).frames) == 3
    four = make(["a ball", "a star"], ddim(), batch=2).latents
    same = make(["a ball", "a ball", "a star", "a star"], ddim()).latents
    assert torch.equal(four, same) and not torch.equal(four[0], four[1])
    with pytest.raises(LatteInputError, match="batch: expected at least 1, given 0"):
        make("a ball", ddim(), batch=0)
    labels = torch.tensor([0, 3])
    assert len(tiny("class")(None, ddim(), labels=labels, batch=2).frames) == 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_models_in_half_precision_make_nearly_the_same_clip(ours, dtype):
    """The sampler between the calls of the model stays in float32, whatever the model is in."""
    half = VideoGenerator(
        copy.deepcopy(ours.model).to(dtype),
        FrameVAE(copy.deepcopy(ours.vae.vae).to(dtype)),
        ours.text_encoder,
    )
    exact = VideoGenerator(ours.model, ours.vae, ours.text_encoder)
    exact.initial_noise = lambda *a, **k: half.initial_noise(*a, **k).float()
    levels = NoiseScheduler(prediction="v")
    for sampler in (
        DDIMSampler(levels, 3), DDIMSampler(levels, 3, eta=1.0),
        FlowEulerSampler(FlowMatchingPath(), 3),
    ):  # fmt: skip
        made, expected = (make("a red ball", sampler, 2.0) for make in (half, exact))
        assert made.latents.dtype == made.frames.dtype == torch.float32
        gap = made.latents - expected.latents
        assert gap.abs().mean() < 0.05 * expected.latents.abs().mean()
        assert (made.frames - expected.frames).abs().mean() < 0.02


def test_batch_and_single_prompts_agree():
    """Each prompt is masked by itself, so its neighbour's length does not matter."""
    make = tiny()
    noise = make.initial_noise(1, torch.manual_seed(0))
    prompts = ["a ball", "a red star moving right over ocean"]
    make.initial_noise = lambda batch, *a, **k: noise.expand(batch, -1, -1, -1, -1)
    both = make(prompts, ddim()).latents
    for i, prompt in enumerate(prompts):
        alone = make(prompt, ddim()).latents
        torch.testing.assert_close(both[i : i + 1], alone, rtol=0, atol=1e-4)


def test_generating_never_encodes():
    """Text-to-video has nothing to encode; only the decoder runs."""
    make = tiny()

    def refuse(*a):
        raise AssertionError("the encoder was called")

    make.vae.vae.encoder.forward = make.vae.moments = refuse
    assert make("a red ball", ddim()).frames.shape == (1, 3, 3, 32, 32)


def test_class_conditional_generation():
    make = tiny("class")
    a = make(None, ddim(), 4.0, labels=torch.tensor([0, 3]))
    assert a.frames.shape[0] == 2
    b = make(None, ddim(), 4.0, labels=torch.tensor([0, 1]))
    torch.testing.assert_close(a.latents[0], b.latents[0])
    assert not torch.allclose(a.latents[1], b.latents[1])


def test_unconditional_generation_of_several_clips():
    out = tiny("none")(None, ddim(), batch=3, height=64, width=32)
    assert out.frames.shape == (3, 3, 3, 64, 32)


def test_clips():
    out = tiny()(["a ball", "a star"], ddim())
    clips = out.clips(fps=8)
    assert len(clips) == 2 and clips[0].frames.shape == (3, 32, 32, 3) and clips[0].fps == 8
    expected = (out.frames[1, :, 2].permute(1, 2, 0) * 255).round().numpy()
    assert (clips[1].frames[2] == expected).all()


def test_half_precision_breakage_is_named():
    make = tiny("none")
    with torch.no_grad():
        make.model.final.proj.weight.fill_(torch.inf)
    with pytest.raises(LatteInputError, match="output of the model at timestep"):
        make(None, ddim())


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("none", {"prompt": "a ball"}, "text encoder: expected a TextEncoder"),
        ("none", {"text": NO_WORDS}, "condition 'none': expected no text"),
        ("none", {"labels": torch.zeros(1).long()}, "condition 'none': expected no labels"),
        ("class", {}, "condition 'class': expected labels, given none"),
        ("class", {"labels": torch.zeros(1).long(), "text": NO_WORDS}, "expected no text"),
        ("text", {}, "condition 'text': expected text, given none"),
        ("text", {"prompt": "a ball", "labels": torch.zeros(1).long()}, "expected no labels"),
        ("text", {"prompt": "a ball", "text": NO_WORDS}, "either prompt or text"),
        ("text", {"prompt": "a ball", "null": NO_WORDS}, "shapes and keys of the null condition"),
        ("text", {"prompt": "a ball", "height": 40}, "multiples of 16, given 40x32"),
    ],
)
def test_wrong_inputs(kind, arguments, message):
    with pytest.raises(LatteInputError, match=message):
        tiny(kind)(**{"prompt": None, **arguments, "sampler": ddim()})
