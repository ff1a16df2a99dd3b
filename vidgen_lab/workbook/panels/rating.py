"""A form to rate clips without knowing which is which."""

from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets as w
import numpy as np
import pandas as pd

from vidgen_lab.video.clip import Clip
from vidgen_lab.video.show import show_video
from vidgen_lab.workbook.panels.base import Panel, control


class RatingPanel(Panel):
    """Rate clips blindly: shuffled anew for each rater, nameless, one slider for each question.

    clips: by name. questions: what to rate, each from 1 to 5.
    Untouched clips are not counted; `table` holds what has been rated so far.
    """

    def __init__(self, clips: Mapping[str, Clip], questions: Sequence[str], rater: str) -> None:
        order = np.random.default_rng([*rater.encode()]).permutation(len(clips))
        self.names = [list(clips)[i] for i in order]
        self.rater, self.questions = rater, list(questions)
        self._touched: set[int] = set()
        self.sliders = [[self._slider(i, q) for q in questions] for i in range(len(self.names))]
        cards = []
        for name, sliders in zip(self.names, self.sliders, strict=True):
            video = w.HTML(show_video(clips[name], width=200, alt="a clip to rate").data)
            cards.append(w.VBox([video, *sliders]))
        self.box = w.HBox(cards, layout=w.Layout(flex_flow="row wrap"))

    def _slider(self, clip: int, question: str) -> Any:
        slider = control(w.IntSlider, question, "230px", value=3, min=1, max=5)
        slider.observe(lambda _: self._touched.add(clip), names="value")
        return slider

    @property
    def table(self) -> pd.DataFrame:
        """One row per rated clip and question: rater, clip, question, score."""
        rows = [
            {"rater": self.rater, "clip": self.names[i], "question": q, "score": s.value}
            for i in sorted(self._touched)
            for q, s in zip(self.questions, self.sliders[i], strict=True)
        ]
        return pd.DataFrame(rows, columns=["rater", "clip", "question", "score"])

    def summary(self) -> str:
        return f"Rating form: {len(self._touched)} of {len(self.names)} clips rated"
