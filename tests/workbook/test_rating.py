"""Votes, ratings and agreement on small tables with known answers."""

import math

import pandas as pd
import pytest

from vidgen_lab.workbook.rating import bradley_terry, concordance, rater_agreement, votes

TABLE = pd.DataFrame(
    {
        "setting": [5, 10, 25, 5, 10, 25],
        "seed": [0, 0, 0, 1, 1, 1],
        "quality": [0.1, 0.5, 0.9, 0.2, 0.2, 0.8],
        "liar": [0.9, 0.5, 0.1, 0.8, 0.8, 0.2],
    }
)


def test_votes_are_cast_within_a_seed_and_ties_are_shared():
    wins = votes(TABLE, "quality")
    assert wins.loc[25, 5] == 2 and wins.loc[5, 25] == 0
    assert wins.loc[10, 5] == 1.5 and wins.loc[5, 10] == 0.5
    assert wins.to_numpy().sum() == 6  # three pairs, two seeds


def test_ratings_recover_the_odds():
    # ten wins to one are 400 points by definition of the scale
    wins = pd.DataFrame([[0, 1000], [100, 0]], index=["a", "b"], columns=["a", "b"])
    ratings = bradley_terry(wins, prior=0)
    assert ratings["a"] - ratings["b"] == pytest.approx(400, abs=0.1)
    assert ratings.mean() == pytest.approx(1000)


def test_a_setting_that_never_lost_keeps_a_finite_rating():
    ratings = bradley_terry(votes(TABLE, "quality"))
    assert ratings.idxmax() == 25
    assert ratings.abs().max() < 3000


def test_concordance_of_a_copy_a_liar_and_nothing():
    agreement = concordance(TABLE, "quality", ["quality", "liar"])
    assert agreement["quality"] == 1
    assert agreement["liar"] < 0.1
    level = TABLE.assign(quality=1.0)
    assert math.isnan(concordance(level, "quality", ["liar"])["liar"])


def test_rater_agreement():
    rows = [("a", c, s) for c, s in zip("xyz", (1, 3, 5), strict=True)]
    rows += [("b", c, s) for c, s in zip("xyz", (1, 3, 5), strict=True)]
    table = pd.DataFrame(rows, columns=["rater", "clip", "score"]).assign(question="motion")
    assert rater_agreement(table)["motion"] == pytest.approx(1)
    with pytest.raises(ValueError, match="two raters"):
        rater_agreement(table[table.rater == "a"])
