"""``python -m vidgen_lab`` is the ``vidgen-lab`` command, also under `accelerate launch`."""

import sys

from vidgen_lab.cli import main

if __name__ == "__main__":
    code = main()
    if "torch.distributed" in sys.modules:
        import torch.distributed as dist

        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()  # its threads would abort the process at its very end
    sys.exit(code)
