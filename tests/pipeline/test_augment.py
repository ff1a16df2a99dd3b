import cv2
import numpy as np
import pytest

from tests.pipeline.samples import moving, picture
from vidgen_lab.pipeline.augment import (
    AugmentSettings,
    VideoAugmentationPipeline,
    classical_restyle,
    move_boxes,
    rng_for,
)
from vidgen_lab.video.clip import Clip

ALWAYS = AugmentSettings(probability=1.0)


def still(frames: int = 6) -> Clip:
    return Clip(np.repeat(picture(3)[None], frames, axis=0), 8)


def test_a_still_clip_stays_still_and_the_input_is_not_touched():
    clip = still()
    before = clip.frames.copy()
    made = VideoAugmentationPipeline(ALWAYS, synthetic=classical_restyle).augment_video(clip, "a")
    assert (made.clip.frames == made.clip.frames[0]).all()
    assert not np.array_equal(made.clip.frames[0], before[0])
    assert np.array_equal(clip.frames, before)
    assert made.applied["synthetic"]


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
        made, _ = pipeline.spatial_augment(clip, rng_for(0, epoch, "x"))
        assert made.frames.shape == clip.frames.shape and made.frames.min() >= 199


def test_boxes_move_with_the_picture():
    frame = np.zeros((64, 96, 3), np.uint8)
    frame[24:36, 40:60] = 255
    pipeline = VideoAugmentationPipeline(AugmentSettings(degrees=0, crop=(0.8, 0.8), flip=1))
    made, drawn = pipeline.spatial_augment(Clip(frame[None], 8), rng_for(0, 0, "x"))
    x, y, w, h = cv2.boundingRect((made.frames[0, ..., 0] > 127).astype(np.uint8))
    (box,) = move_boxes(np.array([[40, 24, 60, 36]]), drawn["matrix"], 96, 64)
    assert box == pytest.approx([x, y, x + w, y + h], abs=1.6)


def test_speed_reverse_and_drops_choose_frames_of_the_clip():
    clip = moving(1, 16)
    settings = AugmentSettings(speed=(2, 2), reverse=1, frame_drop=0)
    made, drawn = VideoAugmentationPipeline(settings).temporal_augment(clip, rng_for(0, 0, "x"))
    assert made.num_frames == 8 and drawn["backwards"]
    assert np.array_equal(made.frames[0], clip.frames[-1])
    settings = AugmentSettings(speed=(1, 1), reverse=0, frame_drop=0.5)
    for epoch in range(8):
        made, drawn = VideoAugmentationPipeline(settings).temporal_augment(
            clip, rng_for(0, epoch, "x")
        )
        held = [np.array_equal(a, b) for a, b in zip(made.frames, made.frames[1:], strict=False)]
        assert made.num_frames == 16 and sum(held) == drawn["dropped"]


def test_colour_changes_are_one_value_a_clip_and_stay_in_range():
    settings = AugmentSettings(brightness=0, contrast=0, saturation=0, hue=0)
    pipeline = VideoAugmentationPipeline(settings)
    same, _ = pipeline.color_augment(moving(), rng_for(0, 0, "x"))
    assert np.abs(same.frames.astype(int) - moving().frames).max() <= 5  # the way to HSV and back
    made, drawn = VideoAugmentationPipeline().color_augment(still(), rng_for(0, 1, "x"))
    assert (made.frames == made.frames[0]).all() and 0.8 <= drawn["brightness"] <= 1.2
