"""`vidgen-lab evaluate`: what a video file measures, and how well it shows a prompt."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="a video file")
    parser.add_argument("--prompt", metavar="TEXT", help="measure how well it shows this text")
    parser.add_argument(
        "--all", action="store_true", help="with --prompt: the other measures as well"
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(args: argparse.Namespace) -> None:
    from vidgen_lab.metrics.basics import UNITS, evaluate_video_basics

    adherence = result = None
    if args.prompt is not None:
        from vidgen_lab.metrics.adherence import prompt_adherence

        adherence = prompt_adherence(args.file, args.prompt)
    if args.prompt is None or args.all or args.json:
        result = evaluate_video_basics(args.file)
    if args.json:
        import json

        record = result.to_dict() | ({"adherence": adherence.to_dict()} if adherence else {})
        print(json.dumps(record, indent=2))
        return
    if adherence:
        print(adherence.describe())
    if result:
        print(
            f"{args.file}: {result.num_frames} frames, {result.width}x{result.height}, "
            f"{result.fps:g} fps"
        )
        for name, unit in UNITS.items():
            value = getattr(result, name)
            if value is not None:
                print(f"{name.replace('_', ' '):<18} {value:>10.3f}  {unit}")
        print("Verdicts: " + "; ".join(f"{name} {text}" for name, text in result.verdicts.items()))
