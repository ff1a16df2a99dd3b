from functools import partial

import cv2
import numpy as np
import pytest

from tests.pipeline.samples import moving, picture
from tests.workbook.test_built import built
from vidgen_lab.pipeline.deliver.augment import AugmentSettings, VideoAugmentationPipeline
from vidgen_lab.seeds import rng
from vidgen_lab.video.clip import Clip

ALWAYS = AugmentSettings(probability=1.0)


def still(frames: int = 6) -> Clip:
    return Clip(np.repeat(picture(3)[None], frames, axis=0), 8)


def test_a_still_clip_stays_still_and_the_input_is_not_touched():
    clip = still()
    before = clip.frames.copy()
    made = VideoAugmentationPipeline(ALWAYS).augment_video(clip, "a")
    assert (made.clip.frames == made.clip.frames[0]).all()
    assert not np.array_equal(made.clip.frames[0], before[0])
    assert np.array_equal(clip.frames, before)


def test_draws_hang_on_seed_epoch_and_clip_alone():
    def frames(seed=0, clip_id="a", epoch=0):
        return VideoAugmentationPipeline(ALWAYS, seed).augment_video(still(), clip_id, "", epoch)

    same = frames().applied
    assert frames().applied == same
    for other in (frames(seed=1), frames(clip_id="b"), frames(epoch=1)):
        assert other.applied["angle"] != same["angle"]


@pytest.mark.parametrize("epoch", range(12))
def test_words_forbid_mirroring_and_playing_backwards(epoch):
    settings = AugmentSettings(probability=1, reverse=1, flip=1)
    pipeline = VideoAugmentationPipeline(settings)
    free = pipeline.augment_video(still(), "a", "a red ball", epoch).applied
    bound = pipeline.augment_video(still(), "a", "a red ball moving left", epoch).applied
    assert free["flip"] and free["backwards"]
    assert not bound["flip"] and not bound["backwards"]


def test_no_black_corners_and_the_size_stays():
    clip = Clip(np.full((2, 64, 96, 3), 200, np.uint8), 8)
    pipeline = VideoAugmentationPipeline()
    for epoch in range(20):
        made, _ = pipeline.spatial_augment(clip, rng(0, epoch, "x"))
        assert made.frames.shape == clip.frames.shape and made.frames.min() >= 199


def test_boxes_move_with_the_picture():
    frame = np.zeros((64, 96, 3), np.uint8)
    frame[24:36, 40:60] = 255
    pipeline = VideoAugmentationPipeline(AugmentSettings(degrees=0, crop=(0.8, 0.8), flip=1))
    made, drawn = pipeline.spatial_augment(Clip(frame[None], 8), rng(0, 0, "x"))
    x, y, w, h = cv2.boundingRect((made.frames[0, ..., 0] > 127).astype(np.uint8))
    (box,) = built(2, "boxes").move_boxes(np.array([[40, 24, 60, 36]]), drawn["matrix"], 96, 64)
    assert box == pytest.approx([x, y, x + w, y + h], abs=1.6)


def test_speed_reverse_and_drops_choose_frames_of_the_clip():
    clip = moving(1, 16)
    settings = AugmentSettings(speed=(2, 2), reverse=1, frame_drop=0)
    made, drawn = VideoAugmentationPipeline(settings).temporal_augment(clip, rng(0, 0, "x"))
    assert made.num_frames == 8 and drawn["backwards"]
    assert np.array_equal(made.frames[0], clip.frames[-1])
    settings = AugmentSettings(speed=(1, 1), reverse=0, frame_drop=0.5)
    for epoch in range(8):
        made, drawn = VideoAugmentationPipeline(settings).temporal_augment(clip, rng(0, epoch, "x"))
        held = [np.array_equal(a, b) for a, b in zip(made.frames, made.frames[1:], strict=False)]
        assert made.num_frames == 16 and sum(held) == drawn["dropped"]


def test_colour_changes_are_one_value_a_clip_and_stay_in_range():
    settings = AugmentSettings(brightness=0, contrast=0, saturation=0, hue=0)
    pipeline = VideoAugmentationPipeline(settings)
    same, _ = pipeline.color_augment(moving(), rng(0, 0, "x"))
    assert np.abs(same.frames.astype(int) - moving().frames).max() <= 5  # the way to HSV and back
    made, drawn = VideoAugmentationPipeline().color_augment(still(), rng(0, 1, "x"))
    assert (made.frames == made.frames[0]).all() and 0.8 <= drawn["brightness"] <= 1.2


@pytest.fixture(scope="module")
def tiny_pipe():
    """An image-to-image pipeline of the real kind, with a few thousand random weights."""
    import torch
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionImg2ImgPipeline,
        UNet2DConditionModel,
    )

    torch.manual_seed(0)
    blocks = {"block_out_channels": (8, 8), "norm_num_groups": 4}
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, cross_attention_dim=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), attention_head_dim=2,
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), **blocks,
    )  # fmt: skip
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        **blocks,
    )  # fmt: skip
    scheduler = DDIMScheduler(clip_sample=False, steps_offset=1)
    pipe = StableDiffusionImg2ImgPipeline(
        vae, None, None, unet, scheduler, None, None, requires_safety_checker=False
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_a_diffusion_pipeline_restyles_all_frames_alike(tiny_pipe):
    import torch

    words = {"prompt_embeds": torch.ones(1, 3, 8), "guidance_scale": 1.0, "num_inference_steps": 4}
    restyle = partial(built(2, "repaint").repaint, pipe=tiny_pipe, strength=0.5, **words)
    clip = still(3)
    made = restyle(clip)
    assert made.frames.shape == clip.frames.shape and made.fps == clip.fps
    assert (made.frames == made.frames[0]).all() and not np.array_equal(made.frames, clip.frames)
    assert np.array_equal(restyle(clip).frames, made.frames)


@pytest.mark.parametrize(
    "wrong", [{"speed": (0, 1)}, {"crop": (1, 0.8)}, {"probability": 2}, {"hue": float("nan")}]
)
def test_ranges_that_cannot_be_drawn_from_are_named_at_once(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        AugmentSettings(**wrong)
