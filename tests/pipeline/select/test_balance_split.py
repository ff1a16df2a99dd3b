import random

import numpy as np
import pytest

from vidgen_lab.pipeline.manifest import Row
from vidgen_lab.pipeline.select.balance import (
    BalanceSettings,
    balance_concepts,
    balance_rows,
)
from vidgen_lab.pipeline.select.split import SplitSettings, check_leaks, split_rows


def concepts(counts: list[int], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = np.eye(len(counts), 16)
    return np.concatenate(
        [c + 0.01 * rng.standard_normal((n, 16)) for c, n in zip(centres, counts, strict=True)]
    )


def test_a_large_concept_shrinks_and_small_ones_stay_whole():
    vectors = concepts([90, 10, 10])
    settings = BalanceSettings(concepts=3, temperature=0, floor=1, drop=True)
    balance = balance_concepts(vectors, settings)
    assert balance.counts_before == (90, 10, 10)
    assert balance.counts_after == (10, 10, 10)
    assert balance.after > balance.before
    assert balance.after == pytest.approx(np.log2(3))


def test_weights_even_out_the_shares_without_dropping():
    settings = BalanceSettings(concepts=3, temperature=0)
    balance = balance_concepts(concepts([90, 10, 10]), settings)
    assert balance.keep.all()
    shares = [balance.weights[balance.labels == c].sum() for c in range(3)]
    assert shares == pytest.approx([110 / 3] * 3)
    gentle = BalanceSettings(concepts=3, temperature=1)
    assert balance_concepts(concepts([90, 10, 10]), gentle).weights == pytest.approx(1)


def test_few_clips_one_clip_and_equal_clips_work():
    assert balance_concepts(np.ones((1, 4))).labels.tolist() == [0]
    assert balance_concepts(np.ones((7, 4))).counts_before == (7,)
    for bad in (np.ones((0, 4)), np.full((3, 2), np.nan), np.ones(3)):
        with pytest.raises(ValueError, match="embeddings"):
            balance_concepts(bad)


def test_the_same_seed_drops_the_same_clips():
    settings = BalanceSettings(concepts=2, temperature=0.5, floor=2, drop=True)
    rows = [Row(f"{n}.mp4", str(n), "duplicates", "kept") for n in range(60)]
    one = balance_rows(rows, concepts([50, 10]), settings, seed=1)
    two = balance_rows(rows, concepts([50, 10]), settings, seed=1)
    assert [r.to_json() for r in one] == [r.to_json() for r in two]
    assert {r.status for r in one} == {"kept", "rejected"}


def test_entropy_is_in_bits():
    found = balance_concepts(concepts([9] * 4), BalanceSettings(concepts=4))
    assert found.before == pytest.approx(2)


def row(source: str, group: str, sha: str) -> Row:
    return Row(source, f"{sha}-{source}", "annotate", "kept", sha256=sha, info={"group": group})


def test_source_and_duplicates_stay_together():
    rows = [row(f"{n}.mp4", f"g{n}", f"s{n}") for n in range(40)]
    film = [row("film.mp4", f"f{n}", "film") for n in range(10)]
    # A copy of the film's third shot was kept elsewhere, the shot itself dropped.
    copy = row("copy.mp4", "f3", "copy")
    dropped = film.pop(3).rejected("duplicates", "duplicate", "copies", 2, 1)
    for seed in range(8):
        settings = SplitSettings(0.4, 0.2)
        out = split_rows([*rows, *film, copy], [dropped], settings, seed)
        split = {r.source: r.info["split"] for r in out}
        assert split["film.mp4"] == split["copy.mp4"]
        assert {"train", "val", "test"} >= set(split.values())
    random.Random(0).shuffle(rows)
    again = split_rows([copy, *rows, *film], [dropped], settings, seed)
    assert {r.source: r.info["split"] for r in again} == split


def test_rows_that_know_no_content_are_not_all_of_one_family():
    rows = [row(f"{n}.mp4", f"g{n}", "") for n in range(40)]
    names = {r.info["split"] for r in split_rows(rows, [], SplitSettings(0.5))}
    assert names == {"train", "val"}


def test_a_leak_fails_loudly():
    rows = [row("a.mp4", "g", "1"), row("b.mp4", "g", "2")]
    parted = [rows[0].to("split", split="train"), rows[1].to("split", split="val")]
    with pytest.raises(ValueError, match="b.mp4 is in val"):
        check_leaks(parted)


def reachable(rows: list[Row], start: Row) -> set[str]:
    """Sources that share a file, its bytes or a group with `start`, or with one that does: by
    walking from row to row, without anything of `split`."""
    marks = {row: {row.source, row.sha256, row.info["group"]} for row in map(Frozen, rows)}
    seen, found = set(marks[Frozen(start)]), {start.source}
    while new := [row for row, own in marks.items() if own & seen and not own <= seen]:
        for one in new:
            seen |= marks[one]
    found |= {row.row.source for row, own in marks.items() if own & seen}
    return found


class Frozen:
    """A row that can be looked up."""

    def __init__(self, row: Row) -> None:
        self.row, self.source, self.sha256, self.info = row, row.source, row.sha256, row.info

    def __hash__(self) -> int:
        return hash((self.source, self.row.clip_id))

    def __eq__(self, other: object) -> bool:
        return self.row.identity == other.row.identity


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_tied_lies_in_one_set_and_a_leak_between_them_is_found(seed):
    draw = random.Random(seed)
    rows = [row(f"{draw.randrange(30)}.mp4", f"g{draw.randrange(60)}", f"s{n}") for n in range(60)]
    dropped = [r.rejected("duplicates", "duplicate", "copies", 2, 1) for r in rows[:20]]
    kept = rows[20:]
    out = split_rows(kept, dropped, SplitSettings(0.3, 0.2), seed)
    place = {r.source: r.info["split"] for r in out}
    for one in out:
        tied = reachable(rows, one) & place.keys()
        assert {place[source] for source in tied} == {one.info["split"]}
        if len(tied) > 1 or sum(r.source == one.source for r in out) > 1:
            moved = [r.to("split", split="elsewhere") if r is one else r for r in out]
            with pytest.raises(ValueError, match="shares a source or a duplicate"):
                check_leaks(moved, dropped)


def test_shares_come_out_about_right_and_must_leave_something():
    rows = [row(f"{n}.mp4", f"g{n}", f"s{n}") for n in range(400)]
    out = split_rows(rows, [], SplitSettings(val=0.25))
    assert 70 < sum(r.info["split"] == "val" for r in out) < 130
    with pytest.raises(ValueError, match="leave clips"):
        SplitSettings(0.6, 0.5)
