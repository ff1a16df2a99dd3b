"""``vidgen-lab``: the package from the command line, one screen per command.

A command is a line in COMMANDS: what `--help` says, and two functions, one that adds the arguments
and one that does the work. Libraries are loaded only by the command that runs.
"""

import argparse
import importlib
import io
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

Arguments = Callable[[argparse.ArgumentParser], None]
Run = Callable[[argparse.Namespace], int | None]


@dataclass(frozen=True)
class Command:
    """One subcommand; `run` returns an exit code, None meaning 0."""

    name: str
    help: str
    example: str
    arguments: Arguments
    run: Run


class UsageError(ValueError):
    """The command was used wrongly: exit code 2."""


def _elsewhere(
    module: str, arguments: str = "add_arguments", run: str = "run"
) -> tuple[Arguments, Run]:
    """Take two functions from another module, imported only when the command runs."""

    def load(name: str) -> Callable[[Any], Any]:
        return lambda given: getattr(importlib.import_module(module), name)(given)

    return load(arguments), load(run)


# video -----------------------------------------------------------------------------------------


def _video_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", nargs="?", metavar="PROMPT", help="what the video shows")
    parser.add_argument("--out", type=Path, metavar="FILE", help="MP4 to write")
    parser.add_argument(
        "--recipe", type=Path, metavar="FILE", help="repeat a clip from the JSON written beside it"
    )
    parser.add_argument("--tier", help="hardware settings (default: auto; see vidgen-lab tiers)")
    parser.add_argument("--model", help="folder, embedded name or hub id instead of the tier's")
    parser.add_argument(
        "--download", action="store_true", help="fetch weights that are not on this machine"
    )
    parser.add_argument("--negative-prompt", metavar="TEXT", help="what to steer away from")
    for flag, dest, kind, text in (
        ("--seed", "seed", int, "same seed, same clip"),
        ("--steps", "num_inference_steps", int, "denoising steps"),
        ("--guidance", "guidance_scale", float, "weight of the text; 1 switches guidance off"),
        ("--frames", "num_frames", int, "number of frames, 8N+1"),
        ("--height", "height", int, "pixels, a multiple of 8 or 16 as the model needs"),
        ("--width", "width", int, "pixels, a multiple of 8 or 16 as the model needs"),
    ):
        parser.add_argument(flag, dest=dest, type=kind, metavar="N", help=text)
    parser.add_argument(
        "--lora", type=Path, action="append", default=[], metavar="FILE",
        help="adapt the model with a LoRA file; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--lora-scale", type=float, action="append", default=[], metavar="S",
        help="strength of each LoRA file, in their order (default 1; 0 is the model without)",
    )  # fmt: skip


def _video(args: argparse.Namespace) -> int | None:
    from vidgen_lab.generation.generate import generate
    from vidgen_lab.generation.loading import load_pipeline
    from vidgen_lab.generation.lora import load_lora, load_recorded
    from vidgen_lab.generation.recipe import (
        check_output,
        free_name,
        read_recipe,
        recipe_path,
        reproduce,
        save_generation,
    )
    from vidgen_lab.generation.request import GenerationRequest, request_of, validate_request
    from vidgen_lab.progress import Progress
    from vidgen_lab.settings.tiers import resolve_tier

    names = ("prompt", "negative_prompt", "seed", "num_inference_steps", "guidance_scale")
    names += ("num_frames", "height", "width", "model")
    changes = {n: getattr(args, n) for n in names if getattr(args, n) is not None}
    if args.prompt is None and args.recipe is None:
        raise UsageError("say what the video shows, or repeat one with --recipe FILE")
    if args.lora_scale and len(args.lora_scale) != len(args.lora):
        raise UsageError("give --lora-scale once for every --lora")

    repeat = args.recipe and not changes and not args.tier and not args.lora
    if not repeat:
        choice = resolve_tier(args.tier or "auto")
        print(choice.describe())
    recipe = read_recipe(args.recipe) if args.recipe else {}
    if recipe:
        request = request_of(recipe).with_(**changes)
    else:
        request = GenerationRequest.for_tier(choice.tier, **changes)
    out = check_output(args.out or free_name(_name_of(request.prompt)))
    keep = not out.exists()  # what another process puts there meanwhile stays
    pipe = None
    if not repeat:
        pipe = load_pipeline(request.model, tier=choice.tier, download=args.download)
    if pipe:
        validate_request(request, pipe)
        if args.lora:
            load_lora(pipe, *args.lora, scales=tuple(args.lora_scale))
        else:
            load_recorded(pipe, recipe.get("lora", []))

    with Progress(request.num_inference_steps, "Denoising") as progress:

        def on_step(_: Any) -> None:
            progress.update()

        if repeat:
            made = reproduce(args.recipe, download=args.download, on_step=on_step)
        else:
            made = generate(pipe, request, on_step=on_step)
    out = save_generation(made, out, keep=keep)
    print(f"Video   {out}\nRecipe  {recipe_path(out)}")
    return None


def _name_of(prompt: str) -> str:
    """A file name in the words of the prompt."""
    words = "".join(c if c.isalnum() else " " for c in prompt.lower()).split()
    return ("-".join(words)[:60].rstrip("-") or "video") + ".mp4"


# evaluate --------------------------------------------------------------------------------------


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="a video file")
    parser.add_argument("--prompt", metavar="TEXT", help="also measure how well it shows this text")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")


def _evaluate(args: argparse.Namespace) -> int | None:
    from vidgen_lab.metrics.basics import UNITS, evaluate_video_basics
    from vidgen_lab.video.reader import read_clip

    clip = read_clip(args.file)
    result = evaluate_video_basics(clip)
    adherence = None
    if args.prompt is not None:
        from vidgen_lab.metrics.adherence import prompt_adherence

        adherence = prompt_adherence(clip, args.prompt)
    if args.json:
        import json

        record = result.to_dict() | ({"adherence": adherence.to_dict()} if adherence else {})
        print(json.dumps(record, indent=2))
        return None
    print(f"{args.file}: {clip.num_frames} frames, {clip.width}x{clip.height}, {clip.fps:g} fps")
    for name, unit in UNITS.items():
        value = getattr(result, name)
        if value is not None:
            print(f"{name.replace('_', ' '):<18} {value:>10.3f}  {unit}")
    print("Verdicts: " + "; ".join(f"{name} {text}" for name, text in result.verdicts.items()))
    if adherence:
        print(f"Prompt: {adherence}")
    return None


# chapter ---------------------------------------------------------------------------------------


def _chapter_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("number", metavar="N", help="chapter number")
    parser.add_argument("--tier", help="hardware settings (default: auto; see vidgen-lab tiers)")
    parser.add_argument(
        "-p", dest="pairs", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
        help="set a parameter of the notebook; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--download", action="store_true", help="fetch weights that are not here: -p download true"
    )
    parser.add_argument("-f", dest="file", type=Path, metavar="YAML", help="file of parameters")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder of the run (default: runs/CHAPTER/TIME)"
    )
    parser.add_argument("--list", action="store_true", help="print the parameters and stop")
    parser.add_argument(
        "--record", nargs="?", const="", metavar="NOTE",
        help="add time and memory to the recorded runs, which forecasts come from",
    )  # fmt: skip


def _chapter(args: argparse.Namespace) -> int | None:
    from vidgen_lab.workbook import recording, runner

    try:
        notebook = runner.find_chapter(args.number)
        if args.list:
            print("\n".join(map(str, runner.known_parameters(notebook).values())))
            return None
        given = dict(args.pairs) | ({"tier": args.tier} if args.tier is not None else {})
        given |= {"download": "true"} if args.download else {}
        parameters = runner.prepare(notebook, given, _read_yaml(args.file) if args.file else None)
        tier = None if args.record is None else recording.check_recordable(parameters)
    except ValueError as error:
        raise UsageError(str(error)) from None
    run = runner.run_notebook(notebook, parameters, args.out)
    print(f"Finished in {run.seconds:.0f} s")
    for one in recording.record_chapter(run, tier, args.record) if tier else ():
        print(f"Recorded  {one.task} at tier {one.tier}: {one.seconds:.3g} s")
    print(f"Notebook  {run.notebook}")
    print(f"HTML      {run.html}")
    for video in run.videos:
        print(f"Video     {video}")
    return None


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path} must hold lines of the form 'name: value'")
    return content


# tiers and check -------------------------------------------------------------------------------


def _tiers_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tier", default="auto", help="resolve this name instead of auto")


def _tiers(args: argparse.Namespace) -> int | None:
    from vidgen_lab.settings.tiers import load_tiers, resolve_tier

    print("tier      model                    size     frames  steps  offload     fits on")
    for tier in load_tiers().values():
        needs = tier.needs
        fits = f"{needs.vram_gib:g} GiB GPU" if needs.vram_gib else "any processor"
        size = f"{tier.width}x{tier.height}"
        print(
            f"{tier.name:<9} {tier.model:<24} {size:<8} {tier.num_frames:>6} "
            f"{tier.num_inference_steps:>6}  {tier.offload:<11} {fits}"
        )
    print()
    print(resolve_tier(args.tier).describe())
    return None


def _check_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def _check(args: argparse.Namespace) -> int | None:
    import json

    from vidgen_lab.settings.report import describe_report, environment_report

    report = environment_report()
    print(json.dumps(report, indent=2) if args.json else describe_report(report))
    complete = report["ffmpeg"] and all(p["ok"] for p in report["packages"].values())
    return 0 if complete else 1


# the command itself ----------------------------------------------------------------------------

COMMANDS = (
    Command(
        "video",
        "turn a sentence into a video",
        'vidgen-lab video "a red ball bouncing over the ocean" --out ball.mp4',
        _video_arguments,
        _video,
    ),
    Command(
        "evaluate",
        "measure a video: consistency, sharpness, motion, flicker",
        "vidgen-lab evaluate ball.mp4 --json",
        _evaluate_arguments,
        _evaluate,
    ),
    Command(
        "chapter",
        "run a chapter and keep its notebook, HTML and videos",
        'vidgen-lab chapter 1 --tier tiny -p prompt "a yellow star growing in a night sky"',
        _chapter_arguments,
        _chapter,
    ),
    Command(
        "tiers",
        "show the hardware tiers and which one this machine takes",
        "vidgen-lab tiers",
        _tiers_arguments,
        _tiers,
    ),
    Command(
        "check",
        "report versions, devices, ffmpeg, free disk, and what each tier still lacks",
        "vidgen-lab check",
        _check_arguments,
        _check,
    ),
    Command(
        "toyworld",
        "write captioned clips of the toy world with their ground truth",
        "vidgen-lab toyworld clips --count 100 --seed 1",
        *_elsewhere("vidgen_lab.toyworld.command"),
    ),
    Command(
        "prepare",
        "make a training set of a folder of videos, with a manifest of every decision",
        "vidgen-lab prepare videos dataset gates.min_side=256 --workers 4",
        *_elsewhere("vidgen_lab.pipeline.command"),
    ),
    Command(
        "train",
        "train a Latte on a prepared folder; stop it anywhere, it goes on exactly there",
        "vidgen-lab train toy_latte dataset.folder=clips training.steps=500",
        *_elsewhere("vidgen_lab.training.command"),
    ),
    Command(
        "plan",
        "say which way of training a model fits which GPUs",
        "vidgen-lab plan CogVideoX-2B --rank 64 --gpu-gib 24",
        *_elsewhere("vidgen_lab.training.command", "add_plan_arguments", "run_plan"),
    ),
    Command(
        "finetune",
        "adapt CogVideoX to clips of your own, by LoRA or in full",
        "vidgen-lab finetune toy-lora data.folder=clips output=runs/mine",
        *_elsewhere("vidgen_lab.finetuning.command"),
    ),
    Command(
        "lora",
        "tell what a LoRA file targets, and whether it will load with effect",
        "vidgen-lab lora adapter.safetensors --model toy-cogvideox",
        *_elsewhere("vidgen_lab.finetuning.command", "add_lora_arguments", "run_lora"),
    ),
    Command(
        "pretrain",
        "train the embedded models anew (hours on a processor, minutes on a GPU)",
        "vidgen-lab pretrain all --out runs/pretrain",
        *_elsewhere("vidgen_lab.training.pretrain"),
    ),
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line instead of the whole usage."""
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def _parser(chosen: str | None) -> argparse.ArgumentParser:
    from vidgen_lab import __version__

    parser = _Parser(prog="vidgen-lab", description="Video generation, built and measured.")
    parser.add_argument("--version", action="version", version=f"vidgen-lab {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        sub = commands.add_parser(
            command.name,
            help=command.help,
            description=command.help[0].upper() + command.help[1:] + ".",
            epilog=f"example:\n  {command.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if command.name == chosen:  # the others would import their modules for nothing
            command.arguments(sub)
        sub.set_defaults(run=command.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code: 0 done, 1 an error, 2 wrong use, 130 interrupted.

    Expected errors are one line. VIDGEN_LAB_TRACEBACK=1 shows where one came from.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    for stream in (sys.stdout, sys.stderr):  # a name may hold what the terminal cannot show
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    args = _parser(argv[0] if argv else None).parse_args(argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: print(f"note: {message}", file=sys.stderr)
            return args.run(args) or 0
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except (ValueError, OSError, RuntimeError, MemoryError, ImportError) as error:
        if os.environ.get("VIDGEN_LAB_TRACEBACK"):
            raise
        print(f"error: {_one_line(error)}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    elif isinstance(error, MemoryError):
        text = "not enough memory; close other programs or take a smaller tier"
    else:
        text = str(error) or type(error).__name__
    return " ".join(text.split())


if __name__ == "__main__":
    sys.exit(main())
