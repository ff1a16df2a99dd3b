"""`vidgen-lab toyworld`: captioned clips with ground truth, a raw collection, or the sheet."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="where the clips go")
    parser.add_argument("--count", type=int, metavar="N", help="number of clips (default: 50)")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same clips")
    parser.add_argument("--width", type=int, default=96, help="pixels")
    parser.add_argument("--height", type=int, default=64, help="pixels")
    parser.add_argument("--frames", type=int, default=17, metavar="N", help="frames a clip")
    parser.add_argument(
        "--held-out", action="store_true", help="only compositions never trained on"
    )
    parser.add_argument(
        "--raw", action="store_true", help="a raw collection with planted defects (226 files)"
    )
    parser.add_argument("--sheet", action="store_true", help="write DIR/world.png, no clips")


def run(args: argparse.Namespace) -> None:
    from vidgen_lab.toyworld import dataset

    for name, least, most in (
        ("count", 1, 1_000_000),
        ("seed", 0, 2**63 - 1),
        ("width", 16, 4096),
        ("height", 16, 4096),
        ("frames", 1, 10_000),
    ):
        value = getattr(args, name)
        if value is not None and not least <= value <= most:
            raise ValueError(f"--{name} must lie in {least}..{most}, not {value}")
    if args.raw:
        from vidgen_lab.toyworld.raw import write_raw

        folder = write_raw(args.folder, args.count or 226, args.seed)
        print(f"Videos  {folder / 'videos'}")
        print(f"Truth   {folder / 'truth.jsonl'}")
        return
    if args.sheet:
        if (args.folder / "world.png").exists():
            raise FileExistsError(f"{args.folder / 'world.png'} is there already; take another DIR")
        print(f"Sheet   {dataset.write_world_sheet(args.folder / 'world.png')}")
        return
    size = {"width": args.width, "height": args.height, "num_frames": args.frames}
    folder = dataset.write_dataset(
        args.folder, args.count or 50, args.seed, held_out=args.held_out, **size
    )
    print(f"Clips   {folder / 'videos'}")
    print(f"Lists   {folder / 'metadata.jsonl'}, prompts.txt and videos.txt beside it")
