"""``vidgen-lab``: the package from the command line, one screen per command.

A command is an entry of COMMANDS: what `--help` says, an example, and two functions, one that adds
the arguments and one that does the work and gives an exit code, None meaning 0; it raises
argparse.ArgumentError where it was used wrongly. A function is here or has its place as text,
"module:function", so that its libraries are loaded only by the command that runs.
"""

import argparse
import io
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pkgutil import resolve_name
from typing import Any, NoReturn

# words -----------------------------------------------------------------------------------------


def _words(args: argparse.Namespace) -> None:
    from vidgen_lab.toyworld.prompts import word_list

    print(word_list())


# tiers and check -------------------------------------------------------------------------------


def _tiers(args: argparse.Namespace) -> None:
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


def _check(args: argparse.Namespace) -> int:
    import json

    from vidgen_lab.settings.report import describe_report, environment_report

    report = environment_report()
    print(json.dumps(report, indent=2) if args.json else describe_report(report))
    complete = report["ffmpeg"] and all(p["ok"] for p in report["packages"].values())
    return 0 if complete else 1


# the command itself ----------------------------------------------------------------------------

COMMANDS = {
    "video": (
        "turn a sentence into a video",
        'vidgen-lab video "a red ball bouncing over the ocean" --out ball.mp4',
        "vidgen_lab.generation.command:add_arguments",
        "vidgen_lab.generation.command:run",
    ),
    "evaluate": (
        "measure a video: how well it shows a prompt, consistency, sharpness, motion, flicker",
        'vidgen-lab evaluate ball.mp4 --prompt "a red ball bouncing over the ocean"',
        "vidgen_lab.metrics.command:add_arguments",
        "vidgen_lab.metrics.command:run",
    ),
    "words": (
        "list the words that the embedded model and its judge know",
        "vidgen-lab words",
        lambda parser: None,
        _words,
    ),
    "chapter": (
        "run a chapter and keep its notebook, HTML and videos",
        'vidgen-lab chapter 1 --tier tiny -p prompt "a yellow star growing in a night sky"',
        "vidgen_lab.workbook.command:add_arguments",
        "vidgen_lab.workbook.command:run",
    ),
    "tiers": (
        "show the hardware tiers and which one this machine takes",
        "vidgen-lab tiers",
        lambda parser: parser.add_argument(
            "--tier", default="auto", help="resolve this name instead of auto"
        ),
        _tiers,
    ),
    "check": (
        "report versions, devices, ffmpeg, free disk, and what each tier still lacks",
        "vidgen-lab check",
        lambda parser: parser.add_argument(
            "--json", action="store_true", help="print the report as JSON"
        ),
        _check,
    ),
    "toyworld": (
        "write captioned clips of the toy world with their ground truth",
        "vidgen-lab toyworld clips --count 100 --seed 1",
        "vidgen_lab.toyworld.command:add_arguments",
        "vidgen_lab.toyworld.command:run",
    ),
    "prepare": (
        "make a training set of a folder of videos, with a manifest of every decision",
        "vidgen-lab prepare videos dataset gates.min_side=64 --workers 2",
        "vidgen_lab.pipeline.command:add_arguments",
        "vidgen_lab.pipeline.command:run",
    ),
    "train": (
        "train a Latte on a prepared folder; stop it anywhere, it goes on exactly there",
        "vidgen-lab train toy_latte dataset.folder=clips training.steps=500",
        "vidgen_lab.training.command:add_arguments",
        "vidgen_lab.training.command:run",
    ),
    "plan": (
        "say which way of training a model fits which GPUs",
        "vidgen-lab plan CogVideoX-2B --rank 64 --gpu-gib 24",
        "vidgen_lab.training.command:add_plan_arguments",
        "vidgen_lab.training.command:run_plan",
    ),
    "finetune": (
        "adapt CogVideoX to clips of your own, by LoRA or in full",
        "vidgen-lab finetune toy-lora data.folder=clips output=runs/mine",
        "vidgen_lab.finetuning.command:add_arguments",
        "vidgen_lab.finetuning.command:run",
    ),
    "lora": (
        "tell what a LoRA file targets, and whether it will load with effect",
        "vidgen-lab lora adapter.safetensors --model toy-cogvideox",
        "vidgen_lab.finetuning.command:add_lora_arguments",
        "vidgen_lab.finetuning.command:run_lora",
    ),
}


EXPECTED = (
    argparse.ArgumentError, ValueError, OSError, RuntimeError, MemoryError, ImportError,
    FloatingPointError,
)  # fmt: skip


def _found(function: str | Callable[[Any], Any]) -> Callable[[Any], Any]:
    return resolve_name(function) if isinstance(function, str) else function


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line instead of the whole usage."""
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def _parser(chosen: str | None) -> argparse.ArgumentParser:
    from vidgen_lab import __version__

    parser = _Parser(prog="vidgen-lab", description="Video generation, built and measured.")
    parser.add_argument("--version", action="version", version=f"vidgen-lab {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (said, example, arguments, run) in COMMANDS.items():
        sub = commands.add_parser(
            name,
            help=said,
            description=said[0].upper() + said[1:] + ".",
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == chosen:  # the others would import their modules for nothing
            _found(arguments)(sub)
        sub.set_defaults(run=run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code: 0 done, 1 an error, 2 wrong use, 130 interrupted.

    Expected errors are one line. VIDGEN_LAB_TRACEBACK=1 shows where one came from. Argparse itself
    ends in SystemExit: 2 for words it does not take, 0 after --help and --version.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    for stream in (sys.stdout, sys.stderr):  # a name may hold what the terminal cannot show
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    parser = _parser(argv[0] if argv else None)
    args, rest = parser.parse_known_args(argv)
    # argparse wants all settings in one place, and refuses one that stands behind an option
    settings = getattr(args, "settings", getattr(args, "overrides", None))
    if not all(settings is not None and word[:1] != "-" and "=" in word for word in rest):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        settings += rest
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: print(f"note: {message}", file=sys.stderr)
            return _found(args.run)(args) or 0
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except EXPECTED as error:
        if os.environ.get("VIDGEN_LAB_TRACEBACK"):
            raise
        print(f"error: {_one_line(error)}", file=sys.stderr)
        return 2 if isinstance(error, argparse.ArgumentError) else 1


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    elif isinstance(error, MemoryError):
        text = "not enough memory; close other programs or take a smaller tier"
    else:
        text = str(error) or type(error).__name__
    return " ".join(text.split())
