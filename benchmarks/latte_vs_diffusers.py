"""Forward and backward of our Latte against diffusers' LatteTransformer3DModel with equal weights.

    python benchmarks/latte_vs_diffusers.py                          S/2 shapes on the CPU
    python benchmarks/latte_vs_diffusers.py --size XL/2 --device cuda --dtype bfloat16 --compile

Three columns: diffusers, ours, ours with attention written out (PyTorch's math kernel, which keeps
the scores); with --compile two more, the blocks of both through torch.compile. Each is measured in
rounds that take turns, so a slow moment of the machine hits all alike; the ratio is of medians.
Peak memory: on a GPU what the allocator saw; on a CPU a fresh process per column, its peak resident
size less what it held before the first step.

Goals on a CPU at S/2: no slower than diffusers, and no more memory. Under glibc a quarter of the
peak is holes in the heap, of another size on every machine; MALLOC_MMAP_THRESHOLD_=1048576 gives
large blocks back at once and shows what the model itself needs.
Goals on a GPU: MFU >= 40 % for XL/2 and >= 20 % for S/2, in bfloat16, compiled.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from vidgen_lab.latte import Latte, latte_config
from vidgen_lab.latte.measure import count_flops, saved_bytes
from vidgen_lab.training.optim import compile_blocks

COLUMNS = ("diffusers", "ours", "ours, written out")
COMPILED = ("diffusers, compiled", "ours, compiled")

# dense bfloat16, from the makers' sheets
PEAK_TFLOPS = {"H100": 989.0, "H200": 989.0, "A100": 312.0, "L4": 121.0, "4090": 165.0}


def parse() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--size", default="S/2", help="S/2, B/2, L/2, XL/2")
    p.add_argument("--depth", type=int, help="blocks (default: the size's own)")
    p.add_argument("--frames", type=int, default=16)
    p.add_argument("--latent", type=int, default=32, help="side of a latent frame")
    p.add_argument("--batch", type=int, default=1)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--device", default="cpu")
    p.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    p.add_argument("--compile", action="store_true", help="two more columns, blocks compiled")
    p.add_argument("--threads", type=int, help="CPU threads")
    p.add_argument("--peak-tflops", type=float, help="of the GPU, for the MFU (default: by name)")
    p.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    p.add_argument("--only", choices=COLUMNS + COMPILED, help=argparse.SUPPRESS)  # for memory
    return p.parse_args()


def columns(args: argparse.Namespace) -> tuple[str, ...]:
    return COLUMNS + COMPILED if args.compile else COLUMNS


def peak_tflops() -> float | None:
    """The GPU's peak, if it is known by its name."""
    name = torch.cuda.get_device_name()
    return next((peak for part, peak in PEAK_TFLOPS.items() if part in name), None)


def flops_of_a_step(size: str, batch: int, frames: int, side: int, **extra: Any) -> int:
    """Of a forward and a backward pass, counted and not computed."""
    config = latte_config(size, modulation="single", num_frames=frames, sample_size=side, **extra)
    with torch.device("meta"):
        model, x = Latte(config), torch.zeros(1, 4, frames, side, side)
    return 3 * batch * count_flops(lambda: model(x, 0))


def build(column: str, args: argparse.Namespace) -> tuple[Callable[[], None], torch.nn.Module]:
    """One training step's forward and backward, and the model it runs."""
    extra = {} if args.depth is None else {"depth": args.depth}
    config = latte_config(
        args.size,
        modulation="single",
        num_frames=args.frames,
        sample_size=args.latent,
        **extra,
    )
    torch.manual_seed(0)
    model = Latte(config)
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(std=0.02)
    theirs = column.startswith("diffusers")
    if theirs:
        model = model.to_diffusers()
    if (args.device, args.dtype) != ("cpu", "float32"):
        model = model.to(args.device, getattr(torch, args.dtype))
    model.train()
    if column in COMPILED:
        compile_blocks(model)
    first = next(model.parameters())
    x = torch.randn(args.batch, 4, args.frames, args.latent, args.latent).to(first)
    t = torch.full((args.batch,), 500, device=args.device)
    text = torch.zeros(args.batch, 1, 1).to(first)

    def forward() -> torch.Tensor:
        if theirs:
            return model(x, encoder_hidden_states=text, timestep=t).sample
        kernel = sdpa_kernel(SDPBackend.MATH) if "written out" in column else nullcontext()
        with kernel:
            return model(x, t)

    def step() -> None:
        forward().float().square().mean().backward()

    step.forward = forward
    return step, model


def synchronise(args: argparse.Namespace) -> None:
    if args.device != "cpu":
        torch.cuda.synchronize()


def times(args: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of every round of every column, the columns taking turns."""
    steps = {column: build(column, args)[0] for column in columns(args)}
    result: dict[str, list[float]] = {column: [] for column in steps}
    for round_number in range(args.rounds + 1):
        for column, step in steps.items():
            synchronise(args)
            start = time.perf_counter()
            step()
            synchronise(args)
            if round_number:  # the first round warms up
                result[column].append(time.perf_counter() - start)
    return result


def resident_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if platform.system() == "Darwin" else 1024)


def memory(column: str, args: argparse.Namespace) -> dict[str, int]:
    """Peak bytes of one step beyond the model itself, and the bytes kept for backward."""
    step, model = build(column, args)
    saved = 0
    if args.device == "cpu":
        before = resident_bytes()
        step()
        peak = resident_bytes() - before
    else:
        step()
        synchronise(args)
        torch.cuda.reset_peak_memory_stats()
        step()
        peak = torch.cuda.max_memory_allocated()
    if column not in COMPILED:
        model.zero_grad(set_to_none=True)
        saved = saved_bytes(step.forward, model)
    return {"peak": peak, "saved": saved}


def memory_in_fresh_process(column: str) -> dict[str, int]:
    command = [sys.executable, __file__, *sys.argv[1:], "--only", column]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(out.strip().splitlines()[-1])


def main() -> None:
    args = parse()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.only:
        print(json.dumps(memory(args.only, args)))
        return
    spaces = {column: memory_in_fresh_process(column) for column in columns(args)}
    seconds = times(args)
    extra = {} if args.depth is None else {"depth": args.depth}
    flops = flops_of_a_step(args.size, args.batch, args.frames, args.latent, **extra)
    rows = []
    peak = None if args.device == "cpu" else args.peak_tflops or peak_tflops()
    for column in columns(args):
        median = statistics.median(seconds[column])
        rows.append(
            {
                "column": column,
                "seconds": round(median, 4),
                "fastest": round(min(seconds[column]), 4),
                "peak_MiB": round(spaces[column]["peak"] / 2**20, 1),
                "saved_MiB": round(spaces[column]["saved"] / 2**20, 1),
                "TFLOP/s": round(flops / median / 1e12, 3),
            }
        )
        if peak:
            rows[-1]["MFU"] = round(flops / median / 1e12 / peak, 3)
    report = {
        "setting": {k: v for k, v in vars(args).items() if k not in ("json", "only")},
        "torch": torch.__version__,
        "machine": torch.cuda.get_device_name() if args.device != "cpu" else platform.machine(),
        "threads": torch.get_num_threads(),
        "rows": rows,
        "time_ratio": round(rows[0]["seconds"] / rows[1]["seconds"], 3),
        "time_ratio_fastest": round(rows[0]["fastest"] / rows[1]["fastest"], 3),
        "memory_ratio": round(rows[1]["peak_MiB"] / rows[0]["peak_MiB"], 3),
    }
    if args.json:
        print(json.dumps(report))
        return
    print(f"Latte-{args.size}, {args.batch} x {args.frames} frames of {args.latent}x{args.latent}, "
          f"{args.dtype} on {report['machine']}, {report['threads']} threads")  # fmt: skip
    keys = list(rows[0])
    print("  ".join(f"{k:>22}" if k == "column" else f"{k:>10}" for k in keys))
    for row in rows:
        print("  ".join(f"{row[k]:>22}" if k == "column" else f"{row[k]:>10}" for k in keys))
    print(f"diffusers / ours, time: {report['time_ratio']} (fastest rounds "
          f"{report['time_ratio_fastest']}); ours / diffusers, peak memory: "
          f"{report['memory_ratio']}")  # fmt: skip


if __name__ == "__main__":
    main()
