"""`vidgen-lab pretrain`: make the embedded models anew, and ship them with cards of measured
numbers."""

import argparse
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from vidgen_lab.paths import data_dir
from vidgen_lab.training.toy_cogvideox import ToyCogVideoXConfig
from vidgen_lab.training.toy_frame_vae import ToyFrameVAEConfig
from vidgen_lab.training.toy_judge import ToyJudgeConfig
from vidgen_lab.training.toy_latte import ToyLatteConfig
from vidgen_lab.training.toy_text_encoder import ToyTextConfig
from vidgen_lab.training.toy_vae import Stage, ToyVAEConfig

# toy-cogvideox and toy-judge, then chapter 3's toy-frame-vae and toy-latte.
PARTS = (
    *("vae", "text", "judge", "transformer", "ship"),
    *("frame-vae", "latte-text", "latte", "ship-latte"),
)

# What a part reads: the parts it needs first, and where in their folders they leave their model.
NEEDS = {
    "judge": ("vae",),
    "transformer": ("vae", "text"),
    "latte": ("frame-vae", "latte-text"),
}
MADE = {"vae": "vae", "text": "text_encoder", "frame-vae": "vae", "latte-text": "text_encoder"}

LATTE_TEXT = ToyTextConfig(width=96, max_length=24, masked=True)

# On a GPU the same recipe runs longer, on more clips, in larger batches.
RECIPES: dict[str, dict[str, Any]] = {
    "cpu": {
        "vae": ToyVAEConfig(),
        "text": ToyTextConfig(),
        "judge": ToyJudgeConfig(),
        "transformer": ToyCogVideoXConfig(),
        "frame-vae": ToyFrameVAEConfig(),
        "latte-text": LATTE_TEXT,
        "latte": ToyLatteConfig(),
    },
    "gpu": {
        "vae": ToyVAEConfig(
            clips=6000,
            stages=(
                Stage(4000, 64, 1, 64, 96),
                Stage(6000, 16, 9, 64, 96),
                Stage(1000, 16, 17, 64, 96),
            ),
        ),
        "text": ToyTextConfig(),
        "judge": ToyJudgeConfig(clips=20000, reconstructed=6000, steps=8000, batch=64),
        "transformer": ToyCogVideoXConfig(
            clips=20000, steps=24000, batch=128, keep=0.5, dense_steps=8000, dense_batch=64
        ),
        "frame-vae": ToyFrameVAEConfig(clips=6000, steps=8000, batch=64),
        "latte-text": LATTE_TEXT,
        "latte": ToyLatteConfig(clips=12000, steps=15000, batch=128),
    },
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("part", choices=(*PARTS, "all"), help="what to make; each part resumes")
    parser.add_argument("--out", type=Path, default=Path("runs/pretrain"), metavar="DIR")
    parser.add_argument("--recipe", choices=RECIPES, help="default: by the device")
    parser.add_argument("--device", help="cpu or cuda (default: cuda where there is one)")
    parser.add_argument(
        "--init",
        type=Path,
        metavar="DIR",
        help="start vae or transformer from this pipeline folder",
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="torch.compile transformer and latte: a third faster, needs a C++ compiler",
    )
    parser.add_argument(
        "-p", dest="changes", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
        help="change a number of the part's recipe, e.g. -p steps 2000",
    )  # fmt: skip


def run(args: argparse.Namespace) -> None:
    """Make one part, or all in order; what is done already is not done again."""
    import torch

    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    recipe = RECIPES[args.recipe or ("cpu" if device == "cpu" else "gpu")]
    for part in PARTS if args.part == "all" else (args.part,):
        print(f"== {part}")
        if part == "ship":
            from vidgen_lab.training.toy_cards import ship

            ship(args.out, data_dir() / "models")
        elif part == "ship-latte":
            from vidgen_lab.training.toy_latte_cards import ship_latte

            ship_latte(args.out, data_dir() / "models")
        else:
            config = changed(recipe[part], args.changes)
            _train(part, config, args.out, device, args.init, args.compile)


def changed(config: Any, changes: list[tuple[str, str]]) -> Any:
    """`config` with some numbers replaced; ValueError names the ones there are."""
    numbers = {f.name: type(getattr(config, f.name)) for f in fields(config)}
    numbers = {name: kind for name, kind in numbers.items() if kind in (int, float)}
    for name, value in changes:
        if name not in numbers:
            raise ValueError(f"unknown setting {name!r}; known: {', '.join(numbers)}")
        config = replace(config, **{name: numbers[name](value)})
    return config


def _train(
    part: str, config: Any, out: Path, device: str, init: Path | None, compiled: bool
) -> None:
    folders = []
    for name in NEEDS.get(part, ()):
        folders.append(out / name / MADE[name])
        if not folders[-1].is_dir():
            raise FileNotFoundError(
                f"{folders[-1]} is missing: run `vidgen-lab pretrain {name}` first"
            )
    if part == "vae":
        from vidgen_lab.training.toy_vae import train_vae

        train_vae(config, out / part, device, init=init and init / "vae")
    elif part in ("text", "latte-text"):
        from vidgen_lab.training.toy_text_encoder import train_text_encoder

        train_text_encoder(config, out / part, device)
    elif part == "judge":
        from vidgen_lab.training.toy_judge import train_judge

        train_judge(config, *folders, out / part, device)
    elif part == "transformer":
        from vidgen_lab.training.toy_diffusion import train_transformer

        options = {"init": init and init / "transformer", "compiled": compiled}
        train_transformer(config, *folders, out / part, device, **options)
    elif part == "frame-vae":
        from vidgen_lab.training.toy_frame_vae import train_frame_vae

        train_frame_vae(config, out / part, device)
    else:
        from vidgen_lab.training.toy_latte import train_latte

        train_latte(config, *folders, out / part, device, compiled=compiled)
