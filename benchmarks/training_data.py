"""How fast do clips come, from the file and from a cache; what do broken ones cost?

    python benchmarks/training_data.py

480p H.264 is decoded anew, read from the memory-mapped cache, and from HDF5, in turns; then a set
with 5 % of broken files is gone through three times, and every attempt to open one is counted.
"""

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader

from vidgen_lab.training.data.buckets import Bucket, BucketBatchSampler, assign
from vidgen_lab.training.data.clips import ClipRecord
from vidgen_lab.training.data.dataset import VideoCollate, VideoDataset
from vidgen_lab.training.data.pixel_cache import PixelCache
from vidgen_lab.training.stream import BatchStream
from vidgen_lab.video.clip import Clip
from vidgen_lab.video.writer import write_clip


def textured(count: int, folder: Path, frames: int = 49) -> list[ClipRecord]:
    """480p clips that pan over a real picture, as camera footage compresses."""
    from skimage import data, transform

    picture = (transform.resize(data.astronaut(), (900, 1400)) * 255).astype(np.uint8)
    records = []
    for n in range(count):
        rng = np.random.default_rng(n)
        y, x = rng.integers(0, 900 - 480 - 60), rng.integers(0, 1400 - 720 - 60)
        shown = [picture[y + t : y + t + 480, x + t : x + t + 720] for t in range(frames)]
        path = write_clip(Clip(np.stack(shown), 16), folder / f"{n}.mp4")
        records.append(ClipRecord(path.name, path, "a face", frames, 480, 720, 16.0))
    return records


def seconds_per_clip(dataset: VideoDataset, epoch: int, clock: Callable[[], float]) -> float:
    """Of one epoch, until the clips lie together in batches as the device gets them."""
    batches = BucketBatchSampler(dataset.clips, 4).batches(epoch)
    loader = DataLoader(dataset, batch_sampler=batches, collate_fn=VideoCollate())
    start = clock()
    shown = sum(len(batch["video"].contiguous()) for batch in loader)
    return (clock() - start) / shown


def compare(
    records: list[ClipRecord], bucket: Bucket, place: Path, rounds: int, clock: Callable[[], float]
) -> None:
    clips = assign(records, [bucket]).clips
    kinds = {"decoded": VideoDataset(clips)}
    for layout in ("npy", "hdf5"):
        cache = PixelCache(place / f"{layout}-{bucket}".replace("/", "-"), layout)
        kinds[layout] = VideoDataset(clips, cache=cache)
        first = seconds_per_clip(kinds[layout], 0, clock)
        print(f"  {bucket}, {layout}: first epoch {first * 1e3:.1f} ms a clip")
    times = {name: [] for name in kinds}
    for number in range(rounds):  # in turns: whatever else the machine does meets all alike
        for name, dataset in kinds.items():
            times[name].append(seconds_per_clip(dataset, number + 1, clock))
    base = statistics.median(times["decoded"])
    for name, values in times.items():
        size = sum(f.stat().st_size for f in place.glob(f"{name}-{bucket}/*")) / 2**20
        files = f", {size:.0f} MiB on disk" if size else ""
        middle = statistics.median(values)
        print(
            f"  {bucket}, {name}: {middle * 1e3:.2f} ms a clip ({min(values) * 1e3:.2f} to "
            f"{max(values) * 1e3:.2f}), {base / middle:.1f} times as fast as decoding{files}"
        )


def broken(records: list[ClipRecord], place: Path, workers: int) -> None:
    """Every file that cannot be read is tried once, whoever meets it."""
    bad = records[:: max(1, len(records) // max(1, len(records) // 20))][
        : max(1, len(records) // 20)
    ]
    for record in bad:
        record.path.write_bytes(b"not a film")
    tried = place / "tried.txt"

    class Counting(VideoDataset):
        def _decode(self, record, *rest):
            with tried.open("a") as file:
                file.write(record.id + "\n")
            return super()._decode(record, *rest)

    clips = assign(records, [Bucket(9, 64, 96)]).clips
    dataset = Counting(clips, quarantine=place / "quarantine", cache=PixelCache(place / "pixels"))
    loader = DataLoader(dataset, batch_sampler=BucketBatchSampler(clips, 4), num_workers=workers)
    stream, shown, peaks = BatchStream(loader), [], []
    for _ in range(3):
        for _ in range(len(loader.batch_sampler)):
            shown += next(stream)["id"]
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
    names = {record.id for record in bad}
    attempts = [name for name in tried.read_text().split() if name in names]
    print(
        f"  {workers} workers: {len(bad)} of {len(records)} files broken, {len(attempts)} attempts "
        f"in 3 epochs, {len(dataset.report())} reported, {len(shown)} items shown, "
        f"peak memory by epoch {', '.join(f'{p:.2f}' for p in peaks)} GiB"
    )
    print("  " + json.dumps(dataset.report()[0])[:160])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--busy", action="store_true", help="count the processor's time")
    args = parser.parse_args()
    clock = time.process_time if args.busy else time.perf_counter
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "videos"
        folder.mkdir()
        records = textured(args.clips, folder)
        for bucket in (Bucket(17, 128, 192), Bucket(17, 480, 720)):
            compare(records, bucket, Path(place), args.rounds, clock)
        broken(records, Path(place), workers=0)
        for shared in ("quarantine", "pixels"):
            for file in (Path(place) / shared).glob("*"):
                file.unlink()
        (Path(place) / "tried.txt").unlink()
        broken(records, Path(place), workers=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
