"""`vidgen-lab finetune` and `vidgen-lab lora`; the first also under accelerate:

accelerate launch -m vidgen_lab finetune CONFIG [key=value ...]
"""

import argparse
import os
import shlex
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config", nargs="?", metavar="CONFIG", help="a YAML file, or the name of a recipe"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change")
    parser.add_argument("--list", action="store_true", help="print the recipes and stop")
    parser.add_argument(
        "--dry-run", action="store_true", help="check settings and clips, print both, and stop"
    )
    parser.add_argument("--download", action="store_true", help="fetch weights that are not here")
    parser.add_argument(
        "--allow", action="append", default=[], metavar="KEY",
        help="a setting that may differ from those the interrupted run was begun with",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int | None:
    from vidgen_lab.finetuning.config import load_config, recipes

    if args.list:
        for name, said in recipes().items():
            print(f"{name:<16} {said}")
        return None
    if args.config is None:
        raise ValueError("name a configuration; --list shows the recipes")
    config = load_config(args.config, args.overrides)

    from vidgen_lab.finetuning.trainer import CogVideoTrainer

    trainer = CogVideoTrainer(config, download=args.download)
    if os.environ.get("RANK", "0") == "0":  # one of several processes is enough
        print(trainer.describe())
    if args.dry_run:
        return None
    result = trainer.fit(args.allow)
    if result.saved is None:
        return 130 if result.training.interrupted else None
    print(f"Saved   {result.saved}")
    if result.check:
        print(f"Check   {result.check}")
    lora = config.method == "lora"
    model = config.output / "pipeline" if config.input_layer or not lora else config.model
    if trainer.spec.image_to_video:
        then = f", then .load_lora_weights({str(result.saved.parent)!r})" if lora else ""
        print(f"Load    {trainer.spec.pipeline_name}.from_pretrained({str(model)!r}){then}")
    else:
        given = ["--model", str(model), *(["--lora", str(result.saved)] if lora else [])]
        print(f'Try     vidgen-lab video "..." {shlex.join(given)}')
    return None


def add_lora_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="a LoRA file, or its folder")
    parser.add_argument("--model", help="also check it against this model (folder or name)")


def run_lora(args: argparse.Namespace) -> int | None:
    from vidgen_lab.generation.loading import locate
    from vidgen_lab.generation.lora_file import inspect_lora
    from vidgen_lab.settings.weights import IMAGE_TO_VIDEO, TEXT_TO_VIDEO

    kinds = TEXT_TO_VIDEO, IMAGE_TO_VIDEO
    model = locate(args.model, False, *kinds) if args.model else None
    found = inspect_lora(args.file, model)
    print(found.describe())
    return 0 if found.loads else 1
