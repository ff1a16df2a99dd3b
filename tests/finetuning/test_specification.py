"""The specification against the stock pipelines' own denoising calls, variant by variant."""

import pytest
import torch
from diffusers import CogVideoXImageToVideoPipeline, CogVideoXPipeline
from PIL import Image

from tests.finetuning.conftest import VARIANTS
from tests.tiny_models import MAX_TEXT_TOKENS
from vidgen_lab.finetuning.specification import CogVideoXSpec
from vidgen_lab.generation.request import RequestError
from vidgen_lab.paths import model_dir

SHAPE = {"1.5": (17, 32, 64), "1.5-i2v": (17, 32, 64)}  # frames, height, width; else the smallest


def load(folder):
    image = "i2v" in folder.name
    pipe = (CogVideoXImageToVideoPipeline if image else CogVideoXPipeline).from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def call(pipe, spec, shape, **more):
    """The stock pipeline's own call of its transformer: (arguments, output, first frame)."""
    seen = {}
    forward = pipe.transformer.forward

    def watch(*args, **kwargs):
        assert not args
        out = forward(**kwargs)
        seen.update(kwargs=kwargs, out=out[0])
        return out

    pipe.transformer.forward = watch
    frames, height, width = shape
    if spec.image_to_video:
        pixels = torch.rand(height, width, 3, generator=torch.Generator().manual_seed(1))
        more["image"] = Image.fromarray((pixels * 255).to(torch.uint8).numpy())
    pipe(
        prompt="a red ball moving left",
        num_frames=frames,
        height=height,
        width=width,
        num_inference_steps=1,
        guidance_scale=1.0,
        max_sequence_length=spec.text_tokens,
        generator=torch.Generator().manual_seed(0),
        output_type="latent",
        **more,
    )
    del pipe.transformer.forward
    return seen["kwargs"], seen["out"], more.get("image")


@pytest.mark.parametrize("variant", [*VARIANTS, "toy"])
def test_the_stock_pipeline_makes_the_same_call(variant, folders):
    folder = model_dir("toy-cogvideox") if variant == "toy" else folders[variant]
    pipe, spec = load(folder), CogVideoXSpec.from_folder(folder)
    shape = SHAPE.get(variant, (8 if variant == "toy" else 9, 32, 32))
    spec.check_size(*shape)
    theirs, out, picture = call(pipe, spec, shape)
    image = None
    if spec.image_to_video:
        pixels = pipe.video_processor.preprocess(picture, *shape[1:])[:, :, None]
        posterior = pipe.vae.encode(pixels).latent_dist
        image = spec.scaled_image(posterior.sample(torch.Generator().manual_seed(0)))
    cells = theirs["hidden_states"][:, :, : spec.latent_channels]
    ours = spec.inputs(cells, theirs["timestep"], theirs["encoder_hidden_states"], image)
    given = {n: v for n, v in theirs.items() if v is not None and n != "return_dict"}
    assert set(given) == {name for name, value in ours.items() if value is not None}
    for name, value in given.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=0, msg=name)
    with torch.no_grad():
        assert torch.equal(pipe.transformer(**ours, return_dict=False)[0], out)


@pytest.mark.parametrize("variant", VARIANTS)
def test_latents_become_cells_as_the_pipeline_makes_and_drops_them(variant, folders, generator):
    pipe, spec = load(folders[variant]), CogVideoXSpec.from_folder(folders[variant])
    shape = SHAPE.get(variant, (8 if variant == "toy" else 9, 32, 32))
    theirs = call(pipe, spec, shape)[0]
    frames, height, width = shape
    video = torch.rand(1, 3, frames, height, width, generator=generator) * 2 - 1
    mean = pipe.vae.encode(video).latent_dist.mean  # [1, C, t, h, w]
    cells = spec.cells(mean * spec.vae["scaling_factor"])
    assert cells.shape == theirs["hidden_states"][:, :, : spec.latent_channels].shape
    extra = cells.shape[1] - mean.shape[2]
    assert extra == (1 if variant.startswith("1.5") else 0)
    back = pipe.decode_latents(cells[:, extra:])  # what the pipeline does after dropping them
    torch.testing.assert_close(back, pipe.vae.decode(mean).sample, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_target_is_what_the_scheduler_turns_into_the_clean_latents(variant, folders, generator):
    spec = CogVideoXSpec.from_folder(folders[variant])
    cells, noise = torch.randn(2, 1, 4, 4, 4, 4, generator=generator)
    spec.scheduler.set_timesteps(10)
    for t in spec.scheduler.timesteps:
        times = t.expand(1)
        noisy = spec.scheduler.add_noise(cells, noise, times)
        target = spec.target(cells, noise, times)
        clean = spec.scheduler.step(target, t, noisy).pred_original_sample
        torch.testing.assert_close(clean, cells, rtol=0, atol=2e-5)


def test_the_loss_is_cogvideox_own_weighted_error_on_x0(folders, generator):
    spec = CogVideoXSpec.from_folder(folders["2b"])
    cells, noise, said = torch.randn(3, 4, 3, 4, 4, 4, generator=generator, dtype=torch.float64)
    times = torch.tensor([1, 300, 600, 999])
    alpha = spec.scheduler.alphas_cumprod.double()[times].view(-1, 1, 1, 1, 1)
    spec.scheduler.alphas_cumprod = spec.scheduler.alphas_cumprod.double()
    noisy = spec.scheduler.add_noise(cells, noise, times)
    x0 = alpha.sqrt() * noisy - (1 - alpha).sqrt() * said
    theirs = ((x0 - cells) ** 2 / (1 - alpha)).flatten(1).mean(1)
    target = spec.scheduler.get_velocity(cells, noise, times)
    ours = (said - target).square().flatten(1).mean(1)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)

    class Says(torch.nn.Module):
        def forward(self, hidden_states, **rest):
            return (said.float(),)

    text = torch.zeros(4, MAX_TEXT_TOKENS, 32)
    latents = cells.transpose(1, 2).float()
    loss = spec.loss(Says(), latents, text, noise.float(), times)
    torch.testing.assert_close(loss, ours.float(), rtol=1e-5, atol=0)


def test_wrong_inputs_are_refused_by_name(folders):
    spec = CogVideoXSpec.from_folder(folders["5b"])
    text, times = torch.zeros(1, MAX_TEXT_TOKENS, 32), torch.zeros(1, dtype=torch.long)
    cells = torch.zeros(1, 3, 4, 4, 4)
    for wrong, said in (
        (dict(cells=cells.transpose(1, 2)), "see `cells`"),
        (dict(text=text[:, :5]), f"text must be .1, {MAX_TEXT_TOKENS}"),
        (dict(timesteps=torch.tensor(3)), "timesteps must be"),
        (dict(image=torch.zeros(1, 4, 1, 4, 4)), "does not read"),
    ):
        with pytest.raises(ValueError, match=said):
            spec.inputs(**(dict(cells=cells, timesteps=times, text=text) | wrong))
    with pytest.raises(ValueError, match="latents must be"):
        spec.cells(cells)
    image = CogVideoXSpec.from_folder(folders["5b-i2v"])
    with pytest.raises(ValueError, match="needs the latents of a first frame"):
        image.inputs(cells, times, text)


def test_sizes_that_cannot_be_sampled_are_refused(folders):
    spec = CogVideoXSpec.from_folder(folders["2b"])
    with pytest.raises(RequestError, match="nearest: 9 or 17"):
        spec.check_size(13, 32, 32)
    with pytest.raises(RequestError, match="nearest: 32 or 48"):
        spec.check_size(9, 40, 32)
    with pytest.raises(ValueError, match="learned positions for 32x32 alone"):
        CogVideoXSpec.from_folder(folders["5b-i2v"]).check_size(9, 48, 32)


def test_parts_that_do_not_belong_together_are_refused(folders):
    spec = CogVideoXSpec.from_folder(folders["2b"])
    with pytest.raises(ValueError, match="reads 12 channels for latents of 4"):
        CogVideoXSpec(dict(spec.transformer, in_channels=12), spec.vae, spec.scheduler)
    with pytest.raises(ValueError, match="do not belong together"):
        CogVideoXSpec(spec.transformer, dict(spec.vae, latent_channels=8), spec.scheduler)


def test_what_kind_of_model_it_is(folders):
    said = {name: CogVideoXSpec.from_folder(folder).describe() for name, folder in folders.items()}
    assert said["2b"].startswith("text to video, sin-cos")
    assert said["1.5-i2v"].startswith("image to video, rotary positions, 2 latent frames to a")
