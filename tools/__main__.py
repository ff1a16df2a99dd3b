"""Is the repository in order? The chapters, the map of the book, and the pages made from it and
from measurements. With --execute, chapters and pages are made anew first."""

import argparse
import sys
from collections.abc import Sequence

from tools import book_map, lint, pages
from vidgen_lab.workbook.runner import chapters, find_chapter


def main(argv: Sequence[str] | None = None) -> int:
    """Print what is wrong; 1 if anything is."""
    parser = argparse.ArgumentParser(prog="python -m tools", description=__doc__)
    parser.add_argument("numbers", nargs="*", metavar="N", help="of chapters (default: all)")
    parser.add_argument("--execute", metavar="TIER", help="run the notebooks first and clean them")
    parser.add_argument(
        "--record", nargs="?", const="", metavar="NOTE", help="add these runs to the recorded ones"
    )
    parser.add_argument("--write", action="store_true", help="write the pages (as --execute does)")
    parser.add_argument("--picture", action="store_true", help="make the README's dozen clips anew")
    args = parser.parse_args(argv)
    if args.picture:
        pages.picture()
    book, faults = book_map.load_map(), []
    for path in map(find_chapter, args.numbers or map(str, chapters())):
        if args.execute:
            lint.refresh(path, args.execute, args.record)
        faults += (f"{path.name}: {fault}" for fault in lint.lint(path))
    faults += book_map.problems(book)
    faults += pages.outdated(book, write=bool(args.write or args.execute))
    print("\n".join(faults) or "chapters, map and pages are in order")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
