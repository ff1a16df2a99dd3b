"""`vidgen-lab train` and `vidgen-lab plan`."""

import argparse
from collections.abc import Mapping
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
    from vidgen_lab.training.latte_run import build_trainer

    if args.list:
        print(CONFIGS)
        for name, said in listed().items():
            print(f"  {name:<12} {said}")
        return None
    if args.config is None:
        raise ValueError("name a configuration: a YAML file, or one of vidgen-lab train --list")
    if not args.sweep:
        result = build_trainer(load_run(args.config, args.settings)).fit(args.allow)
        return 130 if result.interrupted else None
    base = load_run(args.config, args.settings)

    def train(pairs: list[str], folder: Path) -> Mapping[str, float]:
        own = [*args.settings, *pairs, f"output={folder}"]
        result = build_trainer(load_run(args.config, own)).fit(args.allow)
        if result.interrupted:
            raise KeyboardInterrupt
        last: dict[str, Any] = {}
        for row in result.history:
            last |= row
        return {name: last[name] for name in ("loss", "held_out") if name in last}

    grid = {name: values.split(",") for name, _, values in (s.partition("=") for s in args.sweep)}
    for row in sweep(grid, train, Path(base.output)):
        print("  ".join(f"{n} {v:.4g}" if isinstance(v, float) else f"{n}={v}"
                        for n, v in row.items()))  # fmt: skip
    return None
