"""``python -m vidgen_lab`` is the ``vidgen-lab`` command."""

import sys

from vidgen_lab.cli import main

if __name__ == "__main__":
    sys.exit(main())
