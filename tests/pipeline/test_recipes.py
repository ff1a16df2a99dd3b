"""Results are kept by the numbers in `tasks.RECIPES`: whoever changes a result raises its number.

`python -m tests.pipeline.test_recipes` records the results anew.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.pipeline.samples import film, save
from vidgen_lab.metrics.flow import flow_magnitude
from vidgen_lab.pipeline import tasks
from vidgen_lab.pipeline.config import Config, load_config
from vidgen_lab.pipeline.manifest import Row
from vidgen_lab.pipeline.prepare import prepare
from vidgen_lab.pipeline.runner import Execution
from vidgen_lab.pipeline.select import scoring
from vidgen_lab.pipeline.select.duplicates import find_groups
from vidgen_lab.pipeline.select.sameness import Signature

RECORDED = Path(__file__).with_name("recipes.json")
HOW = load_config()


def results(folder: Path) -> dict[str, Any]:
    """What every task makes of one and the same film of two shots."""
    path, out = str(save(film((1, 2), 12), folder / "film.mp4")), str(folder / "out.mp4")
    scored = tasks.score({"path": path, "scenes": {}, "score": {}})
    clip = {"frames": [0, 12], "crop": None, "out": out}
    cut = {"path": path, "media": {"crf": 30}, "clips": [clip], "limit": 60}
    (exported,) = tasks.export(cut)
    looks = {"path": path, "clips": [clip], "embedder": "judge"}
    rows = [Row(f"{n}.mp4", str(n), "quality", "kept") for n in range(3)]
    signatures = [Signature.of(scored["clips"][n]) for n in (0, 1, 0)]
    names = {"detector": "motion", "actor": "flow", "captioner": "template"}
    return {
        # Bits of a hash hang on the last digit, and that on where a picture lies in memory.
        "score": [[c["frames"], c["metrics"], len(c["hashes"])] for c in scored["clips"]],
        "embed": tasks.embed(looks),
        "duplicates": find_groups(rows, signatures),
        "export": {n: v for n, v in exported["value"].items() if n not in ("bytes", "sha256")},
        "annotate": tasks.annotate({"path": path, **names}),
    }


def record() -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = results(Path(folder))
    kept = {s: {"recipe": tasks.RECIPES[s][0], "result": made[s]} for s in tasks.RECIPES}
    RECORDED.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def check(made: dict[str, Any]) -> None:
    """Raises AssertionError naming the task whose result is another one under the same number."""
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    for stage, (number, _) in tasks.RECIPES.items():
        known = recorded[stage]
        assert known["recipe"] == number, f"record {stage} anew: see the top of this file"
        assert alike(json.loads(json.dumps(made[stage])), known["result"]), (
            f"{stage} gives another result than before: raise its number in tasks.RECIPES, so that "
            "nobody gets the old one from a journal, and record it anew"
        )


def alike(one: Any, other: Any) -> bool:
    """Equal but for the last digits, which hang on the processor."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[n], other[n]) for n in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float) and isinstance(other, int | float):
        return bool(np.isclose(one, other, rtol=0.02, atol=0.02))
    return one == other


def louder(clip):
    """Optical flow as a change of another module would make it."""
    return 2 * flow_magnitude(clip)


def test_a_changed_result_has_a_changed_number(tmp_path):
    check(results(tmp_path))


def test_a_change_in_a_module_it_calls_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, "flow_magnitude", louder)
    with pytest.raises(AssertionError, match="score gives another result than before"):
        check(results(tmp_path))


@pytest.fixture
def speeds(tmp_path):
    """Scores a folder of one film; returns the measured speeds."""
    save(film((1, 2), 12), tmp_path / "videos" / "film.mp4")

    def run() -> list[float]:
        config, out = Config(), tmp_path / "out"
        table = prepare(tmp_path / "videos", out, config, Execution("serial"), score_only=True)
        return [row.metrics["flow_speed"] for row in table if row.stage == "scenes"]

    return run


def test_a_new_number_makes_the_result_anew(speeds, monkeypatch):
    before = speeds()
    monkeypatch.setattr(scoring, "flow_magnitude", louder)
    assert speeds() == before  # nothing told the journal
    monkeypatch.setitem(tasks.RECIPES, "score", (99, ("av",)))
    assert speeds() == pytest.approx([2 * speed for speed in before])


def test_another_version_of_a_library_makes_the_result_anew(speeds, monkeypatch):
    before = speeds()
    monkeypatch.setattr(scoring, "flow_magnitude", louder)
    monkeypatch.setattr(tasks, "library_version", lambda name: f"another {name}")
    assert speeds() == pytest.approx([2 * speed for speed in before])


if __name__ == "__main__":
    record()
