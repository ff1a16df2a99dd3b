"""Prompt adherence as a number: does the clip show what the sentence names?"""

from dataclasses import asdict, dataclass, field
from typing import Any

from vidgen_lab.metrics.judge import ToyJudge, judge_clips
from vidgen_lab.toyworld import parse_prompt
from vidgen_lab.video.clip import Clip


@dataclass(frozen=True)
class Adherence:
    """What a prompt names, what the judge sees, and how sure it is of what was named (0 to 1 per
    attribute).

    `measurable` is False when the prompt names nothing of the toy world; then there is no score at
    all.
    """

    prompt: str
    named: dict[str, str]
    seen: dict[str, str] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)

    @property
    def measurable(self) -> bool:
        return bool(self.named)

    @property
    def right(self) -> dict[str, bool]:
        """Per named attribute: is it what the judge finds most likely?"""
        return {name: self.seen[name] == value for name, value in self.named.items()}

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
        marks = [
            f"{name} {value} {'✓' if self.right[name] else '✗ (' + self.seen[name] + ')'}"
            for name, value in self.named.items()
        ]
        return " · ".join(marks)


def prompt_adherence(clip: Clip, prompt: str, judge: ToyJudge | None = None) -> Adherence:
    """Score `clip` against every attribute that `prompt` names in the toy world's vocabulary."""
    return adherence_of([clip], [prompt], judge)[0]


def adherence_of(
    clips: list[Clip], prompts: list[str], judge: ToyJudge | None = None
) -> list[Adherence]:
    """`prompt_adherence` for many clips at once; ValueError unless there is a prompt for each."""
    if len(clips) != len(prompts):
        raise ValueError(f"{len(clips)} clips, but {len(prompts)} prompts")
    named = [parse_prompt(prompt) for prompt in prompts]
    measurable = [i for i, names in enumerate(named) if names]
    tables = dict(zip(measurable, judge_clips([clips[i] for i in measurable], judge), strict=True))
    results = []
    for i, prompt in enumerate(prompts):
        table = tables.get(i, {})
        seen = {name: max(values, key=values.get) for name, values in table.items()}
        scores = {name: table[name][value] for name, value in named[i].items()}
        results.append(Adherence(prompt, named[i], seen, scores))
    return results
