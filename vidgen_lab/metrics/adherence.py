"""Prompt adherence as a number: does the clip show what the sentence names?"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vidgen_lab.metrics.judge import ToyJudge, judge_clips, load_judge
from vidgen_lab.toyworld.prompts import Reading, read_prompt
from vidgen_lab.video.clip import Clip, evenly_spaced
from vidgen_lab.video.reader import VideoReader


@dataclass(frozen=True)
class Adherence(Reading):
    """What a prompt names, what the judge sees, and how sure it is of what was named.

    `measurable` is False when the prompt names nothing of the toy world; then there is no score at
    all.

    Attributes:
        seen: attribute -> value; the judge may see "none of these".
        scores: attribute -> probability of what was named, 0 to 1.
        confidence: attribute -> probability of what is seen, 0 to 1.
        unsure: named attributes in which the judge is less sure than it has to be for its answer to
            count.
    """

    prompt: str
    seen: dict[str, str] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    confidence: dict[str, float] = field(default_factory=dict)
    unsure: list[str] = field(default_factory=list)

    @property
    def measurable(self) -> bool:
        return bool(self.named)

    @property
    def right(self) -> dict[str, bool]:
        """Per named attribute: is it what the judge finds most likely, and surely so?"""
        return {
            name: self.seen[name] == value and name not in self.unsure
            for name, value in self.named.items()
        }

    @property
    def all_right(self) -> bool | None:
        """True when every named attribute is right; None when the prompt is not measurable."""
        return all(self.right.values()) if self.measurable else None

    @property
    def score(self) -> float | None:
        """Mean probability of the named attributes; None when the prompt is not measurable."""
        return sum(self.scores.values()) / len(self.scores) if self.measurable else None

    def to_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON; `score` is None when the prompt is not measurable."""
        return {"measurable": self.measurable, "score": self.score} | asdict(self)

    def __str__(self) -> str:
        if not self.measurable:
            return "not measurable: the prompt names nothing of the toy world"
        marks = {n: "✓" if right else f"✗ ({self.seen[n]})" for n, right in self.right.items()}
        for name in self.unsure:
            marks[name] = f"? (unsure: {self.seen[name]} {self.confidence[name]:.0%})"
        return " · ".join(f"{name} {value} {marks[name]}" for name, value in self.named.items())

    def describe(self) -> str:
        """The verdict on the prompt, and in lines of their own what it leaves out."""
        lines = [f"Prompt: {self}"]
        if self.unjudged:
            lines.append(f"Not judged: {'; '.join(self.unjudged)}")
        if self.ignored:
            words = (f"{w} ({near}?)" if near else w for w, near in self.ignored.items())
            lines.append(f"Ignored: {', '.join(words)} (vidgen-lab words lists what is known)")
        return "\n".join(lines)


def prompt_adherence(
    video: Clip | str | Path, prompt: str, judge: ToyJudge | None = None
) -> Adherence:
    """Score a clip or video file against every attribute that `prompt` names in the toy world's
    vocabulary. Of a file only the frames that the judge looks at are read."""
    judge = judge or load_judge()
    if not isinstance(video, Clip):
        reader = VideoReader(video)
        places = evenly_spaced(reader.info.num_frames, judge.frames, repeat=True)
        frames = [clip.frames[0] for clip in reader.read_spans([(p, 1, 1) for p in places])]
        video = Clip(np.stack(frames), reader.info.fps)
    return adherence_of([video], [prompt], judge)[0]


def adherence_of(
    clips: list[Clip], prompts: list[str], judge: ToyJudge | None = None
) -> list[Adherence]:
    """`prompt_adherence` for many clips at once; ValueError unless there is a prompt for each."""
    if len(clips) != len(prompts):
        raise ValueError(f"{len(clips)} clips, but {len(prompts)} prompts")
    judge = judge or load_judge()
    read = [read_prompt(prompt) for prompt in prompts]
    measurable = [clip for clip, reading in zip(clips, read, strict=True) if reading.named]
    tables = iter(judge_clips(measurable, judge))
    found = []
    for prompt, reading in zip(prompts, read, strict=True):
        table = next(tables) if reading.named else {}  # the probability of every answer
        seen = {name: max(values, key=values.get) for name, values in table.items()}
        sure = {name: table[name][value] for name, value in seen.items()}
        adherence = Adherence(
            **vars(reading),
            prompt=prompt,
            seen=seen,
            scores={name: table[name].get(value, 0.0) for name, value in reading.named.items()},
            confidence=sure,
            unsure=[n for n in reading.named if sure[n] < judge.unsure_below.get(n, 0.0)],
        )
        found.append(adherence)
    return found
