"""`vidgen-lab plan`: what fits on which GPUs, before anything is loaded."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from vidgen_lab.training.plan import TRANSFORMERS

    parser.add_argument(
        "model", choices=TRANSFORMERS, metavar="MODEL", help=", ".join(TRANSFORMERS)
    )
    parser.add_argument("--size", default="49x480x720", metavar="FRAMESxHEIGHTxWIDTH")
    parser.add_argument("--batch", type=int, default=1, help="clips at a time on each GPU")
    parser.add_argument("--rank", type=int, default=0, help="of LoRA; 0 trains everything")
    parser.add_argument("--gpus", type=int, default=1, help="how many")
    parser.add_argument("--gpu-gib", type=float, help="memory of each (default: of this machine)")
    parser.add_argument("--ema", action="store_true", help="keep an average of the weights")
    parser.add_argument("--no-checkpointing", action="store_true", help="keep all activations")


def run(args: argparse.Namespace) -> int:
    from vidgen_lab.settings.hardware import probe
    from vidgen_lab.training.plan import options

    try:
        frames, height, width = (int(n) for n in args.size.split("x"))
    except ValueError:
        raise ValueError(
            f"--size is FRAMESxHEIGHTxWIDTH such as 49x480x720, not {args.size}"
        ) from None
    memory = args.gpu_gib or probe().vram_gib
    plans = options(
        memory, args.gpus, model=args.model, num_frames=frames, height=height, width=width,
        batch=args.batch, rank=args.rank, ema=args.ema, checkpointing=not args.no_checkpointing,
    )  # fmt: skip
    for plan in plans:
        fits = plan.fits(memory)
        print(f"{'fits' if fits else 'does not fit'} {memory:g} GiB: {plan.explain()}")
    return 0 if any(plan.fits(memory) for plan in plans) else 1
