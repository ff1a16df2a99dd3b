"""Ship trained toy models: copy them into data/models, measure them there, write their cards."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from vidgen_lab.toyworld import ATTRIBUTES
from vidgen_lab.training.toy_data import render_clips, sample_scenes
from vidgen_lab.training.toy_judge import judge_accuracy
from vidgen_lab.training.toy_report import confusion, measure, prompt_sheet
from vidgen_lab.training.toy_vae import reconstruct
from vidgen_lab.video.tensors import to_pixels

SHEET_CLIPS = 24


def ship(trained: Path, models: Path, prompts: int = 200) -> dict:
    """Copy pipeline and judge from `trained` into `models`, measure both, write the cards.

    `trained`/notes.md may tell, as a list, what the settings do not: it becomes part of the card.
    """
    pipeline, judge = models / "toy-cogvideox", models / "toy-judge"
    _copy(trained / "transformer" / "pipeline", pipeline)
    _copy(trained / "judge" / "judge", judge)
    sources = {"vae": pipeline, "text": pipeline, "transformer": pipeline, "judge": judge}
    for part, folder in sources.items():
        for name in ("log.jsonl", "config.json"):
            target = folder / "recipe" / f"{part}_{name}"
            target.parent.mkdir(exist_ok=True)
            shutil.copy(trained / part / name, target)
    if (trained / "notes.md").exists():
        shutil.copy(trained / "notes.md", pipeline / "recipe" / "notes.md")
    numbers, table, clips = measure(pipeline, judge, prompts)
    numbers["judge_accuracy"] = judge_accuracy(judge)
    table.to_csv(pipeline / "adherence.csv", index=False)
    (pipeline / "report.json").write_text(json.dumps(numbers, indent=2))
    chosen = np.linspace(0, len(clips) - 1, SHEET_CLIPS).round().astype(int)
    _write_png(
        prompt_sheet([table.prompt[i] for i in chosen], [clips[i] for i in chosen]),
        pipeline / "held_out_prompts.png",
    )
    _write_png(_reconstruction_sheet(pipeline / "vae"), pipeline / "vae_reconstructions.png")
    (pipeline / "README.md").write_text(pipeline_card(numbers, pipeline / "recipe"), "utf-8")
    (judge / "README.md").write_text(judge_card(numbers, table), "utf-8")
    return numbers


def pipeline_card(numbers: dict, recipe: Path) -> str:
    """The model card of the embedded text-to-video model, from measured numbers."""
    adherence, vae = numbers["adherence"], numbers["vae_psnr_db"]
    parts = numbers["parameters"]
    config = {
        part: json.loads((recipe / f"{part}_config.json").read_text())
        for part in ("vae", "text", "transformer")
    }
    training = config["transformer"]
    dense = training["dense_steps"]
    rows = "\n".join(f"| {name} | {adherence[name]:.1%} |" for name in (*ATTRIBUTES, "all_right"))
    weak = sorted(ATTRIBUTES, key=adherence.get)[:2]
    notes = (recipe / "notes.md").read_text("utf-8") if (recipe / "notes.md").exists() else ""
    return f"""# toy-cogvideox

A complete `CogVideoXPipeline` of {sum(parts.values()) / 1e6:.1f} million parameters that turns a
sentence about the toy world into 17 frames of 96x64 at 8 frames per second, on any laptop.

```python
from diffusers import CogVideoXPipeline

pipe = CogVideoXPipeline.from_pretrained("data/models/toy-cogvideox")
video = pipe(
    "a red ball bouncing over the ocean", num_inference_steps=25, max_sequence_length=32
).frames[0]
```

![24 held-out prompts, five frames each](held_out_prompts.png)

## What it was measured to do

{adherence["prompts"]} held-out prompts, a quarter of them compositions of subject, colour and
motion that no training clip contains; 25 steps, guidance 6, judged by `toy-judge`:

| named attribute | right |
|---|---|
{rows}
| all right, unseen compositions only | {adherence["all_right_unseen"]:.1%} |

- VAE reconstruction of fresh renders: {vae["mean"]:.1f} dB PSNR on average, worst
  {vae["worst"]:.1f} dB ([samples](vae_reconstructions.png)); {vae["still"]:.1f} dB where nothing
  moves, {vae["moving"]:.1f} dB where something does.
- One clip, sampling and decoding: {numbers["seconds_per_clip"]:.1f} s on the machine that wrote
  this card.

Every number above comes from `vidgen-lab pretrain ship`, which also writes `report.json` and the
table of all prompts, `adherence.csv`.

## How it was made

- Data: {training["clips"]} clips rendered by `vidgen_lab.toyworld`, captions in three
  registers; a tenth of all compositions held out.
- VAE: `AutoencoderKLCogVideoX`, {parts["vae"] / 1e6:.2f} M parameters, 4x4 in space, 4x in time,
  {config["vae"]["latent_channels"]} channels; single frames first, then short crops, then whole
  clips.
- Transformer: `CogVideoXTransformer3DModel` in the layout of CogVideoX-2B,
  {parts["transformer"] / 1e6:.2f} M parameters; v-prediction with CogVideoX-2B's schedule;
  {training["steps"] - dense} steps of {training["batch"]} clips on a random
  {training["keep"]:.0%} of the tokens, then {dense} steps of {training["dense_batch"]} clips
  on all of them; an error where the subject is counts {training["subject_weight"]:g} times; Muon
  and AdamW; EMA.
- Text: a T5 encoder of {parts["text_encoder"] / 1e6:.2f} M parameters, trained first to tell at
  every token what a caption names, then frozen; one token a word, at most 32; a tenth of the
  captions left empty for guidance.
{notes}- Logs and settings of every stage: `recipe/`. Again: `vidgen-lab pretrain all`.

## What it cannot do

It knows the toy world and nothing else: a word outside its vocabulary is ignored. One subject a
clip. Fast bodies drag a trail: the VAE of CogVideoX averages pairs of frames, twice, and this small
one unfolds them poorly. Other sizes and lengths than 96x64x17 run, but were never trained. Its
weakest attributes are {weak[0]} and {weak[1]}; see the table.
"""


def judge_card(numbers: dict, table: pd.DataFrame) -> str:
    """The judge's model card with its accuracy and what it sees in generated clips."""
    rows = "\n".join(f"| {n} | {v:.1%} |" for n, v in numbers["judge_accuracy"].items())
    blocks = "\n\n".join(
        f"### {name}\n\n```\n{confusion(table, name).to_string()}\n```" for name in ATTRIBUTES
    )
    return f"""# toy-judge

A small classifier that reads subject, colour, motion, background and style off a clip. It is the
measuring instrument behind `vidgen_lab.metrics.adherence.prompt_adherence`.

## Accuracy on fresh renders

| attribute | right |
|---|---|
{rows}

A colour counts only where it can be seen; black-and-white clips have none.

## What it sees in clips of toy-cogvideox

Rows: what the prompt named. Columns: what the judge saw. An error here is the generator's or the
judge's; the [sheet of clips](../toy-cogvideox/held_out_prompts.png) lets you judge the judge.

{blocks}
"""


def _reconstruction_sheet(vae_folder: Path) -> np.ndarray:
    """Six fresh clips, each above its reconstruction, four moments each."""
    from diffusers import AutoencoderKLCogVideoX

    vae = AutoencoderKLCogVideoX.from_pretrained(vae_folder).float()
    clips = render_clips(sample_scenes(6, 77, held_out=None), 96, 64, 17)
    rows = [
        np.hstack([video[:, t].permute(1, 2, 0).numpy() for t in (0, 5, 11, 16)])
        for pair in zip(clips, to_pixels(reconstruct(vae, clips)), strict=True)
        for video in pair
    ]
    return cv2.resize(np.vstack(rows), None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)


def _write_png(image: np.ndarray, path: Path) -> None:
    cv2.imwrite(str(path), image[..., ::-1])


def _copy(source: Path, target: Path) -> None:
    if not source.is_dir():
        raise FileNotFoundError(f"{source} is missing: train it with `vidgen-lab pretrain` first")
    if target.exists():
        shutil.rmtree(target)
    shutil.copytree(source, target)
