"""CogVideoX at full size with random weights on this GPU: steps of training, and a clip.

    python benchmarks/full_size.py [NAME …] [--record FILE | --tiny]

Speed and memory do not depend on what the weights are, so nothing is downloaded: the transformers
and the VAE are made from diffusers' own defaults, which are CogVideoX-2B's, and latents and texts
are random. A line for each measurement, printed beside the planner's forecast, and in
data/runs/full_size.jsonl. Clips have 49 frames of 480x720. With --tiny the same is tried on small
models, on any processor, and nothing is recorded.
"""

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
)

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # so that the script runs as a file too

from vidgen_lab.finetuning.lora import CogVideoLoRAConfig, apply_lora_to_model  # noqa: E402
from vidgen_lab.finetuning.specification import CogVideoXSpec  # noqa: E402
from vidgen_lab.settings.hardware import GIB  # noqa: E402
from vidgen_lab.training.config import TrainingConfig  # noqa: E402
from vidgen_lab.training.monitor import peak_memory  # noqa: E402
from vidgen_lab.training.parallel.plan import plan, plan_training  # noqa: E402
from vidgen_lab.training.trainer import VideoModelTrainer  # noqa: E402

FULL = {
    "CogVideoX-2B": {},  # diffusers' defaults
    "CogVideoX-5B": {
        "num_layers": 42, "num_attention_heads": 48, "use_rotary_positional_embeddings": True,
    },
}  # fmt: skip
TRAININGS = {  # name: model, rank or 0 for all weights
    "lora-2b": ("CogVideoX-2B", 128),
    "sft-2b": ("CogVideoX-2B", 0),
    "lora-5b": ("CogVideoX-5B", 128),
}
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TINY = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 16}
TINY_VAE = {"block_out_channels": (32, 32, 32, 32), "layers_per_block": 1}


@dataclass(frozen=True)
class Scale:
    """Latents [C, t, h, w] and what makes the models smaller than their full size."""

    latents: tuple[int, int, int, int] = (16, 13, 60, 90)
    transformer: dict[str, Any] = field(default_factory=dict)
    vae: dict[str, Any] = field(default_factory=dict)


FULL_SIZE, SMALL = Scale(), Scale((16, 13, 8, 10), TINY, TINY_VAE)


def planned_gib(name: str) -> float:
    """What the planner forecasts for a measurement; a clip's text was encoded before."""
    if name == "clip":
        made = plan("CogVideoX-2B", tiling=True)
        return made.peak - made.weights["text encoder"]
    model, rank = TRAININGS[name]
    return plan_training(model, rank=rank).training_peak


def synchronised() -> float:
    """The clock, once the GPU has done what it was given."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def made_in_half() -> Iterator[None]:
    """New models are bfloat16 and on the device at once."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with DEVICE:
            yield
    finally:
        torch.set_default_dtype(before)


def training(name: str, scale: Scale, steps: int = 5) -> dict[str, Any]:
    """Steps of batch 1 by our trainer, as `vidgen-lab finetune` makes them."""
    model_name, rank = TRAININGS[name]
    with made_in_half():
        model = CogVideoXTransformer3DModel(**FULL[model_name] | scale.transformer)
    with torch.device("meta"):
        vae = AutoencoderKLCogVideoX(**scale.vae)
    scheduler = CogVideoXDDIMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True)
    spec = CogVideoXSpec(dict(model.config), dict(vae.config), scheduler)
    if rank:
        apply_lora_to_model(model, CogVideoLoRAConfig(rank))
    else:
        model.float()
    batch = {"latents": torch.randn(1, *scale.latents), "text": torch.randn(1, 226, 4096)}

    def loss(model: Any, batch: dict[str, torch.Tensor], draw: Any) -> torch.Tensor:
        noise = draw.noise(spec.cells(batch["latents"]))
        timesteps = (draw.uniform(1) * 1000).long()
        return spec.loss(model, batch["latents"], batch["text"], noise, timesteps)

    settings = {"gradient_checkpointing": True, "measure": False, "tensorboard": False}
    with tempfile.TemporaryDirectory() as folder:
        config = TrainingConfig(steps, **settings)
        trainer, times = VideoModelTrainer(model, loss, [batch], folder, config), []
        for _ in range(steps):
            start = synchronised()
            trainer.train_step()
            times.append(synchronised() - start)
    return {"seconds": statistics.median(times[1:])}


@torch.no_grad()
def clip(scale: Scale, steps: int = 4) -> dict[str, Any]:
    """A clip of CogVideoX-2B by the stock pipeline: guided steps, then decoding in tiles; texts are
    encoded before."""
    with made_in_half():
        model = CogVideoXTransformer3DModel(**scale.transformer)
        vae = AutoencoderKLCogVideoX(**scale.vae)
    vae.enable_tiling()
    scheduler = CogVideoXDDIMScheduler(prediction_type="v_prediction")
    pipe = CogVideoXPipeline(None, None, vae, model, scheduler)
    pipe.set_progress_bar_config(disable=True)
    text = torch.randn(1, 226, 4096, device=DEVICE, dtype=torch.bfloat16)
    ends = []

    def note(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        ends.append(synchronised())
        return tensors

    _, frames, height, width = scale.latents
    latents = pipe(
        num_frames=4 * frames - 3, height=8 * height, width=8 * width, prompt_embeds=text,
        negative_prompt_embeds=text, num_inference_steps=steps, output_type="latent",
        callback_on_step_end=note,
    ).frames  # fmt: skip
    sampling, start = peak_memory(DEVICE) / GIB, synchronised()
    pipe.decode_latents(latents)
    return {
        "seconds": (ends[-1] - ends[0]) / (steps - 1), "decoding": synchronised() - start,
        "sampling_gib": sampling,
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(TRAININGS)}, clip")
    parser.add_argument("--record", type=Path, default=ROOT / "data" / "runs" / "full_size.jsonl")
    parser.add_argument("--tiny", action="store_true", help="small models, on any processor")
    args = parser.parse_args()
    if DEVICE.type == "cpu" and not args.tiny:
        print("error: full size needs a GPU, and PyTorch finds none here", file=sys.stderr)
        return 1
    scale = SMALL if args.tiny else FULL_SIZE
    for name in args.names or (*TRAININGS, "clip"):
        torch.manual_seed(0)
        try:
            row = clip(scale) if name == "clip" else training(name, scale)
        except torch.OutOfMemoryError as error:
            print(f"{name}: out of memory: {error}".partition(". ")[0], file=sys.stderr)
            continue
        row |= {"name": name, "peak_gib": peak_memory(DEVICE) / GIB, "date": str(date.today())}
        row = {n: round(v, 3) if isinstance(v, float) else v for n, v in row.items()}
        if not args.tiny:
            row |= {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__}
            with args.record.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, sort_keys=True) + "\n")
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        print(row, f"the planner says {planned_gib(name):.1f} GiB", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
