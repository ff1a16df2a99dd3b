"""Memory of the pipeline's journal and of the clips' thumbnails, by default for a million clips.

    python benchmarks/journal.py [CLIPS] [THUMBNAILS]

Simulated: results as `score` writes them, a scene a file, with a few thumbnails each; what is held
in memory does not depend on their number.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from vidgen_lab.journal import Journal
from vidgen_lab.pipeline.read.pictures import THUMB
from vidgen_lab.pipeline.runner import Lazy
from vidgen_lab.pipeline.select.sameness import PARTS, Signature


def gib() -> float:
    return psutil.Process().memory_info().rss / 2**30


def main(clips: int = 1_000_000, thumbnails: int = 2) -> None:
    hashes = np.zeros((thumbnails, len(PARTS)), np.uint64)
    thumbs = np.full((thumbnails, THUMB[1], THUMB[0], 3), 127, np.uint8)
    value = json.dumps({"value": {"clips": [Signature(hashes, thumbs, 0.25).plain()]}})
    keys = [f"{number:032x}" for number in range(clips)]
    with tempfile.TemporaryDirectory() as folder:
        with (Path(folder) / "0-of-1.jsonl").open("w") as file:
            file.writelines(f'{{"key": "{key}", "value": {value}}}\n' for key in keys)
            size = file.tell() / 2**30
        before, began = gib(), time.perf_counter()
        journal = Journal(Path(folder))
        print(f"journal      {len(journal):,} entries, {size:.2f} GiB on the disk: ", end="")
        print(f"{gib() - before:.2f} GiB in memory, opened in {time.perf_counter() - began:.1f} s")
        before, began = gib(), time.perf_counter()
        scores = Lazy(clips, lambda n: journal[keys[n]])
        signatures = Lazy(clips, lambda n: Signature.of(scores[n]["value"]["clips"][0]))
        for number in range(0, clips, max(1, clips // 20_000)):
            assert len(signatures[number].thumbs) == thumbnails
        print(f"thumbnails   {len(signatures):,}: {gib() - before:.2f} GiB in memory, ", end="")
        print(f"20,000 of them read in {time.perf_counter() - began:.1f} s")
    peak = psutil.Process().memory_info()
    print(f"together     {getattr(peak, 'peak_wset', peak.rss) / 2**30:.2f} GiB resident")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
