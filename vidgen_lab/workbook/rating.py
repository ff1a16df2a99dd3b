"""From opinions to numbers: how far people agree."""

from itertools import combinations

import numpy as np
import pandas as pd


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
