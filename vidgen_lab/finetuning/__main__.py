"""`python -m vidgen_lab.finetuning CONFIG`: what `accelerate launch -m` starts."""

import argparse
import sys

from vidgen_lab.finetuning import command


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m vidgen_lab.finetuning")
    command.add_arguments(parser)
    try:
        return command.run(parser.parse_intermixed_args()) or 0
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
