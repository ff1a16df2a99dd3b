import numpy as np
import pytest

from tests.pipeline.samples import film, save
from vidgen_lab.pipeline.select.frames import (
    AdaptiveFrameExtractor,
    choose_frames,
)


@pytest.mark.parametrize("total, budget", [(1000, 100), (9000, 100), (59, 60), (120, 64), (5, 1)])
def test_the_budget_is_met_exactly_and_the_end_is_there(total, budget):
    scores = np.zeros(total)
    scores[: total // 3] = 5  # a busy beginning
    chosen = choose_frames(scores, (), budget)
    assert len(chosen) == min(total, budget) and chosen == sorted(set(chosen))
    if budget >= 5:
        assert chosen[-1] >= 0.9 * (total - 1)


def test_every_shot_is_shown_when_the_budget_allows():
    cuts = (10, 500, 990)
    chosen = choose_frames(np.ones(1000), cuts, 20)
    assert {0, *cuts} <= set(chosen) and len(chosen) == 20
    few = choose_frames(np.ones(1000), tuple(range(50, 1000, 50)), 4)
    assert len(few) == 4 and few[-1] == 950


def test_motion_decides_within_a_bin():
    scores = np.zeros(100)
    scores[[17, 63]] = 9
    assert {17, 63} <= set(choose_frames(scores, (), 6))


def test_frames_of_a_file_are_the_chosen_ones(tmp_path):
    clip = film((1, 2), 12)
    path = save(clip, tmp_path / "film.mp4", crf=4)
    extractor = AdaptiveFrameExtractor()
    chosen = extractor.select(path, 6)
    assert 12 in chosen.indices and chosen.cuts == (12,) and len(chosen.indices) == 6
    frames = extractor.extract_frames(path, 6)
    distance = np.abs(frames[:, None].astype(int) - clip.frames[None]).mean((2, 3, 4))
    assert distance.argmin(1).tolist() == list(chosen.indices)


def test_nothing_to_choose_is_an_error():
    with pytest.raises(ValueError, match="no frames"):
        choose_frames(np.zeros(5), (), 0)
