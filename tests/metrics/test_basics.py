"""Every clip that fools the book's function (listing 1.L10), and what ours says about it."""

import json
import weakref

import cv2
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from tests.metrics.samples import FRAMES, clip, flickering, pan, still, texture, with_noise
from vidgen_lab.metrics.basics import UNITS, VideoBasics, evaluate_video_basics
from vidgen_lab.video.clip import Clip
from vidgen_lab.video.reader import VideoReader
from vidgen_lab.video.writer import write_clip


def both(frames: np.ndarray, fps: float = 24) -> tuple[VideoBasics, VideoBasics]:
    return evaluate_video_basics(clip(frames, fps), "book"), evaluate_video_basics(
        clip(frames, fps)
    )


def of_still(picture: np.ndarray, height: int | None = None) -> VideoBasics:
    """What is measured of one picture [H, W, 3], shown twice."""
    return evaluate_video_basics(clip(np.stack([picture, picture])), sharpness_height=height)


@pytest.fixture(scope="module")
def clean() -> tuple[VideoBasics, VideoBasics]:
    """A steady pan of one pixel a frame, judged by the book and by us."""
    return both(pan(1))


def with_cut_at_30() -> np.ndarray:
    frames = pan(1)
    frames[30:] = pan(1, FRAMES - 30, seed=9)
    return frames


def test_a_late_cut_is_invisible_to_the_first_nine_pairs(clean):
    book, ours = both(with_cut_at_30())
    assert book.consistency == clean[0].consistency  # the book: as good as the clean pan
    assert ours.consistency_min < 0.5 < ours.consistency
    assert ours.consistency_min_frame == ours.warping_error_frame == 30
    assert ours.verdicts["steadiness"] == "jumps at frame 30"


def test_noise_from_frame_12_is_invisible_to_the_first_nine_pairs(clean):
    frames = pan(1)
    frames[12:] = np.random.default_rng(0).integers(0, 256, frames[12:].shape)
    book, ours = both(frames)
    assert book.consistency == clean[0].consistency
    assert ours.consistency < 0.4 < clean[1].consistency
    assert ours.verdicts["steadiness"] == "flickers or is noisy"
    assert clean[1].verdicts["steadiness"] == "steady"


def test_a_pan_there_and_back_ends_where_it_began():
    there = pan(6, 25)
    book, ours = both(np.concatenate([there, there[::-1][1:]]))
    assert book.motion < 0.01 and book.verdicts["motion"] == "hardly any motion"
    assert ours.camera_speed == pytest.approx(100 * 6 / 180 * 24, rel=0.05)
    assert ours.verdicts["flow"] == "strong motion" and not ours.static


def test_a_still_with_sensor_noise_is_still():
    book, ours = both(with_noise(still(), 25))
    assert book.motion > 0.5 and book.verdicts["motion"] == "strong motion"
    assert ours.static and ours.flow_speed < 0.05
    assert ours.noise == pytest.approx(25 * 0.67, rel=0.15)  # grey weighs three noisy channels


def test_slow_motion_of_a_fine_texture_is_slow():
    book, ours = both(pan(1, blur=0.8))
    assert book.motion > 0.9 and book.verdicts["motion"] == "strong motion"
    fast = evaluate_video_basics(clip(pan(6)), "book")
    assert book.motion > fast.motion  # six times as fast, yet the smaller number
    assert ours.flow_speed == pytest.approx(100 / 180 * 24, rel=0.1)


def test_a_flickering_still_does_not_escape():
    book, ours = both(flickering(still()))
    assert book.motion < 0.01 and book.consistency > 0.95
    assert ours.warping_error > 10 and ours.verdicts["steadiness"] == "flickers or is noisy"
    assert ours.verdicts["flow"] == "changes, but nothing travels"


def test_sharpness_compares_only_at_one_height():
    large = texture(480, 720, seed=3, blur=2)
    small = cv2.resize(large, (360, 240), interpolation=cv2.INTER_AREA)
    book = [of_still(picture).sharpness for picture in (large, small)]
    assert book[1] > 8 * book[0]  # one and the same picture
    ours = [of_still(picture, height=240).sharpness for picture in (large, small)]
    assert ours[0] == pytest.approx(ours[1], rel=0.01)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    assert ours[1] == book[1] == pytest.approx(cv2.Laplacian(grey, cv2.CV_64F).var())


def test_grain_passes_for_sharpness_unless_the_noise_stands_beside_it():
    blurred = cv2.GaussianBlur(texture(240, 360), (0, 0), 3)
    grainy = with_noise(blurred, 12)
    smooth, rough = of_still(blurred), of_still(grainy)
    assert rough.sharpness > 500 > 20 > smooth.sharpness
    assert smooth.noise < 1 < 6 < rough.noise


def test_duration_is_the_files_own(tmp_path):
    path = write_clip(clip(pan(1), fps=8), tmp_path / "eight.mp4")
    ours = evaluate_video_basics(path)
    assert (ours.num_frames, ours.fps, ours.duration) == (49, 8, 49 / 8)
    assert ours.num_frames / 24 == pytest.approx(2.04, abs=0.01)  # what the book prints
    assert ours.flow_speed == pytest.approx(100 / 180 * 8, rel=0.1)


def test_book_variant_is_the_books_recipe():
    frames = with_cut_at_30()
    book, ours = both(frames)
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    pairs = zip(grey, grey[1:], strict=False)
    similarity = np.array([structural_similarity(*pair, data_range=255) for pair in pairs])
    assert book.consistency == pytest.approx(similarity[:9].mean())
    assert book.consistency_min == pytest.approx(similarity[:9].min())
    assert book.sharpness == pytest.approx(cv2.Laplacian(grey[24], cv2.CV_64F).var())
    assert ours.consistency == pytest.approx(similarity.mean()) and len(similarity) == 48
    assert ours.motion == book.motion and book.static is None and "flow" not in book.verdicts


def test_frozen_is_perfect_for_the_book_and_static_for_us():
    book, ours = both(still())
    assert book.consistency == 1 and book.motion == 0
    assert ours.static and ours.verdicts["flow"] == "static" and ours.warping_error == 0


@pytest.mark.parametrize(
    "value, phrase",
    [(0.951, "very similar"), (0.95, "consistent"), (0.85, "moderately"), (0.75, "weakly")],
)
def test_verdicts_change_at_the_books_thresholds(value, phrase):
    fields = {"frames": "book", "num_frames": 2, "width": 16, "height": 16, "fps": 8}
    rest = {"duration": 0.25, "consistency_min": 0, "consistency_min_frame": 1}
    basics = VideoBasics(consistency=value, sharpness=200.1, motion=0.1, **fields, **rest)
    assert basics.verdicts["consistency"].startswith(phrase)
    assert basics.verdicts["sharpness"] == "clear"
    assert basics.verdicts["motion"] == "hardly any motion"


def test_result_is_a_json_row_with_units():
    _, ours = both(pan(1, 5))
    row = json.loads(json.dumps(ours.to_dict()))
    assert row["num_frames"] == 5 and row["flow_verdict"] == "strong motion"
    assert set(UNITS) <= set(row)


def test_what_cannot_be_evaluated_is_refused(tmp_path):
    with pytest.raises(ValueError, match="only one"):
        evaluate_video_basics(clip(still(1)))
    with pytest.raises(ValueError, match="too small"):
        evaluate_video_basics(Clip(np.zeros((3, 8, 8, 3), np.uint8), 8))
    with pytest.raises(ValueError, match="all"):
        evaluate_video_basics(clip(still(2)), "ten")
    for height in (-1, 0, 2):  # OpenCV's own error, or a noise that is NaN
        with pytest.raises(ValueError, match="sharpness_height must be at least 16"):
            evaluate_video_basics(clip(still(2)), sharpness_height=height)
    with pytest.raises(FileNotFoundError):
        evaluate_video_basics(tmp_path / "missing.mp4")


def test_of_a_file_only_a_few_frames_are_in_memory_at_a_time(tmp_path, monkeypatch):
    path = write_clip(clip(pan(1)), tmp_path / "pan.mp4")
    read, frames, alive = VideoReader.__iter__, [], []

    def counted(reader):
        for frame in read(reader):
            frames.append(weakref.ref(frame))
            alive.append(sum(one() is not None for one in frames))
            yield frame

    monkeypatch.setattr(VideoReader, "__iter__", counted)
    evaluate_video_basics(path)
    assert len(frames) == FRAMES and max(alive) <= 4, alive
