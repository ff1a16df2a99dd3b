"""Make the embedded models anew:  python recipes/make.py PART [name=value …]

The parts, in order: vae, text, early, judge, transformer for toy-cogvideox; frame-vae, latte-text,
latte for toy-latte. Each trains in runs/recipes/PART, goes on where it was stopped, and reads its
recipe from recipes/PART.yaml; pairs change a number of it. `ship` and `ship-latte` measure the
results, write their cards and put both into data/models; they say first what they would replace.
"""

import argparse
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # so that the script runs as a file too

from recipes.judge import JudgeConfig, train_judge  # noqa: E402
from recipes.latte import ToyLatteConfig, train_latte  # noqa: E402
from recipes.measure import write_cards  # noqa: E402
from recipes.text import TextConfig, train_text_encoder  # noqa: E402
from recipes.transformer import TransformerConfig, train_transformer  # noqa: E402
from recipes.vae import VAEConfig, train_vae  # noqa: E402
from vidgen_lab import paths  # noqa: E402
from vidgen_lab.config import load  # noqa: E402

# part: (recipe, training, what it reads from other parts)
PARTS = {
    "vae": (VAEConfig, train_vae, ()),
    "text": (TextConfig, train_text_encoder, ()),
    "early": (TransformerConfig, train_transformer, ("vae/vae", "text/text_encoder")),
    "judge": (JudgeConfig, train_judge, ("vae/vae", "early/pipeline")),
    "transformer": (TransformerConfig, train_transformer, ("vae/vae", "text/text_encoder")),
    "frame-vae": (VAEConfig, train_vae, ()),
    "latte-text": (TextConfig, train_text_encoder, ()),
    "latte": (ToyLatteConfig, train_latte, ("frame-vae/vae", "latte-text/text_encoder")),
}
SHIPPED = {
    "ship": {"transformer/pipeline": "toy-cogvideox", "judge/judge": "toy-judge"},
    "ship-latte": {"latte/pipeline": "toy-latte"},
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python recipes/make.py",
        description=__doc__.split("\n\n")[0],
        epilog=__doc__.partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("part", choices=(*PARTS, *SHIPPED), metavar="PART")
    parser.add_argument("changes", nargs="*", metavar="name=value")
    parser.add_argument("--out", type=Path, default=Path("runs/recipes"), metavar="DIR")
    parser.add_argument("--yes", action="store_true", help="ship: replace without asking")
    args = parser.parse_args(arguments)
    try:
        if args.part in SHIPPED:
            return ship(args.part, args.out, args.yes)
        train(args.part, args.out, args.changes)
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def read_recipe(part: str) -> dict[str, Any]:
    """What recipes/PART.yaml says; those of `early` are the transformer's, changed."""
    files = ("transformer", "early") if part == "early" else (part,)
    merged = OmegaConf.merge(*(OmegaConf.load(HERE / f"{name}.yaml") for name in files))
    return OmegaConf.to_container(merged)


def train(part: str, out: Path, changes: list[str]) -> None:
    """Train (or resume) one part in `out`/PART."""
    schema, training, needs = PARTS[part]
    check(out, needs)
    config = load(schema, read_recipe(part), changes)
    training(config, *(out / need for need in needs), out / part)


def check(out: Path, needs: Iterable[str]) -> None:
    """FileNotFoundError for the first that is not made yet."""
    for need in needs:
        if not (out / need).is_dir():
            raise FileNotFoundError(f"{out / need} is missing: make {need.partition('/')[0]} first")


def ship(part: str, out: Path, sure: bool) -> int:
    """Put results and cards into data/models, once all is measured and may be replaced."""
    models, ready = paths.data_dir() / "models", out / part
    check(out, SHIPPED[part])
    made = {name: out / source for source, name in SHIPPED[part].items()}
    for name, source in made.items():
        if (models / name).exists() and not sure:
            print(f"would replace {models / name} by {source}")
            if not (sys.stdin.isatty() and input("replace? [y/N] ").strip().lower() == "y"):
                print("nothing was changed; --yes replaces without asking")
                return 1
    shutil.rmtree(ready, ignore_errors=True)
    judged_by = {"toy-judge": models / "toy-judge"}  # ship-latte brings no judge of its own
    for name, source in (judged_by | made).items():
        shutil.copytree(source, ready / name)
    write_cards(part, out, ready)
    for name in made:
        shutil.rmtree(models / name, ignore_errors=True)
        shutil.copytree(ready / name, models / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
