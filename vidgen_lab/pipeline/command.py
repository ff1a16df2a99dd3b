"""`vidgen-lab prepare`: from a folder of videos to a training set."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="SRC", help="folder with the videos")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the training set")
    parser.add_argument(
        "settings", nargs="*", metavar="NAME=VALUE", help="a setting such as gates.min_side=256"
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file with settings")
    parser.add_argument("--executor", default="process", choices=("serial", "process", "ray"))
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: all cores)")
    parser.add_argument(
        "--score-only", action="store_true", help="measure and judge, but cut nothing yet"
    )
    parser.add_argument(
        "--shard", metavar="I/N", help="only score part I of N; a run without it finishes"
    )
    parser.add_argument("--retry", choices=("error",), help="try again what ended in an error")


def run(args: argparse.Namespace) -> None:
    from vidgen_lab.pipeline import report
    from vidgen_lab.pipeline.config import load_config
    from vidgen_lab.pipeline.deliver.export import write_exports
    from vidgen_lab.pipeline.deliver.output import Output
    from vidgen_lab.pipeline.prepare import prepare
    from vidgen_lab.pipeline.runner import Execution
    from vidgen_lab.video.sheets import write_png

    config = load_config(args.config, args.settings)
    execution = Execution(args.executor, args.workers, args.retry == "error", show=True)
    shard = _shard(args.shard) if args.shard else None
    table = prepare(args.source, args.out, config, execution, args.score_only, shard)
    print(report.summary(table))
    if shard:
        print(f"Shard {args.shard} is scored; run without --shard when all are")
        return
    gates, output = config.gates.gates(), Output(args.out)
    print(report.calibration(table, gates))
    print(f"Manifest    {args.out / ('scored.jsonl' if args.score_only else 'manifest.jsonl')}")
    with output.replacing("funnel.png") as path:
        report.funnel_figure(table).savefig(path, format="png", dpi=110)
    with output.replacing("borderline.png") as path:
        write_png(report.borderline_sheet(table, gates, args.source), path)
    print(f"Funnel      {args.out / 'funnel.png'}\nBorderline  {args.out / 'borderline.png'}")
    if not args.score_only:
        dataset = write_exports(table, args.out, config.export.formats)
        print(f"Dataset     {dataset} ({', '.join(config.export.formats)})")


def _shard(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    try:
        return int(index), int(count)
    except ValueError:
        raise ValueError(f"--shard takes I/N such as 0/4, not {text!r}") from None
