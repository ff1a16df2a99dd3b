"""`vidgen-lab chapter`: run a chapter, or a reader's own copy of one."""

import argparse
import math
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "number", metavar="N|FILE", help="chapter number, or your own copy of one (FILE.ipynb)"
    )
    parser.add_argument("--tier", help="hardware settings (default: auto; see vidgen-lab tiers)")
    parser.add_argument(
        "-p", dest="pairs", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
        help="set a parameter of the notebook; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--download", action="store_true", help="fetch weights that are not here: -p download true"
    )
    parser.add_argument("-f", dest="file", type=Path, metavar="YAML", help="file of parameters")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder of the run (default: runs/CHAPTER/TIME)"
    )
    parser.add_argument("--list", action="store_true", help="print the parameters and stop")
    parser.add_argument(
        "--limit", type=float, metavar="SECONDS",
        help="stop when a cell takes longer (default: 900 for a FILE, none for a chapter)",
    )  # fmt: skip
    parser.add_argument(
        "--record", nargs="?", const="", metavar="NOTE",
        help="add time and memory to the recorded runs, which forecasts come from",
    )  # fmt: skip


def run(args: argparse.Namespace) -> None:
    from vidgen_lab.config import read_yaml
    from vidgen_lab.workbook import recording, runner
    from vidgen_lab.workbook.parameters import read_parameters

    try:
        notebook = runner.find_chapter(args.number)
        own = args.number.endswith(".ipynb")
        if own and args.record is not None:
            raise ValueError("only the chapters themselves are recorded, not a copy of one")
        limit = args.limit if args.limit is not None else 900.0 if own else None
        if limit is not None and not 0 < limit < math.inf:
            raise ValueError(f"--limit must be a positive number of seconds, not {limit:g}")
        if args.list:
            print("\n".join(map(str, read_parameters(runner.read_notebook(notebook)).values())))
            return
        given = dict(args.pairs) | ({"tier": args.tier} if args.tier is not None else {})
        given |= {"download": "true"} if args.download else {}
        parameters = runner.prepare(notebook, given, read_yaml(args.file) if args.file else None)
        tier = None if args.record is None else recording.check_recordable(parameters)
    except ValueError as error:
        raise argparse.ArgumentError(None, str(error)) from None
    run = runner.run_notebook(notebook, parameters, args.out, limit)
    print(f"Finished in {run.seconds:.0f} s")
    for one in recording.record_chapter(run, tier, args.record) if tier else ():
        print(f"Recorded  {one.task} at tier {one.tier}: {one.seconds:.3g} s")
    print(f"Notebook  {run.notebook}")
    print(f"HTML      {run.html}")
    if run.verdicts:
        counts = ", ".join(f"{count} {status}" for status, count in sorted(run.verdicts.items()))
        print(f"Exercises {counts}: {run.folder / runner.VERDICTS}")
    for video in run.videos:
        print(f"Video     {video}")
