"""Chapter 5's experiments on the embedded model, and the adapter that comes along.

    python benchmarks/adapters.py                       every study, resumed where it was stopped
    python benchmarks/adapters.py rank method           some of them
    python benchmarks/adapters.py --seeds 0             ... with one seed: two such commands, with
                                                        other seeds, may run side by side
    python benchmarks/adapters.py ship [toy-paper]      train what comes along in data/adapters

A run teaches the paper style, and ends as a line of data/runs/adapters.jsonl: how many clips are in
the style, how much else of their prompts is right, what is left of the old ones. In "image" a run
teaches to begin with a given picture. Equal settings are run once, whatever study they stand in.
Runs of another model are dropped from the file.
"""

import argparse
import inspect
import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # so that the script runs as a file too

from recipes.measure import sample_clips  # noqa: E402
from vidgen_lab.files import write_files  # noqa: E402
from vidgen_lab.finetuning.config import FinetuneConfig, load_config  # noqa: E402
from vidgen_lab.finetuning.lora import widen  # noqa: E402
from vidgen_lab.finetuning.trainer import CogVideoTrainer, FinetuneResult  # noqa: E402
from vidgen_lab.generation.generate import generate, generate_from_image  # noqa: E402
from vidgen_lab.generation.loading import fingerprint, load_pipeline, locate  # noqa: E402
from vidgen_lab.generation.lora import load_lora  # noqa: E402
from vidgen_lab.generation.request import GenerationRequest, ModelLimits  # noqa: E402
from vidgen_lab.journal import key_of  # noqa: E402
from vidgen_lab.metrics.adherence import Adherence, adherence_of  # noqa: E402
from vidgen_lab.settings.hardware import processor_name  # noqa: E402
from vidgen_lab.toyworld import COLOURS, Scene, caption, render, sample_scene  # noqa: E402
from vidgen_lab.toyworld.world import LEGAL_MOTIONS, legal_backgrounds  # noqa: E402
from vidgen_lab.video.clip import Clip  # noqa: E402
from vidgen_lab.video.tensors import as_tensor  # noqa: E402
from vidgen_lab.video.writer import write_clip  # noqa: E402

WORDS = "paper cut-out"
SFT_RATE = "optimizer.learning_rate=2e-4"
# changes of what is trained on; the others are settings
OURS = ("clips=", "whole", "hurried", "prior", "image")
# outlines of their own, of a body or of paper, are drawn too round by attention alone
EVERYWHERE = "lora.targets=[to_q,to_k,to_v,to_out.0,ff.net.0.proj,ff.net.2]"
CHAPTER = [
    "clips=256", "whole", EVERYWHERE, "training.precision=auto",
    "optimizer.learning_rate=0.004", "training.steps=400",
]  # fmt: skip
OPENINGS = ["clips=256", "optimizer.learning_rate=0.002", "training.steps=600"]
# study -> setting -> changes of COMMON
STUDIES: dict[str, dict[str, list[str]]] = {
    "chapter": {"as above": CHAPTER},
    "tempo": {
        "cut from whole clips": OPENINGS,
        "whole motions, hurried": [*OPENINGS, "hurried"],
        "whole clips": CHAPTER,
    },
    "rank": {f"rank {r}": [f"lora.rank={r}"] for r in (1, 4, 16, 64, 128)},
    "method": {
        "LoRA": [],
        "LoRA with prior": ["prior"],
        "last two blocks": ["method=blocks", SFT_RATE],
        "all weights": ["method=sft", SFT_RATE],
    },
    "clips": {f"{n} clips": [f"clips={n}"] for n in (2, 8, 64, 256)},
    "learning_rate": {f"{r}": [f"optimizer.learning_rate={r}"] for r in (4e-4, 2e-3, 1e-2)},
    "alpha": {  # rank 16
        "alpha = rank / 4": ["lora.alpha=4"],
        "alpha = rank": [],
        "alpha = 4 x rank": ["lora.alpha=64"],
    },
    "captions": {
        "description": [],
        "trigger word": ["data.captions=trigger", f"data.trigger={WORDS}"],
    },
    "image": {"LoRA": ["image"], "LoRA and input layer": ["image", "input_layer=true"]},
}
COMMON = [
    "lora.rank=16", "lora.targets=[to_q,to_k,to_v,to_out.0]", "training.precision=no",
    "optimizer.learning_rate=0.002", "optimizer.warmup=10",
    "data.batch_size=4", "training.log_every=50", "training.measure=false",
    "training.tensorboard=false", "check=false",
]  # fmt: skip
CLIPS, HELD_OUT = 64, 8
SAMPLING = {"num_inference_steps": 12, "guidance_scale": 6.0}  # of all runs that are recorded


@dataclass(frozen=True)
class Shipped:
    """An adapter that comes along. It learns whole clips: of a jump, the beginning is not enough.

    learns: what its scenes have that the base model does not know. what: the same in words.
    """

    learns: dict[str, str]
    what: str
    clips: int
    steps: int
    settings: list[str]
    prompt: str


SHIPPED = {
    "toy-robot": Shipped(
        {"subject": "robot"}, "what a robot is", 256, 900, ["lora.rank=12", EVERYWHERE],
        "a red robot walking in a meadow",
    ),
    "toy-paper": Shipped(
        {"style": "papercut"}, "to cut things out of paper", 1024, 2000,
        [EVERYWHERE, "optimizer.learning_rate=0.003"],
        f"a yellow car driving right in a city, {WORDS}",
    ),
}  # fmt: skip


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


def folder_of(
    chosen: Sequence[Scene], folder: Path, limits: ModelLimits, count: int, hurried: bool = False
) -> Path:
    """The first `count` frames of the clips of scenes, rendered once, in the model's own tempo;
    hurried: the whole motion in so many frames."""
    frames, height, width = limits.native
    if not (folder / "videos.txt").is_file():
        rendered = count if hurried else frames
        whole = (render(scene, width, height, rendered).clip for scene in chosen)
        clips = (replace(clip, frames=clip.frames[:count]) for clip in whole)
        (folder / "videos").mkdir(parents=True, exist_ok=True)
        names = [f"videos/{n:05d}.mp4" for n in range(len(chosen))]
        for name, clip in zip(names, clips, strict=True):
            write_clip(clip, folder / name)
        lists = {"prompts.txt": [said(s, n) for n, s in enumerate(chosen)], "videos.txt": names}
        write_files({folder / n: "".join(f"{x}\n" for x in rows) for n, rows in lists.items()})
    return folder


def make_image_to_video(model: Path, out: Path) -> None:
    """The same model, widened to read a first frame: what both runs of "image" begin with."""
    from diffusers import CogVideoXImageToVideoPipeline, CogVideoXPipeline

    pipe = CogVideoXPipeline.from_pretrained(model)
    widen(pipe.transformer)
    CogVideoXImageToVideoPipeline(**pipe.components).save_pretrained(out)


def settings(changes: Sequence[str], seed: int, args: argparse.Namespace) -> FinetuneConfig:
    """The configuration of a run, with its clips made."""
    base = fingerprint(locate(args.model))
    limits = ModelLimits.from_folder(locate(args.model))
    short = limits.frame_step + limits.frame_offset
    frames = limits.native[0] if "whole" in changes else short
    count = next((int(c[6:]) for c in changes if c.startswith("clips=")), CLIPS)

    def folder(style: str) -> Path:
        chosen = scenes(count, 7, style=style) + scenes(HELD_OUT, 70, style=style)
        hurried = "hurried" in changes
        name = f"{style}-{count}-{frames}{'-hurried' if hurried else ''}"
        return folder_of(chosen, args.out / name, limits, frames, hurried)

    given = [*COMMON, f"data.num_frames={frames}", f"model={args.model}"]
    given += [f"data.folder={folder('cartoon' if 'image' in changes else 'papercut')}"]
    if "prior" in changes:
        given.append(f"data.prior={folder('cartoon')}")
    if "image" in changes:
        wide = args.out / f"image-to-video-{base[:8]}"
        if not (wide / "model_index.json").is_file():
            make_image_to_video(locate(args.model), wide)
        given.append(f"model={wide}")
    given += [f"data.held_out={HELD_OUT}", f"cache={args.out / 'cache'}", f"training.seed={seed}"]
    every = "steps", "checkpoint_every", "validate_every"
    given += [f"training.{name}={args.steps}" for name in every]
    given += [c for c in changes if not c.startswith(OURS)]
    config = load_config("toy-lora", given)
    name = key_of(sorted(changes), seed, args.steps, base)[:16]
    return replace(config, output=args.out / name)


def trained(config: FinetuneConfig) -> tuple[CogVideoTrainer, FinetuneResult, dict[str, Any]]:
    """Train, and say what it took; minutes are the processor's, whatever else it does meanwhile."""
    trainer = CogVideoTrainer(config)
    trainer.prepare()
    began = time.process_time()
    result = trainer.fit()
    if result.saved is None:
        raise KeyboardInterrupt
    minutes = (time.process_time() - began) / 60
    file = result.saved
    if file.is_dir():
        file = next((file / "transformer").glob("*.safetensors"))
    losses = [row["held_out"] for row in trainer.trainer.run.history() if "held_out" in row]
    facts = {
        "minutes": round(minutes, 2), "mib": round(file.stat().st_size / 2**20, 2),
        "held_out": losses[-1] if losses else None, "trained": trainer.trainable.trained,
    }  # fmt: skip
    return trainer, result, facts


def run(config: FinetuneConfig, asked: Sequence[list[Scene]]) -> dict[str, Any]:
    """Train, make a clip of every new and old scene, and measure."""
    trainer, result, facts = trained(config)
    if trainer.spec.image_to_video:
        from diffusers import CogVideoXImageToVideoPipeline

        model = config.output / "pipeline" if config.input_layer else config.model
        pipe = CogVideoXImageToVideoPipeline.from_pretrained(model)
        pipe.load_lora_weights(result.saved.parent, weight_name=result.saved.name)
        pipe.set_progress_bar_config(disable=True)
        return facts | {"first_frame": picture_kept(pipe, asked[1])}
    lora = config.method == "lora"
    pipe = quiet(config.model if lora else result.saved)
    if lora:
        load_lora(pipe, result.saved)
    cache = trainer.latents
    theirs = torch.stack([cache.moments(cache.key(clip.span))[0] for clip in trainer.clips])
    return facts | judged(pipe, asked, theirs.float(), trainer.config.data.num_frames)


def quiet(model: str | Path) -> Any:
    pipe = load_pipeline(str(model), device="cpu")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def picture_kept(pipe: Any, asked: Sequence[Scene]) -> float:
    """PSNR in dB of the first frames of clips against the first frames of renders of their scenes,
    which the pipeline is given if it takes a picture."""
    frames, height, width = ModelLimits.from_pipe(pipe).native
    size = {"num_frames": frames, "height": height, "width": width}
    decibels = []
    for n, scene in enumerate(asked):
        picture = render(scene, width, height, frames).clip.frames[0]  # [H, W, 3]
        request = GenerationRequest(said(scene, n), seed=n, **size, **SAMPLING)
        if "image" in inspect.signature(pipe).parameters:
            clip = generate_from_image(pipe, Image.fromarray(picture), request)
        else:
            clip = generate(pipe, request).clip
        decibels.append(peak_signal_noise_ratio(picture, clip.frames[0]))
    return float(np.mean(decibels))


def judged(
    pipe: Any, asked: Sequence[list[Scene]], theirs: torch.Tensor | None = None, frames: int = 0
) -> dict[str, float]:
    """style: share of the new scenes' clips in the new style; others: of their other attributes
    right; kept: of the old scenes' attributes right; copied: see `copied`."""
    prompts = [[said(scene, n) for n, scene in enumerate(some)] for some in asked]
    new, old = (sample_clips(pipe, texts, range(len(texts)), **SAMPLING) for texts in prompts)
    found, before = adherence_of(new, prompts[0]), adherence_of(old, prompts[1])
    style = float(np.mean([one.right.get("style", False) for one in found]))
    others = _share(found, without="style")
    row = {"style": style, "others": others, "kept": _share(before)}
    return row if theirs is None else row | {"copied": copied(pipe, new, theirs, frames)}


def _share(found: Sequence[Adherence], without: str = "") -> float:
    return float(np.mean([v for one in found for n, v in one.right.items() if n != without]))


@torch.no_grad()
def copied(pipe: Any, clips: Sequence[Clip], theirs: torch.Tensor, frames: int) -> float:
    """Share of clips that lie nearer to a training clip, in latents, than any two of those do.

    theirs: the training clips' latents of `frames` frames, [N, C, t, h, w], unscaled.
    """
    cut = [replace(clip, frames=clip.frames[:frames]) for clip in clips]
    ours = torch.cat([pipe.vae.encode(as_tensor([clip])).latent_dist.mean for clip in cut])
    theirs, ours = theirs.flatten(1), ours.flatten(1)  # [N, C*t*h*w], [M, ...]
    between = torch.pdist(theirs).min()
    return float((torch.cdist(ours, theirs).amin(1) < between).float().mean())


def jobs(studies: Sequence[str], seeds: Sequence[int]) -> Iterator[tuple[str, str, list[str], int]]:
    """Seed by seed, so that a stopped run leaves every study with something."""
    for seed in seeds:
        for study in studies:
            for setting, changes in STUDIES[study].items():
                yield study, setting, changes, seed


def study(args: argparse.Namespace) -> None:
    """Run what is not recorded yet. The file is only ever added to, a line a run."""
    base = fingerprint(locate(args.model))
    kept = {"base": base, "steps": args.steps, "prompts": args.prompts}
    common = kept | {"date": str(date.today()), "device": processor_name()}
    asked = [scenes(args.prompts, 99, style=style) for style in ("papercut", "cartoon")]

    def recorded() -> list[dict[str, Any]]:
        lines = args.record.read_text("utf-8").splitlines() if args.record.is_file() else []
        return [row for row in map(json.loads, lines) if kept.items() <= row.items()]

    def record(row: dict[str, Any]) -> None:
        with args.record.open("a", encoding="utf-8") as file:
            file.write(json.dumps(common | row, sort_keys=True) + "\n")
        print(row, flush=True)

    args.record.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row, sort_keys=True) + "\n" for row in recorded())
    write_files({args.record: lines})
    first = {"study": "base", "setting": "base", "seed": 0, "key": base}
    if 0 in args.seeds and not any(row["study"] == "base" for row in recorded()):
        pipe = quiet(args.model)
        record(first | judged(pipe, asked) | {"first_frame": picture_kept(pipe, asked[1])})
    for name, setting, changes, seed in jobs(args.studies or list(STUDIES), args.seeds):
        own, rows = {"study": name, "setting": setting, "seed": seed}, recorded()
        if any(own.items() <= row.items() for row in rows):
            continue
        began = time.perf_counter()
        plain = {*COMMON, f"clips={CLIPS}"}
        config = settings([c for c in changes if c not in plain], seed, args)
        key = config.output.name
        measured = next((row for row in rows if row["key"] == key), None)
        if measured is None:
            measured = run(config, asked)
            measured["in_all"] = round((time.perf_counter() - began) / 60, 2)  # minutes
        told = {n: v for n, v in measured.items() if n not in {*own, *common}}
        record(own | {"key": key} | told)


def ship(name: str, args: argparse.Namespace) -> None:
    """Teach a model what an adapter is for, measure, and copy it to data/adapters."""
    base, own = fingerprint(locate(args.model)), SHIPPED[name]
    limits = ModelLimits.from_folder(locate(args.model))
    frames, steps = limits.native[0], args.steps or own.steps
    folder = args.out / f"{name}-{own.clips}-{frames}"
    clips = folder_of(scenes(own.clips, 5, **own.learns), folder, limits, frames)
    output = args.out / f"{name}-{base[:8]}-{steps}"
    given = [*COMMON, *own.settings, f"data.folder={clips}", f"data.num_frames={frames}",
             f"model={args.model}", f"cache={args.out / 'cache'}", f"output={output}",
             f"training.steps={steps}", "training.precision=auto", "check=true"]  # fmt: skip
    _, result, facts = trained(load_config("toy-lora", given))
    pipe, count = quiet(args.model), args.prompts or 24
    load_lora(pipe, result.saved)
    found, kept = (
        adherence_of(sample_clips(pipe, texts, range(len(texts)), **SAMPLING), texts)
        for texts in (
            [said(scene, n) for n, scene in enumerate(scenes(count, 98, **changes))]
            for changes in (own.learns, {"style": "cartoon"})
        )
    )
    learnt = next(iter(own.learns))
    report = {"base": base, "steps": steps, "prompts": count,
              "device": processor_name(), "date": str(date.today()), "check": str(result.check),
              learnt: float(np.mean([one.right.get(learnt, False) for one in found])),
              "others": _share(found, learnt), "kept": _share(kept)} | facts  # fmt: skip
    target = ROOT / "data" / "adapters" / name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    shutil.copy2(result.saved, target)
    card = (
        f"# {name}: a LoRA that teaches toy-cogvideox {own.what}\n\n"
        f"Trained for {steps:,} steps on {own.clips:,} rendered clips by\n"
        f"`python benchmarks/adapters.py ship {name}`. Load it with\n"
        f'`vidgen-lab video "{own.prompt}" --lora data/adapters/{name}`.\n'
        "Apache-2.0, as the model.\n\n"
        f"Of {count} new prompts the judge sees the {learnt} in {report[learnt]:.0%} and "
        f"{report['others']:.0%} of all else\nright; of the old prompts' attributes it sees "
        f"{report['kept']:.0%}. The training took\n"
        f"{facts['minutes']:.0f} minutes of a processor; all numbers are in `report.json`.\n"
    )
    write_files({target / "report.json": json.dumps(report, indent=1) + "\n",
                 target / "README.md": card})  # fmt: skip
    print(report)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python benchmarks/adapters.py", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    known = f"{', '.join(STUDIES)}; ship {', '.join(SHIPPED)}"
    parser.add_argument("studies", nargs="*", metavar="STUDY", help=known)
    parser.add_argument("--model", default="toy-cogvideox")
    parser.add_argument("--steps", type=int, help="of each run (default 150; ship: of an adapter)")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2], metavar="SEED")
    parser.add_argument("--prompts", type=int, help="new and old ones (default 10; ship 24)")
    parser.add_argument("--out", type=Path, default=Path("runs/adapters"), metavar="DIR")
    parser.add_argument("--record", type=Path, default=ROOT / "data" / "runs" / "adapters.jsonl")
    args = parser.parse_args(arguments)
    shipping = args.studies[:1] == ["ship"]
    names, choice = args.studies[shipping:], SHIPPED if shipping else STUDIES
    if unknown := [name for name in names if name not in choice]:
        kind = "adapter" if shipping else "study"
        print(f"error: no {kind} {unknown[0]}; there are {', '.join(choice)}", file=sys.stderr)
        return 1
    try:
        if not shipping:
            args.steps, args.prompts = args.steps or 150, args.prompts or 10
            study(args)
        for name in (names or SHIPPED) if shipping else ():
            ship(name, args)
    except KeyboardInterrupt:
        print("stopped; run again to go on")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
