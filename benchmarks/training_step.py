"""A step of our trainer against the loops that people use, in turns.

    python benchmarks/training_step.py --rounds 5
    python benchmarks/training_step.py --cogvideox examples/cogvideo/train_cogvideox_lora.py

Latte is trained beside a plain accelerate loop around diffusers' own model: same size, same batch
of cached latents, same optimizer and loss. With --cogvideox, a LoRA is trained beside diffusers'
example as it stands, on the same clips and the same base: the embedded CogVideoX with an untrained
transformer of as many tokens, whose patches lie in one frame, since the example makes positions for
such patches alone. Only what it reads its files with is replaced, since decord and torchvision are
not among the requirements. Each round is a process of its own, so that peak memory is each one's;
the ratios are the peer's over ours, so that at least 1.0 is what we want. The example encodes all
clips anew in every run; what our caches save is measured as the seconds from the call to the first
step, in a second run on the same clips. With --processes 2 two processes train on twice the clips,
and the ratio is the efficiency of scaling. On a GPU, --size XL/2 or S/2 is a step at real size, and
data/runs/latte_steps.jsonl gets a line of it. --busy counts the processor's time, for a machine
that others use too.
"""

import argparse
import importlib.util
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from unittest.mock import MagicMock, patch

import torch
import torch.nn.functional as F

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TINY = {"hidden": 192, "heads": 3, "depth": 8, "frames": 8, "side": 16, "batch": 4}
COGVIDEOX, RANK, CLIPS, BATCH = "toy-cogvideox", 8, 64, 2
FIRST = "s to the first step"
RECORDS = Path(__file__).resolve().parent.parent / "data" / "runs" / "latte_steps.jsonl"


def shape(size: str, batch: int) -> dict[str, int]:
    if size == "tiny":
        return TINY | ({"batch": batch} if batch else {})
    from vidgen_lab.latte.config import latte_config

    config = latte_config(size)
    return {
        "hidden": config.hidden_size, "heads": config.num_heads, "depth": config.depth,
        "frames": 16, "side": 32, "batch": batch or 8,
    }  # fmt: skip


def batch_of(s: dict[str, int]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(s["batch"], 4, s["frames"], s["side"], s["side"], generator=generator)
    text = torch.randn(s["batch"], 24, 96, generator=generator)
    return {"latents": latents.to(DEVICE), "text": text.to(DEVICE)}


def precision() -> str:
    """What both compute in."""
    from vidgen_lab.training.optim import compute_dtype

    names = {torch.bfloat16: "bf16", torch.float16: "fp16", None: "no"}
    return names[compute_dtype("auto", DEVICE)]


def latte_peer(args: argparse.Namespace) -> dict[str, float]:
    """The loop that people write: accelerate, diffusers' model, AdamW."""
    from accelerate import Accelerator
    from diffusers import DDPMScheduler, LatteTransformer3DModel

    from vidgen_lab.training.optim import compile_blocks

    s = shape(args.size, args.batch)
    accelerator = Accelerator(mixed_precision=precision())
    torch.manual_seed(0)
    model = LatteTransformer3DModel(
        num_attention_heads=s["heads"], attention_head_dim=s["hidden"] // s["heads"],
        in_channels=4, out_channels=4, num_layers=s["depth"] // 2, cross_attention_dim=s["hidden"],
        attention_bias=True, sample_size=s["side"], patch_size=2, activation_fn="gelu-approximate",
        norm_type="ada_norm_single", norm_elementwise_affine=False, norm_eps=1e-6,
        caption_channels=96, video_length=s["frames"],
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    if args.compile:
        compile_blocks(model)
    model, optimizer = accelerator.prepare(model, optimizer)
    scheduler, batch = DDPMScheduler(), batch_of(s)
    times = []
    for _ in range(args.steps):
        start = args.clock()
        clean = batch["latents"]
        noise = torch.randn_like(clean)
        t = torch.randint(0, 1000, (len(clean),), device=clean.device)
        noisy = scheduler.add_noise(clean, noise, t)
        with accelerator.accumulate(model):
            with accelerator.autocast():
                out = model(noisy, t, encoder_hidden_states=batch["text"], return_dict=False)[0]
                loss = F.mse_loss(out.float(), noise)
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        loss.item()
        times.append(args.clock() - start)
    return figures(times)


def latte_ours(args: argparse.Namespace) -> dict[str, float]:
    from vidgen_lab.latte import Latte, LatteConfig
    from vidgen_lab.training.config import TrainingConfig
    from vidgen_lab.training.objectives import ObjectiveConfig
    from vidgen_lab.training.optim import OptimizerConfig
    from vidgen_lab.training.trainer import VideoModelTrainer

    s = shape(args.size, args.batch)
    torch.manual_seed(0)
    model = Latte(LatteConfig(
        sample_size=s["side"], num_frames=s["frames"], in_channels=4, hidden_size=s["hidden"],
        depth=s["depth"], num_heads=s["heads"], modulation="single", condition="text", text_dim=96,
        learn_sigma=False,
    ))  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        return steps_of(VideoModelTrainer(
            model, ObjectiveConfig(prediction="epsilon").build(), [batch_of(s)], folder,
            TrainingConfig(
                steps=args.steps, compile=args.compile, measure=False, tensorboard=False
            ),
            optimizers=OptimizerConfig(schedule="constant", warmup=0),
        ), args)  # fmt: skip


def steps_of(trainer, args: argparse.Namespace) -> dict[str, float]:
    times = []
    for _ in range(args.steps):
        start = args.clock()
        trainer.train_step()
        times.append(args.clock() - start)
    return figures(times)


def figures(times: list[float]) -> dict[str, float]:
    """Of a round: the median step, and the most memory that its process has used so far."""
    from vidgen_lab.training.monitor import peak_memory

    return {"s a step": statistics.median(times[2:]), "GiB": peak_memory(DEVICE) / 2**30}


# CogVideoX ----------------------------------------------------------------------------------------


def clips_for_cogvideox(folder: Path) -> dict[str, int]:
    """A few clips as large as the embedded model makes them, and that size."""
    from vidgen_lab.paths import model_dir
    from vidgen_lab.toyworld.dataset import write_dataset

    config = json.loads((model_dir(COGVIDEOX) / "transformer/config.json").read_text("utf-8"))
    vae = json.loads((model_dir(COGVIDEOX) / "vae/config.json").read_text("utf-8"))
    factor = 2 ** (len(vae["block_out_channels"]) - 1)
    size = {
        "num_frames": config["sample_frames"],
        "height": config["sample_height"] * factor,
        "width": config["sample_width"] * factor,
    }
    write_dataset(folder, CLIPS, **size)
    return size


def base_for_cogvideox(folder: Path) -> str:
    """The embedded pipeline with patches of 2x2 cells of one frame in place of a cell of four."""
    from diffusers import CogVideoXPipeline, CogVideoXTransformer3DModel

    from vidgen_lab.paths import model_dir

    pipe = CogVideoXPipeline.from_pretrained(model_dir(COGVIDEOX))
    torch.manual_seed(0)
    config = dict(pipe.transformer.config) | {"patch_size": 2, "patch_size_t": None}
    pipe.transformer = CogVideoXTransformer3DModel.from_config(config)
    pipe.save_pretrained(folder)
    return str(folder)


def cogvideox_peer(args: argparse.Namespace) -> dict[str, float]:
    """diffusers' example, with clips read by our reader and its progress bar as the clock."""
    import diffusers.utils
    import peft  # noqa: F401 looks for torchvision, which below only seems to be there
    from diffusers import AutoencoderKLCogVideoX, CogVideoXPipeline  # noqa: F401
    from transformers import T5EncoderModel  # noqa: F401

    from vidgen_lab.training.data.clips import read_clips
    from vidgen_lab.video.reader import read_clip
    from vidgen_lab.video.tensors import as_tensor

    diffusers.utils.check_min_version = lambda _: None
    absent = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
    with patch.dict(sys.modules, {name: MagicMock() for name in absent}):
        spec = importlib.util.spec_from_file_location("peer", args.cogvideox)
        example = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(example)
    ends, ready = [], []

    class Clips(torch.utils.data.Dataset):
        def __init__(self, instance_data_root, **_) -> None:
            records = read_clips(instance_data_root)
            self.instance_prompts = [record.caption for record in records]
            films = [as_tensor([read_clip(record.path)])[0] for record in records]
            self.instance_videos = [film.transpose(0, 1) for film in films]  # [T, 3, H, W]

        def __len__(self) -> int:
            return len(self.instance_videos)

        def __getitem__(self, n: int):
            video = self.instance_videos[n]
            return {"instance_prompt": self.instance_prompts[n], "instance_video": video}

    class Clock(example.tqdm):
        def __init__(self, *given, desc: str = "", **options) -> None:
            super().__init__(*given, desc=desc, **options)
            if desc == "Steps":
                ready.append(args.clock())

        def set_postfix(self, **_) -> None:  # after a step
            ends.append(args.clock())

    example.VideoDataset, example.tqdm = Clips, Clock
    with tempfile.TemporaryDirectory() as place:
        size = clips_for_cogvideox(Path(place) / "clips")
        sys.argv = [
            "example",
            "--pretrained_model_name_or_path", base_for_cogvideox(Path(place) / "base"),
            "--instance_data_root", f"{place}/clips", "--output_dir", f"{place}/out",
            "--height", str(size["height"]), "--width", str(size["width"]),
            "--max_num_frames", str(size["num_frames"]), "--train_batch_size", str(BATCH),
            "--rank", str(RANK), "--lora_alpha", str(RANK), "--optimizer", "adamw",
            "--max_train_steps", str(args.steps + 1),
            "--mixed_precision", precision(),
        ]  # fmt: skip
        start = args.clock()
        example.main(example.get_args())
    times = [after - before for before, after in zip(ends, ends[1:], strict=False)]
    return figures(times) | {FIRST: ready[0] - start}


def cogvideox_ours(args: argparse.Namespace) -> dict[str, float]:
    from vidgen_lab.finetuning.config import FinetuneConfig
    from vidgen_lab.finetuning.dataset import DataConfig
    from vidgen_lab.finetuning.lora import CogVideoLoRAConfig
    from vidgen_lab.finetuning.trainer import CogVideoTrainer
    from vidgen_lab.training.config import TrainingConfig

    with tempfile.TemporaryDirectory() as place:
        size, base = clips_for_cogvideox(Path(place) / "clips"), Path(place) / "base"
        config = FinetuneConfig(
            DataConfig(Path(place) / "clips", **size, batch_size=BATCH), Path(place) / "out",
            base_for_cogvideox(base), lora=CogVideoLoRAConfig(RANK, RANK),
            training=TrainingConfig(
                args.steps, gradient_checkpointing=False, measure=False, tensorboard=False
            ),
        )  # fmt: skip
        CogVideoTrainer(config).prepare()  # an earlier run on these clips
        start = args.clock()
        trainer = CogVideoTrainer(config).prepare()
        ready = args.clock() - start
        return steps_of(trainer, args) | {FIRST: ready}


CANDIDATES = {
    "latte peer": latte_peer, "latte ours": latte_ours,
    "cogvideox peer": cogvideox_peer, "cogvideox ours": cogvideox_ours,
}  # fmt: skip


def measured(which: str, args: argparse.Namespace, processes: int = 1) -> dict[str, float]:
    """One round in a process of its own, or in several."""
    several = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(several if processes > 1 else []), __file__, "--only", which]
    command += ["--steps", str(args.steps), "--size", args.size, "--batch", str(args.batch)]
    command += ["--cogvideox", str(args.cogvideox)] if args.cogvideox else []
    command += [f"--{name}" for name in ("busy", "compile") if getattr(args, name)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{which} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(name: str, args: argparse.Namespace, ours: tuple, other: tuple) -> None:
    """Medians of rounds in turns. ours, other: a candidate and its number of processes."""
    rounds: dict[tuple, list[dict[str, float]]] = {ours: [], other: []}
    for number in range(args.rounds):
        for which in sorted(rounds, reverse=bool(number % 2)):
            rounds[which].append(measured(which[0], args, which[1]))
    for figure in rounds[ours][0]:
        values = {which: [r[figure] for r in rows] for which, rows in rounds.items()}
        middle = {which: statistics.median(v) for which, v in values.items()}
        said = ", ".join(
            f"{which} on {count}: {middle[which, count]:.3f} ({min(v):.3f} to {max(v):.3f})"
            for (which, count), v in values.items()
        )
        print(f"{name}, {figure}: {said}: {middle[other] / middle[ours]:.2f} times", flush=True)
    if name == "latte" and DEVICE.type == "cuda":
        for which, rows in rounds.items():
            middle = {n: statistics.median(r[n] for r in rows) for n in ("s a step", "GiB")}
            note(which[0].partition(" ")[2], args, middle["s a step"], middle["GiB"])


def note(who: str, args: argparse.Namespace, seconds: float, gib: float) -> None:
    """Print the share of the GPU's arithmetic that a step makes use of, and record the step."""
    row = {
        "size": args.size, "by": who, "batch": shape(args.size, args.batch)["batch"],
        "compiled": args.compile, "seconds": round(seconds, 4), "gib": round(gib, 2),
        "gpu": torch.cuda.get_device_name(), "torch": torch.__version__,
        "date": str(date.today()),
    }  # fmt: skip
    print(f"{who}: {utilisation(args, seconds):.1%} of the GPU's arithmetic", flush=True)
    with RECORDS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def utilisation(args: argparse.Namespace, seconds: float) -> float:
    """MFU: the arithmetic of a step's forward and backward pass over what the GPU's maker says."""
    from latte_vs_diffusers import flops_of_a_step, peak_tflops

    s = shape(args.size, args.batch)
    flops = flops_of_a_step(args.size, s["batch"], s["frames"], s["side"])
    return flops / seconds / ((peak_tflops() or math.nan) * 1e12)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--size", default="tiny", help="tiny, or a Latte such as XL/2 (on a GPU)")
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--cogvideox", type=Path, help="diffusers' train_cogvideox_lora.py")
    parser.add_argument("--processes", type=int, default=1, help="compare so many with one")
    parser.add_argument("--busy", action="store_true", help="count the processor's time")
    parser.add_argument("--compile", action="store_true", help="the blocks of both Lattes")
    parser.add_argument("--only", choices=CANDIDATES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.clock = time.process_time if args.busy else time.perf_counter
    if args.only:
        print(json.dumps(CANDIDATES[args.only](args)))
        return 0
    if args.processes > 1:
        compare("efficiency", args, ("latte ours", args.processes), ("latte ours", 1))
        return 0
    for model in ("latte", "cogvideox") if args.cogvideox else ("latte",):
        compare(model, args, (f"{model} ours", 1), (f"{model} peer", 1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
