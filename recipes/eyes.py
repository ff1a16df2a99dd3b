"""The judge against eyes: clips labelled from their pictures alone, by several blind viewings.

A viewing sees numbered strips in random order, of an old and a new model, without prompts and
without the judge's answers, and writes down what each shows; "none" is an answer too. The clips
(eyes.jpg, eight frames each) and the labels (eyes.csv) lie beside the judge's weights, so that
anybody can look again, and a test works the agreement out anew.
"""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from sklearn.metrics import cohen_kappa_score

from vidgen_lab.metrics.judge import NONE, ToyJudge, judge_clips
from vidgen_lab.toyworld import ATTRIBUTES
from vidgen_lab.video.clip import Clip

FRAMES, HEIGHT, WIDTH = 8, 64, 96


def pack(clips: list[Clip]) -> np.ndarray:
    """Eight frames of each clip side by side, a clip a line: uint8 [N * H, 8 * W, 3]."""
    chosen = [np.linspace(0, c.num_frames - 1, FRAMES).round().astype(int) for c in clips]
    return np.vstack([np.hstack(c.frames[at]) for c, at in zip(clips, chosen, strict=True)])


def unpack(picture: np.ndarray) -> list[Clip]:
    """The clips of a picture that `pack` made."""
    lines = np.split(picture, len(picture) // HEIGHT)
    return [Clip(np.stack(np.split(line, FRAMES, axis=1)), fps=4) for line in lines]


def majority(labels: pd.DataFrame, attribute: str) -> pd.Series:
    """What most viewings say of each clip; "unclear" where all differ."""
    votes = labels.filter(regex=rf"^{attribute}_\d$")

    def most(row: pd.Series) -> str:
        counts = row.value_counts()
        return str(counts.index[0]) if counts.iloc[0] > 1 else "unclear"

    return votes.apply(most, axis=1)


def agreement(labels: pd.DataFrame, clips: list[Clip], judge: ToyJudge) -> pd.DataFrame:
    """Per attribute: mean kappa between viewings (Cohen 1960), and the share of clips of which the
    judge says what the majority of viewings says."""
    tables = judge_clips(clips, judge)
    rows = {}
    for name in ATTRIBUTES:
        votes = labels.filter(regex=rf"^{name}_\d$")
        pairs = [(a, b) for i, a in enumerate(votes) for b in votes.columns[i + 1 :]]
        kappas = [cohen_kappa_score(votes[a], votes[b]) for a, b in pairs]
        seen = [max(table[name], key=table[name].get) for table in tables]
        eye = majority(labels, name)
        counted = ~eye.isin(["unclear", "hidden"])  # a colour is hidden in black and white
        same = (pd.Series(seen).replace(NONE, "none") == eye)[counted]
        rows[name] = {
            "kappa": float(np.mean(kappas)),
            "judge agrees": float(same.mean()),
            "clips": int(counted.sum()),
        }
    return pd.DataFrame(rows).T


def load_eyes(folder: Path) -> tuple[pd.DataFrame, list[Clip]]:
    """The labels and clips that lie in the judge's folder."""
    picture = cv2.imread(str(folder / "eyes.jpg"))[..., ::-1]
    return pd.read_csv(folder / "eyes.csv", dtype=str), unpack(np.ascontiguousarray(picture))
