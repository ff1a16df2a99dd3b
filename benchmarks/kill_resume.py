"""Does a killed training end as if it had not been killed, to the last bit?

    python benchmarks/kill_resume.py --moments 20

A small training with everything that could go astray (dropout, batch norm, augmentation, two
optimizers, an average, validation) is killed with SIGKILL at random moments: inside a step, inside
a validation, between two files of a checkpoint, and at any time at all. It is run again, and
weights, average, optimizers, place in the data, random states and every number in the log are
compared with those of a run that was left alone: with no worker, with two, and on two processes.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.training import killable

SETTINGS = {
    "no worker": {}, "two workers": {"workers": 2}, "two processes": {"processes": 2}
}  # fmt: skip
KINDS = ("step", "validation", "checkpoint", "time")


def killed_and_resumed(folder: Path, moment: tuple, options: dict) -> bool | None:
    """Whether the resumed run is equal to the whole one; None if the kill came too late."""
    shutil.rmtree(folder, ignore_errors=True)
    if killable.run(folder, kill=moment, **options) != -9:
        return None
    if (status := killable.run(folder, **options)) != 0:
        raise RuntimeError(f"the resumed run ended with {status} after {moment}")
    return killable.equal(killable.outcome(folder), killable.outcome(folder.parent / "whole"))


def moments(rng: random.Random, seconds: float, checkpoint_files: int):
    """Endless random moments, of all kinds in turn."""
    most = {"step": 11, "validation": 39, "checkpoint": checkpoint_files}
    while True:
        for kind in KINDS:
            yield (kind, rng.uniform(0, seconds) if kind == "time" else rng.randrange(most[kind]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--moments", type=int, default=8, help="for each of the three settings")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--settings", nargs="*", default=list(SETTINGS), choices=SETTINGS)
    args = parser.parse_args()
    rng, wrong = random.Random(args.seed), 0
    with tempfile.TemporaryDirectory() as place:
        for name, options in ((name, SETTINGS[name]) for name in args.settings):
            base = Path(place) / name.replace(" ", "_")
            assert killable.run(base / "whole", **options) == 0
            start = time.perf_counter()  # the first run starts what all are forked from
            killable.run(base / "cold", seed=4, **options)
            seconds = time.perf_counter() - start
            outcome = [killable.outcome(base / run) for run in ("whole", "cold")]
            counts = dict.fromkeys(KINDS, 0)
            right = late = 0
            for moment in moments(rng, seconds, 45):
                equal = killed_and_resumed(base / "killed", moment, options)
                if equal is None:
                    late += 1
                    continue
                counts[moment[0]] += 1
                right += equal
                if not equal:
                    wrong += 1
                    print(f"  differs after {moment}", flush=True)
                if sum(counts.values()) == args.moments:
                    break
            by_kind = ", ".join(f"{n} {kind}" for kind, n in counts.items())
            cold = "differs" if not killable.equal(*outcome) else "IS EQUAL"
            print(
                f"{name}: {right} of {args.moments} equal to the last bit ({by_kind}; {late} came "
                f"too late); a run from another seed {cold}; {seconds:.1f} s a run",
                flush=True,
            )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
