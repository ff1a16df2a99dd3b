"""`python -m vidgen_lab.finetuning CONFIG`: what `accelerate launch -m` starts."""

import sys

from vidgen_lab import cli

if __name__ == "__main__":
    sys.exit(cli.main(["finetune", *sys.argv[1:]]))
