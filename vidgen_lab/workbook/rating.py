"""From opinions to numbers: ratings from pairwise votes, and how far judges agree."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd


def votes(table: pd.DataFrame, score: str, group: str = "seed") -> pd.DataFrame:
    """Let a score vote on every pair of settings within a group (the same seed, say).

    table: columns `setting`, `group` and `score`, higher is better. Returns a square table
    [winner, loser] of votes; a tie gives half a vote to each.
    """
    names = list(dict.fromkeys(table.setting))
    wins = pd.DataFrame(0.0, index=names, columns=names)
    for _, rows in table.groupby(group):
        for a, b in combinations(rows.itertuples(), 2):
            better, worse = getattr(a, score), getattr(b, score)
            share = 0.5 if better == worse else float(better > worse)
            wins.loc[a.setting, b.setting] += share
            wins.loc[b.setting, a.setting] += 1 - share
    return wins


def bradley_terry(wins: pd.DataFrame, rounds: int = 200, prior: float = 0.5) -> pd.Series:
    """Ratings on the Elo scale (mean 1000, 400 points = ten to one) from a table of votes.

    wins: [winner, loser] counts. prior: imaginary draws between each pair, which keep a setting
    that never lost from rising to infinity. Minorisation-maximisation of Hunter (2004).
    """
    count = wins.to_numpy(float) + prior * (1 - np.eye(len(wins)))
    played, strength = count + count.T, np.ones(len(wins))
    for _ in range(rounds):
        meetings = played / (strength[:, None] + strength)
        strength = count.sum(axis=1) / meetings.sum(axis=1)
        strength /= np.exp(np.log(strength).mean())
    return pd.Series(1000 + 400 * np.log10(strength), index=wins.index, name="rating")


def concordance(table: pd.DataFrame, truth: str, scores: Sequence[str]) -> pd.Series:
    """How often each score ranks a pair of clips as the truth does: 1 always, 0.5 a coin.

    Only pairs that the truth tells apart count; NaN when there is none.
    """
    result = {}
    for score in scores:
        agreed = []
        for a, b in combinations(table[[truth, score]].to_numpy(float), 2):
            if a[0] != b[0]:
                order = np.sign(a[0] - b[0]) * np.sign(a[1] - b[1])
                agreed.append((order + 1) / 2)
        result[score] = float(np.mean(agreed)) if agreed else float("nan")
    return pd.Series(result, name="agreement")


def rater_agreement(table: pd.DataFrame) -> pd.Series:
    """Agreement between people for each question: 1 is perfect, 0 is chance.

    table: columns rater, clip, question, score (whole numbers), from two raters or more; the mean
    of Cohen's quadratically weighted kappa over all pairs. ValueError with fewer than two raters.
    """
    from sklearn.metrics import cohen_kappa_score

    raters = list(dict.fromkeys(table.rater))
    if len(raters) < 2:
        raise ValueError("agreement needs two raters or more; pass the form to somebody else")
    result = {}
    for question, rows in table.groupby("question", sort=False):
        wide = rows.pivot(index="clip", columns="rater", values="score").dropna()
        kappas = [
            cohen_kappa_score(wide[a], wide[b], weights="quadratic")
            for a, b in combinations(raters, 2)
        ]
        result[question] = float(np.mean(kappas))
    return pd.Series(result, name="agreement")
