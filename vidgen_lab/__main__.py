"""``python -m vidgen_lab`` is the ``vidgen-lab`` command, also under `accelerate launch`."""

import atexit
import os
import sys

from vidgen_lab.cli import main


def leave(code: int) -> None:
    """End one of several processes with what the interpreter does at its end, but for taking itself
    down: DDP keeps gloo's threads alive beyond the group's end, and a thread that frees a tensor
    then aborts the process (pytorch/pytorch#179291)."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    code = main()
    if "torch.distributed" in sys.modules:
        import torch.distributed as dist

        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()
            leave(code)
    sys.exit(code)
