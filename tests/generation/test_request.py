import re

import numpy as np
import pytest

from tests.tiny_models import MAX_TEXT_TOKENS
from vidgen_lab.generation.request import (
    GenerationRequest,
    ModelLimits,
    RequestError,
    validate_request,
)
from vidgen_lab.paths import model_dir
from vidgen_lab.settings.tiers import load_tiers

# The published sizes of CogVideoX-2B and CogVideoX1.5-5B.
FULL_SIZE = ModelLimits(8, 16, 226, 1000, (49, 480, 720))
FULL_SIZE_1_5 = ModelLimits(16, 16, 226, 1000, (81, 1360, 1360), 1360, 1360)


def full_size(**changes):
    facts = dict(prompt="a dog", num_frames=49, height=480, width=720)
    return GenerationRequest(**(facts | changes))


def test_a_legal_request_passes(pipe, request_):
    assert validate_request(request_, pipe) == ModelLimits.from_pipe(pipe)
    validate_request(full_size(), FULL_SIZE)
    validate_request(full_size(num_frames=81, height=768, width=1360), FULL_SIZE_1_5)


@pytest.mark.parametrize(
    ("limits", "frames", "nearest"),
    [
        (FULL_SIZE, 47, "41 or 49"),
        (FULL_SIZE, 48, "41 or 49"),
        (FULL_SIZE, 50, "49 or 57"),
        (FULL_SIZE, 5, "9"),
        (FULL_SIZE, 1, "9"),
        (FULL_SIZE_1_5, 49 + 8, "49 or 65"),
        (FULL_SIZE_1_5, 9, "17"),
    ],
)
def test_an_illegal_frame_count_names_the_nearest(limits, frames, nearest):
    with pytest.raises(RequestError) as caught:
        validate_request(full_size(num_frames=frames), limits)
    assert f"num_frames={frames}" in str(caught.value)
    assert f"nearest: {nearest}." in str(caught.value)


@pytest.mark.parametrize("name", ["height", "width"])
@pytest.mark.parametrize(("side", "nearest"), [(481, "480 or 496"), (488, "480 or 496"), (3, "16")])
def test_an_illegal_size_names_the_nearest(name, side, nearest):
    with pytest.raises(RequestError) as caught:
        validate_request(full_size(**{name: side}), FULL_SIZE)
    assert f"{name}={side} is not a multiple of 16; nearest: {nearest}." in str(caught.value)


def test_everything_that_is_wrong_is_said_at_once():
    with pytest.raises(RequestError) as caught:
        validate_request(full_size(num_frames=47, height=481, num_inference_steps=2000), FULL_SIZE)
    for part in ("num_frames=47", "height=481", "num_inference_steps=2000"):
        assert part in str(caught.value)


@pytest.mark.parametrize("text", ["", "  \n", "\u200b\u200b", "\u2060 \ufeff", "\u200d"])
def test_an_empty_prompt(text):
    with pytest.raises(RequestError, match="prompt is empty"):
        GenerationRequest(text)


def test_a_prompt_of_a_thousand_words(pipe, request_):
    with pytest.raises(RequestError) as caught:
        validate_request(request_.with_(prompt="ball " * 1000), pipe)
    message = str(caught.value)
    assert "1,001 tokens (1,000 words)" in message
    assert f"reads {MAX_TEXT_TOKENS}" in message and "about 11 words" in message


def test_the_end_mark_counts_and_the_limit_itself_is_legal(pipe, request_):
    fits = "ball " * (MAX_TEXT_TOKENS - 1)
    validate_request(request_.with_(prompt=fits, negative_prompt=fits), pipe)
    with pytest.raises(RequestError, match="negative prompt has 13 tokens"):
        validate_request(request_.with_(negative_prompt=fits + "ball"), pipe)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_inference_steps": 0}, "num_inference_steps must be at least 1"),
        ({"num_inference_steps": 2.5}, "must be a whole number, not 2.5"),
        ({"num_frames": True}, "whole number"),
        ({"num_frames": -7}, "at least 1"),
        ({"height": "480"}, "whole number"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"seed": 2**63}, "seed must be at most"),
        ({"seed": 10**400}, "seed must be at most"),
        ({"fps": 0}, "fps must be at least 0.1, not 0"),
        ({"fps": 1e12}, "fps must be at most 1,000"),
        ({"fps": 10**400}, "fps must be a number"),
        ({"width": 20_000}, "width must be at most 16,384"),
        ({"prompt": b"a ball \xff".decode("utf-8", "surrogateescape")}, "no text at position 8"),
        ({"negative_prompt": "a\0b"}, "zero byte"),
        ({"fps": "fast"}, "fps must be a number"),
        ({"guidance_scale": float("nan")}, "guidance_scale must be finite"),
        ({"guidance_scale": 0.5}, "at least 1"),
        ({"prompt": None}, "prompt must be text"),
        ({"negative_prompt": 3}, "negative_prompt must be text"),
    ],
)
def test_numbers_no_model_can_use(changes, message):
    with pytest.raises(RequestError, match=message):
        full_size(**changes)


def test_numbers_from_numpy_become_plain_ones():
    request = full_size(seed=np.int64(3), height=np.int32(480), guidance_scale=np.float32(6))
    assert type(request.seed) is int and type(request.height) is int
    assert type(request.guidance_scale) is float


def test_limits_of_each_layout_from_the_pipeline_and_from_its_folder(layout, pipes, folders):
    limits = ModelLimits.from_folder(folders[layout])
    assert limits == ModelLimits.from_pipe(pipes[layout])
    assert limits.frame_step == (16 if layout == "1.5" else 8)
    assert limits.side_step == 16
    assert limits.max_text_tokens == MAX_TEXT_TOKENS
    assert limits.native == ((17, 64, 64) if layout == "1.5" else (9, 32, 32))
    assert (limits.max_height, limits.max_width) == ((64, 64) if layout == "1.5" else (None, None))


@pytest.mark.parametrize(
    ("time", "joined", "rule", "legal", "illegal"),
    [
        (4, None, "8N+1", (9, 17, 49), (8, 13)),
        (4, 2, "16N+1", (17, 33), (16, 25)),
        (1, None, "N", (1, 7, 16), ()),  # nothing folds time: any number will do
        (1, 4, "4N", (4, 8, 16), (9, 15)),
    ],
)
def test_legal_frame_counts_follow_from_how_time_is_folded(time, joined, rule, legal, illegal):
    transformer = {"sample_height": 8, "sample_width": 12, "patch_size": 1, "patch_size_t": joined,
                   "max_text_seq_length": 32, "sample_frames": 16}  # fmt: skip
    vae = {"block_out_channels": (8, 8, 8, 8), "temporal_compression_ratio": time}
    limits = ModelLimits.from_configs(transformer, vae, {"num_train_timesteps": 1000})
    assert limits.frame_rule == rule and limits.frame_offset == (1 if time > 1 else 0)
    request = GenerationRequest("a dog", height=64, width=96)
    for count in legal:
        validate_request(request.with_(num_frames=count), limits)
    for count in illegal:
        with pytest.raises(RequestError, match=rf"num_frames={count} is not {re.escape(rule)}, as"):
            validate_request(request.with_(num_frames=count), limits)


def test_a_frame_larger_than_the_position_table_of_1_5(pipes, request_):
    with pytest.raises(RequestError, match="width=80 is more than this model's largest, 64"):
        validate_request(request_.with_(width=80), pipes["1.5"])
    validate_request(request_.with_(width=80), pipes["5b"])


def test_a_folder_will_do(folders, request_):
    with pytest.raises(RequestError, match="nearest: 17 or 33"):
        validate_request(request_.with_(num_frames=25), ModelLimits.from_folder(folders["1.5"]))


def test_defaults_of_a_tier():
    tier = load_tiers()["rtx4090"]
    request = GenerationRequest.for_tier(tier, "a dog", seed=7, num_inference_steps=10)
    assert (request.num_frames, request.height, request.width) == (49, 480, 720)
    assert (request.fps, request.seed, request.num_inference_steps) == (8, 7, 10)
    assert request.model == "zai-org/CogVideoX-5b"
    validate_request(request, FULL_SIZE)


@pytest.mark.parametrize(
    ("limits", "changes", "says"),
    [
        (FULL_SIZE, {}, None),
        (FULL_SIZE, {"num_frames": 25}, None),
        (FULL_SIZE, {"height": 720, "width": 480}, "49 frames of 720x480; 480x720 may look worse"),
        (FULL_SIZE, {"num_frames": 57}, "; 57 frames may"),
        (FULL_SIZE, {"num_frames": 57, "width": 96}, "; 96x480 and 57 frames may"),
        (FULL_SIZE_1_5, {"num_frames": 49}, None),
        (FULL_SIZE_1_5, {"height": 64, "width": 64}, None),
        (
            ModelLimits.from_folder(model_dir("toy-cogvideox")),
            {"num_frames": 16, "height": 64, "width": 64},
            "16 frames of 96x64; 64x64 may look worse than it can do; a smaller frame is a corner",
        ),
    ],
)
def test_a_size_the_model_was_never_trained_on_is_told(limits, changes, says):
    said = limits.unfamiliar(full_size(**changes))
    assert says in said if says else said is None
