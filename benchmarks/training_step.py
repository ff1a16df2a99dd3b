"""A step of our trainer on Latte against a plain accelerate loop around diffusers' own model.

    python benchmarks/training_step.py --rounds 5

Same size, same batch of cached latents, same optimizer and loss. The two take turns, each round in
a process of its own, so that peak memory is each one's; the ratios are the peer's over ours, so
that at least 1.0 is what we want. On a GPU, --size XL/2 or S/2 is a step at real size, with MFU.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time

import torch

TINY = {"hidden": 192, "heads": 3, "depth": 8, "frames": 8, "side": 16, "batch": 4}


def shape(size: str, batch: int) -> dict[str, int]:
    if size == "tiny":
        return TINY | ({"batch": batch} if batch else {})
    from vidgen_lab.latte.config import latte_config

    config = latte_config(size)
    return {
        "hidden": config.hidden_size, "heads": config.num_heads, "depth": config.depth,
        "frames": 16, "side": 32, "batch": batch or 8,
    }  # fmt: skip


def batch_of(s: dict[str, int], device: torch.device) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(s["batch"], 4, s["frames"], s["side"], s["side"], generator=generator)
    text = torch.randn(s["batch"], 24, 96, generator=generator)
    return {"latents": latents.to(device), "text": text.to(device)}


def peer(s: dict[str, int], steps: int) -> list[float]:
    """The loop that people write: accelerate, diffusers' model, AdamW."""
    from accelerate import Accelerator
    from diffusers import DDPMScheduler, LatteTransformer3DModel

    from vidgen_lab.training.optim import compute_dtype

    dtype = compute_dtype("auto", "cuda" if torch.cuda.is_available() else "cpu")
    accelerator = Accelerator(mixed_precision="bf16" if dtype is torch.bfloat16 else "no")
    torch.manual_seed(0)
    model = LatteTransformer3DModel(
        num_attention_heads=s["heads"], attention_head_dim=s["hidden"] // s["heads"],
        in_channels=4, out_channels=4, num_layers=s["depth"] // 2, cross_attention_dim=s["hidden"],
        attention_bias=True, sample_size=s["side"], patch_size=2, activation_fn="gelu-approximate",
        norm_type="ada_norm_single", norm_elementwise_affine=False, norm_eps=1e-6,
        caption_channels=96, video_length=s["frames"],
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    model, optimizer = accelerator.prepare(model, optimizer)
    scheduler, batch = DDPMScheduler(), batch_of(s, accelerator.device)
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        clean = batch["latents"]
        noise = torch.randn_like(clean)
        t = torch.randint(0, 1000, (len(clean),), device=clean.device)
        noisy = scheduler.add_noise(clean, noise, t)
        with accelerator.accumulate(model):
            with accelerator.autocast():
                out = model(noisy, t, encoder_hidden_states=batch["text"], return_dict=False)[0]
                loss = torch.nn.functional.mse_loss(out.float(), noise)
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        loss.item()
        times.append(time.perf_counter() - start)
    return times


def ours(s: dict[str, int], steps: int) -> list[float]:
    from vidgen_lab.latte import Latte, LatteConfig
    from vidgen_lab.training.config import TrainingConfig
    from vidgen_lab.training.objectives import ObjectiveConfig
    from vidgen_lab.training.optim import OptimizerConfig
    from vidgen_lab.training.trainer import VideoModelTrainer

    torch.manual_seed(0)
    model = Latte(LatteConfig(
        sample_size=s["side"], num_frames=s["frames"], in_channels=4, hidden_size=s["hidden"],
        depth=s["depth"], num_heads=s["heads"], modulation="single", condition="text", text_dim=96,
        learn_sigma=False,
    ))  # fmt: skip
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        trainer = VideoModelTrainer(
            model, ObjectiveConfig(prediction="epsilon").build(), [batch_of(s, device)], folder,
            TrainingConfig(steps=steps, measure=False, tensorboard=False),
            optimizers=OptimizerConfig(schedule="constant", warmup=0),
        )  # fmt: skip
        times = []
        for _ in range(steps):
            start = time.perf_counter()
            trainer.train_step()
            times.append(time.perf_counter() - start)
    return times


def measured(which: str, args: argparse.Namespace) -> dict[str, float]:
    """One round in a process of its own."""
    command = [sys.executable, __file__, "--only", which, "--steps", str(args.steps)]
    command += ["--size", args.size, "--batch", str(args.batch)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--size", default="tiny", help="tiny, or a Latte such as XL/2 (on a GPU)")
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--only", choices=("peer", "ours"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        from vidgen_lab.training.monitor import peak_memory

        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        times = {"peer": peer, "ours": ours}[args.only](shape(args.size, args.batch), args.steps)
        print(json.dumps({
            "seconds": statistics.median(times[2:]), "memory": peak_memory(device) / 2**30,
        }))  # fmt: skip
        return 0
    rounds = {"peer": [], "ours": []}
    for number in range(args.rounds):
        for which in sorted(rounds, reverse=bool(number % 2)):
            rounds[which].append(measured(which, args))
    for name, unit in (("seconds", "s a step"), ("memory", "GiB")):
        values = {w: [r[name] for r in rows] for w, rows in rounds.items()}
        middle = {w: statistics.median(v) for w, v in values.items()}
        spread = {w: f"{min(v):.3f} to {max(v):.3f}" for w, v in values.items()}
        print(
            f"{args.size}: ours {middle['ours']:.3f} ({spread['ours']}), peer "
            f"{middle['peer']:.3f} ({spread['peer']}) {unit}: "
            f"{middle['peer'] / middle['ours']:.2f} times"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
