"""Ship chapter 3's models: copy them into data/models, measure them there, write their cards."""

import json
import shutil
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from vidgen_lab.latte import DDIMSampler, NoiseScheduler, VideoGenerator
from vidgen_lab.metrics.adherence import adherence_of
from vidgen_lab.toyworld import caption
from vidgen_lab.training.toy_data import sample_scenes
from vidgen_lab.training.toy_frame_vae import ToyFrameVAEConfig, frame_psnr, render_frames
from vidgen_lab.training.toy_latte import sample_corner
from vidgen_lab.video.clip import Clip

STEPS, GUIDANCE = 25, 4.0
MEASURED = ("subject", "colour", "motion", "background")
SHEET_CLIPS = 16


def ship_latte(trained: Path, models: Path, prompts: int = 96, clips: int = 40) -> dict:
    """Copy the VAE and the pipeline that are in `trained` into `models`, measure
    both there and write their cards; returns the numbers."""
    vae, pipeline = models / "toy-frame-vae", models / "toy-latte"
    for source, target, part in (
        (trained / "frame-vae" / "vae", vae, "frame-vae"),
        (trained / "latte" / "pipeline", pipeline, "latte"),
    ):
        if not source.is_dir():
            raise FileNotFoundError(
                f"{source} is missing: train it with `vidgen-lab pretrain` first"
            )
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
        (target / "recipe").mkdir()
        for name in ("log.jsonl", "config.json"):
            shutil.copy(trained / part / name, target / "recipe" / name)
    numbers = {"psnr_db": measure_frame_vae(vae, clips)}
    report, made, texts = measure_latte(pipeline, prompts)
    numbers |= report
    for folder in (vae, pipeline):
        (folder / "report.json").write_text(json.dumps(numbers, indent=2) + "\n")
    _write_sheet(made, texts, pipeline / "held_out_prompts.png")
    (vae / "README.md").write_text(vae_card(numbers, vae), "utf-8")
    (pipeline / "README.md").write_text(latte_card(numbers, pipeline), "utf-8")
    return numbers


def measure_frame_vae(folder: Path, clips: int = 40) -> dict[str, float]:
    """Mean PSNR in dB of fresh frames, by frame size."""
    vae = AutoencoderKL.from_pretrained(folder)
    config = ToyFrameVAEConfig()
    stacks = render_frames(sample_scenes(clips, 4242, held_out=None), config)
    means = (float(frame_psnr(vae, stack).mean()) for stack in stacks)
    return {f"{w}x{h}": round(m, 2) for (w, h), m in zip(config.sizes, means, strict=True)}


def measure_latte(folder: Path, prompts: int) -> tuple[dict, list[Clip], list[str]]:
    """Adherence to prompts about compositions never trained on, the clips and their prompts."""
    generator, levels = VideoGenerator.from_diffusers(folder), NoiseScheduler.from_diffusers(folder)
    sampler = DDIMSampler(levels, STEPS, spacing="trailing")
    recipe = json.loads((folder / "recipe" / "config.json").read_text())
    size = {"height": recipe["height"], "width": recipe["width"]}
    rng = np.random.default_rng(4343)
    texts = [caption(s, "minimal", rng) for s in sample_corner(prompts, 4344, held_out=True)]
    clips: list[Clip] = []
    for start in range(0, prompts, 8):
        part = texts[start : start + 8]
        clips += generator(part, sampler, GUIDANCE, seed=start, **size).clips()
    began = time.perf_counter()
    generator(texts[0], sampler, GUIDANCE, seed=0, **size)
    seconds = time.perf_counter() - began
    marks = adherence_of(clips, texts)
    right = {
        name: float(np.mean([m.right[name] for m in marks if name in m.right])) for name in MEASURED
    }
    right["all_right"] = float(np.mean([bool(m.all_right) for m in marks]))
    parts = {
        "latte": generator.model,
        "vae": generator.vae,
        "text_encoder": generator.text_encoder.model,
    }
    counts = {name: sum(p.numel() for p in m.parameters()) for name, m in parts.items()}
    report = {
        "adherence": {"prompts": prompts, **{k: round(v, 4) for k, v in right.items()}},
        "parameters": counts,
        "seconds_per_clip": round(seconds, 2),
        "torch_threads": torch.get_num_threads(),
    }
    return report, clips, texts


def vae_card(numbers: dict, folder: Path) -> str:
    """The card of the per-frame VAE, from measured numbers."""
    config = json.loads((folder / "recipe" / "config.json").read_text())
    rows = "\n".join(f"| {size} | {db:.1f} dB |" for size, db in numbers["psnr_db"].items())
    return f"""# toy-frame-vae

An `AutoencoderKL` of {numbers["parameters"]["vae"] / 1e6:.2f} million parameters for single frames
of the toy world: 4x4 pixels become one latent of {config["latent_channels"]} channels. Every latent
channel has mean 0 and deviation 1 (folded into its 1x1 convolutions), so `scaling_factor` is 1.

```python
from vidgen_lab.latte import FrameVAE

vae = FrameVAE.from_diffusers("data/models/toy-frame-vae")  # or diffusers' AutoencoderKL
latents = vae.encode(clip)  # [B, 3, T, H, W] in -1 .. 1 -> [B, 8, T, H/4, W/4]
```

Quality of fresh frames after a round trip (PSNR):

| frame | mean |
|---|---|
{rows}

Trained for {config["steps"]} steps of {config["batch"]} crops of {config["crop"]}x{config["crop"]}
pixels by `vidgen_lab.training.toy_frame_vae`; settings and log are in `recipe/`. It knows cartoon
frames and nothing else.
"""


def latte_card(numbers: dict, folder: Path) -> str:
    """The card of the toy Latte, from measured numbers."""
    config = json.loads((folder / "recipe" / "config.json").read_text())
    found, parts = numbers["adherence"], numbers["parameters"]
    rows = "\n".join(f"| {name} | {found[name]:.1%} |" for name in (*MEASURED, "all_right"))
    return f"""# toy-latte

A complete text-to-video `LattePipeline` of {sum(parts.values()) / 1e6:.1f} million parameters, for
chapter 3: {config["num_frames"]} frames of {config["width"]}x{config["height"]} at 8 frames per
second. It knows a corner of the toy world: ball, cube, star, heart or ring, in eight colours,
moving left, right, up or down, in eight places, drawn as a cartoon.

```python
from vidgen_lab.latte import DDIMSampler, NoiseScheduler, VideoGenerator

folder = "data/models/toy-latte"
generator = VideoGenerator.from_diffusers(folder)
sampler = DDIMSampler(NoiseScheduler.from_diffusers(folder), {STEPS}, spacing="trailing")
size = {{"height": {config["height"]}, "width": {config["width"]}}}
clip = generator("a red ball moving right over the ocean", sampler, {GUIDANCE:g}, **size).clips()[0]
```

![Held-out prompts, five frames each](held_out_prompts.png)

## What it was measured to do

{found["prompts"]} prompts, each a composition of subject, colour and motion that no training clip
contains; {STEPS} steps, guidance {GUIDANCE:g}, judged by `toy-judge`:

| named attribute | right |
|---|---|
{rows}

One clip took {numbers["seconds_per_clip"]:.1f} s on the machine that wrote this card
({numbers["torch_threads"]} threads). Every number comes from `ship_latte`, which also writes
`report.json`.

## How it was made

- Latte: {parts["latte"] / 1e6:.2f} M parameters, {config["depth"]} blocks of width
  {config["hidden_size"]}, patch {config["patch_size"]}, adaLN-single, text in the spatial blocks,
  learned variance; v-prediction on Latte's linear betas.
- VAE: `toy-frame-vae`, {parts["vae"] / 1e6:.2f} M. Text: a T5 encoder of
  {parts["text_encoder"] / 1e6:.2f} M,
  trained first to tell what a caption names, then frozen.
- {config["clips"]} clips, {config["steps"]} steps of {config["batch"]}; a tenth of the captions
  left empty; Muon and AdamW; EMA. Settings and log: `recipe/`.

## What it cannot do

Anything outside its corner: other subjects, styles, motions. It plays one second.
"""


def _write_sheet(clips: list[Clip], texts: list[str], path: Path) -> None:
    import cv2

    from vidgen_lab.training.toy_report import prompt_sheet

    chosen = np.linspace(0, len(clips) - 1, min(SHEET_CLIPS, len(clips))).round().astype(int)
    sheet = prompt_sheet([texts[i] for i in chosen], [clips[i] for i in chosen])
    ok, packed = cv2.imencode(".png", sheet[..., ::-1])
    if not ok:
        raise OSError(f"cannot encode {path}")
    path.write_bytes(packed.tobytes())
