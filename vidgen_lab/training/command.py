"""`vidgen-lab train`: a run, or a sweep of runs; `vidgen-lab plan`: what fits on which GPUs."""

import argparse
import math
import re
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", nargs="?", metavar="CONFIG", help="YAML file, or a listed name")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="training.steps=500, say")
    parser.add_argument("--list", action="store_true", help="show the configurations there are")
    parser.add_argument(
        "--allow", action="append", default=[], metavar="KEY",
        help="go on although this setting has changed since the run was begun",
    )  # fmt: skip
    parser.add_argument(
        "--sweep", action="append", default=[], metavar="KEY=A,B,C",
        help="train once for each value, or combination of values, and compare",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int | None:
    from vidgen_lab.training.config import CONFIGS, listed, load_run, sweep

    if args.list:
        print(CONFIGS)
        for name, said in listed().items():
            print(f"  {name:<12} {said}")
        return None
    if args.config is None:
        raise ValueError("name a configuration: a YAML file, or one of vidgen-lab train --list")
    base = load_run(args.config, args.settings)
    from vidgen_lab.training.latte_run import build_trainer  # seconds: after what may be refused

    if not args.sweep:
        result = build_trainer(base, args.allow).fit(args.allow)
        return 130 if result.interrupted else None

    def train(pairs: list[str], folder: Path) -> Mapping[str, Any]:
        own = [*args.settings, *pairs, f"output={folder}"]
        try:
            result = build_trainer(load_run(args.config, own), args.allow).fit(args.allow)
        except FloatingPointError as error:  # one rate too high shall not end the comparison
            print(f"{', '.join(pairs)}: {error}")
            return {"loss": "diverged"}
        if result.interrupted:
            raise KeyboardInterrupt
        last = ChainMap(*reversed(result.history))
        return {name: last[name] for name in ("loss", "held_out") if name in last}

    pairs = (given.partition("=") for given in args.sweep)
    # a comma within brackets is one of a list
    grid = {name: re.split(r",(?![^\[]*\])", values) for name, _, values in pairs}
    if "output" in grid:
        raise ValueError("a sweep gives each run a folder of its own in output: sweep another key")
    others = asdict(base)
    folder = Path(others.pop("output"))
    for row in sweep(grid, train, folder, others):
        print("  ".join(f"{n} {v:.4g}" if isinstance(v, float) else f"{n}={v}"
                        for n, v in row.items()))  # fmt: skip
    return None


def add_plan_arguments(parser: argparse.ArgumentParser) -> None:
    from vidgen_lab.training.parallel.plan import TRANSFORMERS

    parser.add_argument(
        "model", choices=TRANSFORMERS, metavar="MODEL", help=", ".join(TRANSFORMERS)
    )
    parser.add_argument(
        "--size", metavar="FRAMESxHEIGHTxWIDTH", help="default: 49x480x720, or 16x256x256 for Latte"
    )
    parser.add_argument("--batch", type=int, default=1, help="clips at a time on each GPU")
    parser.add_argument("--rank", type=int, default=0, help="of LoRA; 0 trains everything")
    parser.add_argument("--gpus", type=int, default=1, help="how many")
    parser.add_argument("--gpu-gib", type=float, help="memory of each (default: of this machine)")
    parser.add_argument("--ema", action="store_true", help="keep an average of the weights")
    parser.add_argument("--no-checkpointing", action="store_true", help="keep all activations")


def run_plan(args: argparse.Namespace) -> int:
    from vidgen_lab.settings.hardware import probe
    from vidgen_lab.training.parallel.plan import options

    size = args.size or ("16x256x256" if args.model.startswith("Latte") else "49x480x720")
    try:
        frames, height, width = (int(n) for n in size.split("x"))
    except ValueError:
        raise ValueError(f"--size is FRAMESxHEIGHTxWIDTH such as 49x480x720, not {size}") from None
    memory = probe().vram_gib if args.gpu_gib is None else args.gpu_gib
    if memory <= 0:
        raise ValueError("there is no GPU here to plan for: name its memory, such as --gpu-gib 24")
    plans = options(
        memory, args.gpus, model=args.model, num_frames=frames, height=height, width=width,
        batch=args.batch, rank=args.rank, ema=args.ema, checkpointing=not args.no_checkpointing,
    )  # fmt: skip
    for plan in plans:
        fits = plan.fits(memory)
        print(f"{'fits' if fits else 'does not fit'} {memory:g} GiB: {plan.explain()}")
    if not args.no_checkpointing:
        print("activations: with training.gradient_checkpointing=true, which recomputes them")
    if plans[0].fits(memory):
        return 0
    hint = "" if args.rank else ", or LoRA, such as --rank 64"
    print(f"nothing fits: {math.ceil(plans[0].needs)} GiB would do, or a smaller --size{hint}")
    return 1
