"""Make chapter 3's embedded models anew: `python -m vidgen_lab.training.pretrain_latte all`."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vidgen_lab.paths import data_dir
from vidgen_lab.training.toy_frame_vae import ToyFrameVAEConfig
from vidgen_lab.training.toy_latte import ToyLatteConfig

PARTS = ("frame-vae", "latte", "ship-latte")

# On a GPU the same recipe runs longer, on more clips, in larger batches.
RECIPES: dict[str, dict[str, Any]] = {
    "cpu": {"frame-vae": ToyFrameVAEConfig(), "latte": ToyLatteConfig()},
    "gpu": {
        "frame-vae": ToyFrameVAEConfig(clips=6000, steps=8000, batch=64),
        "latte": ToyLatteConfig(clips=12000, steps=15000, batch=128),
    },
}


def run_part(part: str, config: Any, out: Path, device: str) -> None:
    """Make one part in `out`, resuming what is there; "ship-latte" fills data/models and needs no
    config.

    FileNotFoundError names the part to run first.
    """
    vae = out / "frame-vae" / "vae"
    if part == "ship-latte":
        from vidgen_lab.training.toy_latte_cards import ship_latte

        ship_latte(out, data_dir() / "models")
    elif part == "frame-vae":
        from vidgen_lab.training.toy_frame_vae import train_frame_vae

        train_frame_vae(config, out / "frame-vae", device)
    elif vae.is_dir():
        from vidgen_lab.training.toy_latte import train_latte

        train_latte(config, vae, out / "latte", device)
    else:
        raise FileNotFoundError(f"{vae} is missing: make the part 'frame-vae' first")


def main(argv: Sequence[str] | None = None) -> None:
    """Make one part, or all in order; what is done already is not done again."""
    import torch

    from vidgen_lab.training.pretrain import changed

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=(*PARTS, "all"), help="what to make; each part resumes")
    parser.add_argument("--out", type=Path, default=Path("runs/pretrain"), metavar="DIR")
    parser.add_argument("--recipe", choices=RECIPES, help="default: by the device")
    parser.add_argument("--device", help="cpu or cuda (default: cuda where there is one)")
    parser.add_argument(
        "-p", dest="changes", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
        help="change a number of the part's recipe, e.g. -p steps 2000",
    )  # fmt: skip
    args = parser.parse_args(argv)
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    recipe = RECIPES[args.recipe or ("cpu" if device == "cpu" else "gpu")]
    for part in PARTS if args.part == "all" else (args.part,):
        print(f"== {part}")
        config = None if part == "ship-latte" else changed(recipe[part], args.changes)
        run_part(part, config, args.out, device)


if __name__ == "__main__":
    main()
