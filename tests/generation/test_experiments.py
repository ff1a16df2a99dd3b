import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from vidgen_lab.generation import experiments
from vidgen_lab.generation.experiments import (
    PROMPT_STYLES,
    clip_metrics,
    experiment_prompt_styles,
    run_grid,
    toy_metrics,
)
from vidgen_lab.generation.request import RequestError
from vidgen_lab.video.clip import Clip


def brightness(clip, prompt):
    return {"brightness": float(clip.frames.mean()), "words": float(len(prompt.split()))}


OPTIONS = dict(seeds=(0, 1), metrics=brightness)


def by_steps(pipe, request, steps, **options):
    """A grid over numbers of steps (book listing 1.L11)."""
    grid = {n: request.with_(num_inference_steps=n) for n in steps}
    return run_grid(pipe, grid, **options)


def test_steps_times_seeds(pipe, request_):
    seen = []
    result = by_steps(
        pipe,
        request_,
        steps=(1, 3),
        on_clip=lambda done, of, clip: seen.append((done, of)),
        **OPTIONS,
    )
    assert list(zip(result.table.setting, result.table.seed, strict=True)) == [
        (1, 0), (1, 1), (3, 0), (3, 1),
    ]  # fmt: skip
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    measured = ["seconds", "peak_memory_gib", "brightness", "words"]
    assert list(result.table.columns) == ["setting", "seed", "prompt", *measured]
    assert (result.table.seconds > 0).all()
    assert set(result.clips) == {(1, 0), (1, 1), (3, 0), (3, 1)}
    assert (result.clips[1, 0].frames != result.clips[3, 0].frames).any()
    row = result.table.iloc[2]
    assert row.brightness == result.clips[3, 0].frames.mean()


def test_prompt_styles(pipe, request_):
    prompts = {"short": "a ball", "long": "the red ball moving left"}
    table = experiment_prompt_styles(pipe, request_, prompts, **OPTIONS).table
    assert list(table.words) == [2, 2, 5, 5]
    assert list(table.prompt.unique()) == list(prompts.values())
    assert list(PROMPT_STYLES) == ["minimal", "detailed", "artistic"]


def test_all_requests_are_checked_first(pipe, request_):
    with pytest.raises(RequestError):
        experiment_prompt_styles(
            pipe,
            request_,
            {"fine": "a ball", "long": "ball " * 50},
            on_clip=lambda *a: pytest.fail("worked"),
            **OPTIONS,
        )


@pytest.fixture
def made(monkeypatch):
    """The requests for which a clip was really made."""
    requests = []
    real = experiments.generate

    def counted(pipe, request, **options):
        requests.append(request)
        return real(pipe, request, **options)

    monkeypatch.setattr(experiments, "generate", counted)
    return requests


def test_a_stopped_experiment_goes_on_where_it_was(pipe, request_, tmp_path, made):
    run = lambda **o: by_steps(  # noqa: E731
        pipe, request_, (1, 2), cache=tmp_path, **OPTIONS, **o
    )

    def stop(done, of, clip):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(on_clip=stop)
    assert len(made) == 3 and len(list(tmp_path.iterdir())) == 3
    resumed = run()
    assert len(made) == 4
    fresh = by_steps(pipe, request_, (1, 2), **OPTIONS)
    pd.testing.assert_frame_equal(
        resumed.table.drop(columns=["seconds", "peak_memory_gib"]),
        fresh.table.drop(columns=["seconds", "peak_memory_gib"]),
    )
    np.testing.assert_array_equal(resumed.clips[2, 0].frames, fresh.clips[2, 0].frames)
    pd.testing.assert_frame_equal(run().table, resumed.table)  # times are the recorded ones


def test_the_cache_knows_what_makes_a_difference(pipe, pipes, request_, tmp_path, made):
    run = lambda p, r: by_steps(p, r, (1,), cache=tmp_path, **OPTIONS)  # noqa: E731
    run(pipe, request_)
    run(pipe, request_.with_(guidance_scale=3))
    run(pipes["5b"], request_)
    assert len(made) == 6
    run(pipe, request_.with_(model="whatever the request says"))
    assert len(made) == 6


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut"])
def test_a_damaged_entry_is_made_again(pipe, request_, tmp_path, made, damage):
    for _ in range(2):
        result = by_steps(pipe, request_, (1,), cache=tmp_path, **OPTIONS)
        next(tmp_path.iterdir()).write_bytes(damage)
    assert len(made) == 3
    assert len(result.table) == 2


def test_the_default_metrics_tell_a_moving_clip_from_a_still_one():
    still = np.zeros((9, 64, 96, 3), np.uint8)
    still[:, 20:40, 10:40] = np.random.default_rng(0).integers(0, 255, (20, 30, 3))
    moving = np.stack([np.roll(frame, 3 * i, axis=1) for i, frame in enumerate(still)])
    first, second = (clip_metrics(Clip(f, 8.0), "a ball") for f in (still, moving))
    assert list(first) == ["consistency", "sharpness", "motion", "flow_speed", "warping_error"]
    assert first["flow_speed"] == 0 and second["flow_speed"] > 1
    assert first["consistency"] > second["consistency"]


def test_adherence_is_not_a_number_outside_the_toy_world(monkeypatch):
    from vidgen_lab.metrics import adherence

    scores = {"a ball": SimpleNamespace(score=0.75), "a tax form": SimpleNamespace(score=None)}
    monkeypatch.setattr(adherence, "prompt_adherence", lambda clip, prompt: scores[prompt])
    clip = Clip(np.zeros((3, 32, 32, 3), np.uint8), 8.0)
    assert toy_metrics(clip, "a ball")["adherence"] == 0.75
    assert math.isnan(toy_metrics(clip, "a tax form")["adherence"])


def test_prompts_of_the_style_experiment_can_be_judged():
    from vidgen_lab.toyworld import parse_prompt

    for prompt in PROMPT_STYLES.values():
        assert parse_prompt(prompt)["subject"] == "butterfly"
    assert parse_prompt(PROMPT_STYLES["artistic"])["background"] == "forest"
