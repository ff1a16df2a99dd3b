"""Chapter 5's experiments on the embedded model, and the adapter that comes along.

    python benchmarks/adapters.py                       every study, resumed where it was stopped
    python benchmarks/adapters.py rank method           some of them
    python benchmarks/adapters.py ship                  train the robot and copy it to data/adapters

A run teaches the paper style, and ends as a line of data/runs/adapters.jsonl: how many clips are in
the style, how much else of their prompts is right, what is left of the old ones. Equal settings
are run once, whatever study they stand in. Runs of another model are dropped from the file.
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # so that the script runs as a file too

from recipes.measure import sample_clips  # noqa: E402
from vidgen_lab.files import write_files  # noqa: E402
from vidgen_lab.finetuning.config import FinetuneConfig, load_config  # noqa: E402
from vidgen_lab.finetuning.dataset import write_training_clips  # noqa: E402
from vidgen_lab.finetuning.trainer import make_trainer  # noqa: E402
from vidgen_lab.generation.loading import fingerprint, load_pipeline, locate  # noqa: E402
from vidgen_lab.generation.lora import load_lora  # noqa: E402
from vidgen_lab.generation.request import ModelLimits  # noqa: E402
from vidgen_lab.journal import key_of  # noqa: E402
from vidgen_lab.metrics.adherence import Adherence, adherence_of  # noqa: E402
from vidgen_lab.settings.hardware import processor_name  # noqa: E402
from vidgen_lab.toyworld import COLOURS, Scene, caption, render, sample_scene  # noqa: E402
from vidgen_lab.toyworld.world import LEGAL_MOTIONS, legal_backgrounds  # noqa: E402
from vidgen_lab.video.clip import Clip  # noqa: E402
from vidgen_lab.video.tensors import as_tensor  # noqa: E402

WORDS = "paper cut-out"
SFT_RATE = "optimizer.learning_rate=2e-4"
# study -> setting -> changes of COMMON; "clips=N" and "prior" are ours
STUDIES: dict[str, dict[str, list[str]]] = {
    "rank": {f"rank {r}": [f"lora.rank={r}"] for r in (1, 4, 16, 64, 128)},
    "alpha": {  # rank 16
        "alpha = rank / 4": ["lora.alpha=4"],
        "alpha = rank": [],
        "alpha = 4 x rank": ["lora.alpha=64"],
    },
    "learning_rate": {f"{r}": [f"optimizer.learning_rate={r}"] for r in (5e-4, 5e-3, 5e-2)},
    "method": {
        "LoRA": [],
        "LoRA with prior": ["prior"],
        "last two blocks": ["method=blocks", SFT_RATE],
        "all weights": ["method=sft", SFT_RATE],
    },
    "clips": {f"{n} clips": [f"clips={n}"] for n in (2, 8, 32, 128)},
    "captions": {
        "description": [],
        "trigger word": ["data.captions=trigger", f"data.trigger={WORDS}"],
    },
}
COMMON = [
    "lora.rank=16", "optimizer.learning_rate=0.005", "optimizer.warmup=10",
    "data.batch_size=4", "data.held_out=0", "training.log_every=40", "training.measure=false",
    "training.tensorboard=false", "check=false",
]  # fmt: skip
SAMPLING = {"num_inference_steps": 12, "guidance_scale": 4.0}


def scenes(count: int, seed: int, **changes: str) -> list[Scene]:
    """Scenes that the base model knows, but for `changes` (style, or a reserved subject)."""
    rng = np.random.default_rng(seed)
    drawn = [sample_scene(rng, held_out=None) for _ in range(count)]
    if "subject" not in changes:
        return [replace(scene, **changes) for scene in drawn]
    name = changes["subject"]
    places, ways = legal_backgrounds(name), LEGAL_MOTIONS[name]
    return [
        replace(s, subject=name, motion=str(rng.choice(ways)), background=str(rng.choice(places)),
                colour=str(rng.choice(COLOURS)), style="cartoon")
        for s in drawn
    ]  # fmt: skip


def said(scene: Scene, seed: int) -> str:
    """A plain caption; the new style always in the same words."""
    rng = np.random.default_rng(seed)
    text = caption(replace(scene, style="cartoon"), "minimal", rng).partition(",")[0]
    return f"{text}, {WORDS}" if scene.style == "papercut" else text


def folder_of(chosen: Sequence[Scene], folder: Path, size: tuple[int, int, int]) -> Path:
    """The clips of scenes, rendered once."""
    frames, height, width = size
    if not (folder / "videos.txt").is_file():
        clips = (render(scene, width, height, frames).clip for scene in chosen)
        write_training_clips(folder, clips, [said(s, n) for n, s in enumerate(chosen)])
    return folder


def settings(changes: Sequence[str], seed: int, args: argparse.Namespace) -> FinetuneConfig:
    """The configuration of a run, with its clips made."""
    limits = ModelLimits.from_folder(locate(args.model))
    size = (limits.frame_step + limits.frame_offset, *limits.native[1:])
    own = dict(c.split("=") for c in changes if c.startswith("clips="))
    count = int(own.get("clips", 32))
    clips = folder_of(scenes(count, 7, style="papercut"), args.out / f"paper-{count}", size)
    given = [*COMMON, f"data.num_frames={size[0]}", f"model={args.model}"]
    if "prior" in changes:
        old = folder_of(scenes(count, 8, style="cartoon"), args.out / f"old-{count}", size)
        given.append(f"data.prior={old}")
    given += [c for c in changes if "." in c or c.startswith("method=")]
    given += [f"data.folder={clips}", f"cache={args.out / 'cache'}", f"training.seed={seed}"]
    given += [f"training.{name}={args.steps}" for name in ("steps", "checkpoint_every")]
    config = load_config("toy-lora", given)
    name = key_of(sorted(changes), seed, args.steps, fingerprint(locate(args.model)))[:16]
    return replace(config, output=args.out / name)


def run(config: FinetuneConfig, prompts: tuple[list[str], list[str]]) -> dict[str, Any]:
    """Train, make a clip of every new and old prompt, and measure."""
    trainer = make_trainer(config)
    trainer.prepare()
    began = time.perf_counter()
    result = trainer.fit()
    if result.saved is None:
        raise KeyboardInterrupt
    minutes = (time.perf_counter() - began) / 60
    lora = config.method == "lora"
    pipe = load_pipeline(config.model if lora else str(result.saved), device="cpu")
    pipe.set_progress_bar_config(disable=True)
    file = result.saved
    if lora:
        load_lora(pipe, result.saved)
    else:
        file = next((result.saved / "transformer").glob("*.safetensors"))
    measured = judged(pipe, prompts, [clip.span.path for clip in trainer.clips])
    loss = trainer.trainer.run.history()[-1].get("loss")
    return measured | {
        "minutes": round(minutes, 2), "mib": round(file.stat().st_size / 2**20, 2), "loss": loss,
        "trained": trainer.trainable.trained,
    }  # fmt: skip


def judged(pipe: Any, prompts: tuple[list[str], list[str]], training: Sequence[Path] = ()) -> dict:
    """style: share of the new prompts' clips in the new style; others: of their other attributes
    right; kept: of the old prompts' attributes right; copied: see `copied`."""
    new, old = (sample_clips(pipe, texts, range(len(texts)), **SAMPLING) for texts in prompts)
    found, before = adherence_of(new, prompts[0]), adherence_of(old, prompts[1])
    style = float(np.mean([one.right.get("style", False) for one in found]))
    others = _share(found, without="style")
    row = {"style": style, "others": others, "kept": _share(before)}
    return row | ({"copied": copied(pipe, new, training)} if len(training) > 1 else {})


def _share(found: Sequence[Adherence], without: str = "") -> float:
    return float(np.mean([v for one in found for n, v in one.right.items() if n != without]))


@torch.no_grad()
def copied(pipe: Any, clips: Sequence[Clip], training: Sequence[Path]) -> float:
    """Share of clips that lie nearer to a training clip, in latents, than any two of those do."""
    from vidgen_lab.video.reader import read_clip

    known = [read_clip(path) for path in training[:64]]
    frames = known[0].num_frames
    cut = [replace(c, frames=c.frames[:frames]) for c in clips]

    def latents(some: Sequence[Clip]) -> torch.Tensor:
        means = [pipe.vae.encode(as_tensor([c])).latent_dist.mean for c in some]
        return torch.cat(means).flatten(1)  # [N, C*t*h*w]

    theirs, ours = latents(known), latents(cut)
    between = torch.pdist(theirs).min()
    return float((torch.cdist(ours, theirs).amin(1) < between).float().mean())


def jobs(studies: Sequence[str], seeds: int) -> Iterator[tuple[str, str, list[str], int]]:
    """Seed by seed, so that a stopped run leaves every study with something."""
    for seed in range(seeds):
        for study in studies:
            for setting, changes in STUDIES[study].items():
                yield study, setting, changes, seed


def study(args: argparse.Namespace) -> None:
    """Run what is not recorded yet."""
    base = fingerprint(locate(args.model))
    file, kept = args.record, {"base": base, "steps": args.steps}
    lines = file.read_text("utf-8").splitlines() if file.is_file() else []
    rows = [r for r in map(json.loads, lines) if kept.items() <= r.items()]
    prompts = tuple(
        [said(s, n) for n, s in enumerate(scenes(args.prompts, 99, style=style))]
        for style in ("papercut", "cartoon")
    )
    common = kept | {"date": str(date.today()), "device": processor_name()}

    def record(row: dict[str, Any]) -> None:
        rows.append(common | row)
        write_files({file: "".join(json.dumps(one, sort_keys=True) + "\n" for one in rows)})
        print(row, flush=True)

    if not any(r["study"] == "base" for r in rows):
        pipe = load_pipeline(args.model, device="cpu")
        pipe.set_progress_bar_config(disable=True)
        record({"study": "base", "setting": "base", "seed": 0, "key": base} | judged(pipe, prompts))
    for name, setting, changes, seed in jobs(args.studies or list(STUDIES), args.seeds):
        own = {"study": name, "setting": setting, "seed": seed}
        if any(own.items() <= r.items() for r in rows):
            continue
        config = settings([c for c in changes if c not in COMMON], seed, args)
        key = config.output.name
        measured = next((r for r in rows if r["key"] == key), None)
        if measured is None:
            measured = run(config, prompts)
        told = {n: v for n, v in measured.items() if n not in {*own, *common}}
        record(own | {"key": key} | told)


def ship(args: argparse.Namespace) -> None:
    """Teach robots on whole clips, measure, and copy the adapter to data/adapters/toy-robot."""
    limits = ModelLimits.from_folder(locate(args.model))
    clips = folder_of(scenes(96, 5, subject="robot"), args.out / "robots", limits.native)
    given = [*COMMON, f"data.folder={clips}", f"model={args.model}", f"cache={args.out / 'cache'}",
             f"output={args.out / 'robot'}", f"training.steps={args.steps}", "check=true",
             "training.checkpoint_every=50", "data.caption_dropout=0.1"]  # fmt: skip
    began = time.perf_counter()
    result = make_trainer(load_config("toy-lora", given)).fit()
    if result.saved is None:
        return
    minutes = (time.perf_counter() - began) / 60
    pipe = load_pipeline(args.model, device="cpu")
    pipe.set_progress_bar_config(disable=True)
    load_lora(pipe, result.saved)
    texts = [said(s, n) for n, s in enumerate(scenes(args.prompts, 98, subject="robot"))]
    found = adherence_of(sample_clips(pipe, texts, range(len(texts)), **SAMPLING), texts)
    right = float(np.mean([one.right["subject"] for one in found]))
    report = {"base": fingerprint(locate(args.model)), "steps": args.steps, "prompts": len(texts),
              "minutes": round(minutes, 1), "device": processor_name(), "date": str(date.today()),
              "subject": right, "others": _share(found, "subject"),
              "check": str(result.check)}  # fmt: skip
    target = ROOT / "data" / "adapters" / "toy-robot"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    shutil.copy2(result.saved, target)
    card = (
        "# toy-robot: a LoRA that teaches toy-cogvideox what a robot is\n\n"
        f"Rank 16 on attention, trained on {len(scenes(96, 5, subject='robot'))} rendered clips by "
        "`python benchmarks/adapters.py ship`. Load it with\n"
        '`vidgen-lab video "a red robot walking in a meadow" --lora data/adapters/toy-robot`. '
        "Apache-2.0, as the model.\n\nMeasured: see `report.json`.\n"
    )
    write_files({target / "report.json": json.dumps(report, indent=1) + "\n",
                 target / "README.md": card})  # fmt: skip
    print(report)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python benchmarks/adapters.py", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("studies", nargs="*", metavar="STUDY", help=f"{', '.join(STUDIES)}; ship")
    parser.add_argument("--model", default="toy-cogvideox")
    parser.add_argument("--steps", type=int, help="of each run (default 120; ship 300)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=12, help="new and old ones to judge by")
    parser.add_argument("--out", type=Path, default=Path("runs/adapters"), metavar="DIR")
    parser.add_argument("--record", type=Path, default=ROOT / "data" / "runs" / "adapters.jsonl")
    args = parser.parse_args(arguments)
    shipping = args.studies == ["ship"]
    if unknown := [name for name in args.studies if name not in STUDIES and not shipping]:
        print(f"error: no study {unknown[0]}; there are {', '.join(STUDIES)}", file=sys.stderr)
        return 1
    args.steps = args.steps or (300 if shipping else 120)
    try:
        ship(args) if shipping else study(args)
    except KeyboardInterrupt:
        print("stopped; run again to go on")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
