import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import CogVideoXPipeline

from tests.tiny_models import MAX_TEXT_TOKENS, tiny_pipeline
from vidgen_lab.generation import generate as module
from vidgen_lab.generation.generate import GenerationCancelled, NonFiniteError, generate
from vidgen_lab.generation.loading import load_pipeline
from vidgen_lab.generation.request import RequestError


def test_every_layout_makes_the_clip_that_was_asked_for(layout, pipes, request_):
    request = request_.with_(width=48, fps=16)
    clip = generate(pipes[layout], request).clip
    assert (clip.num_frames, clip.height, clip.width, clip.fps) == (17, 32, 48, 16)
    assert clip.frames.std() > 1


@pytest.mark.parametrize(
    ("asked", "given"), [(5, 8), (9, 9), (13, 16), (17, 17), (21, 24), (25, 25), (48, 48), (50, 49)]
)
def test_why_the_frame_count_is_checked(pipe, asked, given):
    """diffusers itself returns another number of frames, silently."""
    frames = pipe(
        prompt="a ball",
        num_frames=asked,
        height=32,
        width=32,
        num_inference_steps=1,
        guidance_scale=1.0,
        max_sequence_length=MAX_TEXT_TOKENS,
        output_type="np",
    ).frames[0]
    assert len(frames) == given


def test_why_the_text_length_is_passed(pipe, pipes):
    """The 2B layout adds positions to a text of one fixed length; diffusers assumes 226."""
    arguments = dict(prompt="a", num_frames=9, height=32, width=32, num_inference_steps=1)
    with pytest.raises(RuntimeError, match="size of tensor"):
        pipe(**arguments)
    pipes["5b"](**arguments)  # rotary positions take any length


def test_why_sides_are_multiples_of_16(pipe):
    with pytest.raises(RuntimeError):
        pipe(
            prompt="a",
            num_frames=9,
            height=40,
            width=32,
            num_inference_steps=1,
            max_sequence_length=MAX_TEXT_TOKENS,
        )


def test_the_same_seed_gives_the_same_frames(pipe, request_):
    first, again = (generate(pipe, request_).clip.frames for _ in range(2))
    other = generate(pipe, request_.with_(seed=1)).clip.frames
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.1


def test_plain_diffusers_gives_the_same_frames(layout, folders, pipes, request_):
    plain = CogVideoXPipeline.from_pretrained(folders[layout])
    frames = plain(
        prompt=request_.prompt,
        negative_prompt=request_.negative_prompt,
        num_frames=request_.num_frames,
        height=request_.height,
        width=request_.width,
        num_inference_steps=request_.num_inference_steps,
        guidance_scale=request_.guidance_scale,
        generator=torch.Generator().manual_seed(request_.seed),
        max_sequence_length=MAX_TEXT_TOKENS,
        output_type="np",
    ).frames[0]
    ours = generate(pipes[layout], request_).clip.frames
    np.testing.assert_array_equal(ours, np.rint(frames * 255).astype(np.uint8))


def test_prompt_negative_prompt_steps_and_guidance_arrive(pipe, request_):
    base = generate(pipe, request_).clip.frames
    for change in (
        {"prompt": "a blue star in the ocean"},
        {"negative_prompt": "the red rose"},
        {"num_inference_steps": 3},
        {"guidance_scale": 1.0},
    ):
        assert (generate(pipe, request_.with_(**change)).clip.frames != base).any(), change


def test_why_1_5_has_a_largest_size(pipes):
    with pytest.raises(RuntimeError, match="Sizes of tensors must match"):
        pipes["1.5"](prompt="a", num_frames=17, height=32, width=80, num_inference_steps=1)


def test_an_illegal_request_costs_no_work(pipe, request_):
    with pytest.raises(RequestError, match="nearest"):
        generate(pipe, request_.with_(num_frames=47), on_step=lambda step: pytest.fail("worked"))


def test_an_unfamiliar_size_is_told_before_the_wait(pipe, request_):
    with (
        pytest.warns(UserWarning, match="trained on 9 frames of 32x32; 48x32 and 17 frames may"),
        pytest.raises(GenerationCancelled),
    ):
        generate(pipe, request_.with_(width=48), should_stop=lambda: True)


def test_steps_are_reported_and_previews_come_every_k_steps(layout, pipes, request_):
    seen = []
    request = request_.with_(num_inference_steps=5)
    generation = generate(pipes[layout], request, on_step=seen.append, preview_every=2)
    assert [s.step for s in seen] == [1, 2, 3, 4, 5]
    assert {s.total for s in seen} == {5}
    assert [s.step for s in seen if s.preview] == [2, 4]
    preview = seen[1].preview
    assert preview.frames.shape == generation.clip.frames.shape
    assert preview.fps == request.fps
    seconds = [s.seconds for s in seen]
    assert seconds == sorted(seconds) and seconds[0] > 0


def test_previews_do_not_change_the_result(pipe, request_):
    plain = generate(pipe, request_).clip.frames
    shown = generate(pipe, request_, on_step=lambda s: None, preview_every=1)
    np.testing.assert_array_equal(shown.clip.frames, plain)


def test_the_last_preview_is_the_result(pipe, request_):
    """At the end nothing is left to remove: the estimate and the state become one."""
    request, seen = request_.with_(num_inference_steps=16), []
    result = generate(pipe, request, on_step=seen.append, preview_every=5).clip.frames
    previews = [step.preview.frames.astype(float) for step in seen if step.preview]
    distance = [np.abs(preview - result).mean() for preview in previews]
    assert distance == sorted(distance, reverse=True)
    assert distance[-1] < 0.2 * distance[0]


def test_the_scheduler_is_left_as_it_was(pipe, request_):
    with pytest.raises(ZeroDivisionError):
        generate(pipe, request_, on_step=lambda s: 1 / 0, preview_every=1)
    assert "step" not in vars(pipe.scheduler)


def test_cancelling_stops_before_the_next_step(pipe, request_):
    stop, seen = threading.Event(), []

    def on_step(step):
        seen.append(step.step)
        if step.step == 2:
            stop.set()

    with pytest.raises(GenerationCancelled):
        generate(pipe, request_.with_(num_inference_steps=5), on_step, should_stop=stop.is_set)
    assert seen == [1, 2]
    assert generate(pipe, request_).clip.num_frames == 17  # the pipeline can go on


def test_cancelling_before_the_start(pipe, request_):
    stop = threading.Event()
    stop.set()
    with pytest.raises(GenerationCancelled):
        generate(pipe, request_, lambda step: pytest.fail("worked"), should_stop=stop.is_set)


def test_cancelling_from_another_thread(pipe, request_):
    stop, started = threading.Event(), threading.Event()

    def press():
        started.wait(10)
        stop.set()

    thread = threading.Thread(target=press)
    thread.start()
    with pytest.raises(GenerationCancelled):
        generate(
            pipe,
            request_.with_(num_inference_steps=1000),
            lambda step: started.set(),
            should_stop=stop.is_set,
        )
    thread.join()


def test_cancelling_after_the_last_step_is_too_late(pipe, request_):
    stop = threading.Event()
    generation = generate(
        pipe, request_, lambda s: s.step == s.total and stop.set(), should_stop=stop.is_set
    )
    assert generation.clip.num_frames == 17


@pytest.mark.parametrize("part", ["transformer", "vae"])
def test_broken_weights_are_an_error_not_a_black_video(part, request_):
    pipe = tiny_pipeline()
    pipe.set_progress_bar_config(disable=True)
    for weight in getattr(pipe, part).parameters():
        weight.data.fill_(float("nan"))
    where = "at step 1 of 2" if part == "transformer" else "in the decoded frames"
    with pytest.raises(NonFiniteError, match=where):
        generate(pipe, request_)


def test_the_recipe_tells_all(pipe, folders, request_):
    request = request_.with_(seed=5, negative_prompt="dog")
    recipe = generate(pipe, request).recipe
    for name, value in request.to_dict().items():
        if name != "model":
            assert recipe[name] == value
    assert recipe["model"] == str(folders["2b"])
    assert recipe["model_revision"] == pipe.loaded.revision
    assert (recipe["dtype"], recipe["device"]) == ("float32", "cpu")
    assert recipe["scheduler"] == "CogVideoXDDIMScheduler"
    assert torch.__version__.startswith(recipe["versions"]["torch"])  # or with +cu130 behind it
    assert recipe["seconds"] > 0
    assert 0.05 < recipe["peak_memory_gib"] < 100
    assert recipe["device_name"]


def test_time_spent_on_previews_is_not_generation_time(pipe, request_, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    steps = []

    def slow(step):
        steps.append(step)
        now[0] += 100

    assert generate(pipe, request_, on_step=slow).recipe["seconds"] == 0
    assert [step.seconds for step in steps] == [0, 0]


def test_a_pipeline_made_elsewhere_works_too(request_):
    pipe = tiny_pipeline("5b")
    pipe.set_progress_bar_config(disable=True)
    recipe = generate(pipe, request_.with_(model="mine")).recipe
    assert recipe["model"] == "mine"
    assert recipe["model_revision"] is None


def test_bfloat16_on_the_cpu_makes_nearly_the_same_clip(pipe, folders, request_):
    half = load_pipeline(folders["2b"], device="cpu", dtype="bfloat16")
    made = generate(half, request_)
    assert made.recipe["dtype"] == "bfloat16"
    exact = generate(pipe, request_).clip.frames.astype(float)
    assert np.abs(made.clip.frames - exact).mean() < 0.5 * exact.std()


def test_two_threads_with_one_pipeline_take_turns(pipe, request_):
    """Both would step through the one scheduler, and with unequal steps neither would be right."""
    other = request_.with_(seed=1, num_inference_steps=request_.num_inference_steps + 3)
    alone = [generate(pipe, request).clip.frames for request in (request_, other)]
    made = []
    thread = threading.Thread(target=lambda: made.append(generate(pipe, other).clip.frames))

    def on_step(step):
        if step.step == 1:
            thread.start()
            thread.join(0.3)  # long enough to interfere, if it could

    made.insert(0, generate(pipe, request_, on_step=on_step).clip.frames)
    thread.join()
    for frames, expected in zip(made, alone, strict=True):
        np.testing.assert_array_equal(frames, expected)
