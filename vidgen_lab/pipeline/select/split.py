"""Training, validation and test sets that share nothing: split by source and duplicate group."""

import hashlib
from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.cluster.hierarchy import DisjointSet

from vidgen_lab.pipeline.manifest import Row


@dataclass(frozen=True)
class SplitSettings:
    """Shares of the sets, 0..1, drawn by families (see `split_rows`); the rest is for training."""

    val: float = 0.1
    test: float = 0.0

    def __post_init__(self) -> None:
        if not (self.val >= 0 and self.test >= 0 and self.val + self.test < 1):
            raise ValueError(f"val {self.val} and test {self.test} must leave clips to train on")


def split_rows(
    rows: Sequence[Row],
    ties: Sequence[Row],
    settings: SplitSettings = SplitSettings(),
    seed: int = 0,
) -> list[Row]:
    """The rows with `info["split"]` ("train", "val" or "test"), checked for leaks.

    `ties` are all rows of the duplicates stage, the rejected ones too: a film whose second shot is
    a copy of a clip elsewhere ties that clip to the whole film, even when the copy was dropped. A
    family goes where a hash of its smallest member points, so that adding files moves nothing that
    is not tied to them; another `seed`, another split.
    """
    family = _families([*rows, *ties])
    out = []
    for row in rows:
        drawn = f"{seed}/{family[row.source]}".encode("utf-8", "surrogateescape")
        place = int.from_bytes(hashlib.sha256(drawn).digest()[:8], "big") / 2**64  # 0..1
        part = bisect([settings.val, settings.val + settings.test], place)
        out.append(row.to("split", split=("val", "test", "train")[part]))
    check_leaks(out, ties)
    return out


def check_leaks(rows: Sequence[Row], ties: Sequence[Row] = ()) -> None:
    """Refuse sets that share something; for `ties` see `split_rows`.

    Raises:
        ValueError: a source, a file content or a duplicate group lies in two sets.
    """
    family = _families([*rows, *ties])
    seen: dict[str, Row] = {}
    for row in rows:
        other = seen.setdefault(family[row.source], row)
        if other.info["split"] != row.info["split"]:
            raise ValueError(
                f"{row.source} is in {row.info['split']}, {other.source}, which shares a source "
                f"or a duplicate with it, in {other.info['split']}"
            )


def _families(rows: Sequence[Row]) -> Mapping[str, str]:
    """Source -> smallest content of all sources tied to it."""
    ties = DisjointSet()
    for row in rows:
        names = [f"source {row.source}", f"group {row.info.get('group', row.clip_id)}"]
        names += [f"content {row.sha256}"] if row.sha256 else []
        for name in names:
            ties.add(name)
            ties.merge(names[0], name)
    smallest: dict[str, str] = {}
    for row in rows:
        family, name = ties[f"source {row.source}"], row.sha256 or row.source
        smallest[family] = min(name, smallest.get(family, name))
    return {row.source: smallest[ties[f"source {row.source}"]] for row in rows}
