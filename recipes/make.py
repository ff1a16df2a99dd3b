"""Make the embedded models anew:  python recipes/make.py PART [name=value …]

The parts, in order: vae, text, early, judge, transformer for toy-cogvideox; frame-vae, latte-text,
latte for toy-latte. Each trains in runs/recipes/PART, goes on where it was stopped, and reads its
recipe from recipes/PART.yaml; pairs change a number of it. `ship` and `ship-latte` measure the
results, write their cards and put both into data/models; they say first what they would replace.
"""

import argparse
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # so that the script runs as a file too

from recipes.judge import JudgeConfig, train_judge  # noqa: E402
from recipes.latte import ToyLatteConfig, train_latte  # noqa: E402
from recipes.text import TextConfig, train_text_encoder  # noqa: E402
from recipes.training import note_commit  # noqa: E402
from recipes.transformer import TransformerConfig, train_transformer  # noqa: E402
from recipes.vae import VAEConfig, train_vae  # noqa: E402
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


def train(part: str, out: Path, changes: list[str]) -> None:
    """Train (or resume) one part in `out`/PART."""
    schema, training, needs = PARTS[part]
    for need in needs:
        if not (out / need).is_dir():
            raise FileNotFoundError(f"{out / need} is missing: make {need.partition('/')[0]} first")
    config = load(schema, HERE / f"{part}.yaml", changes)
    note_commit(out / part, changes)
    training(config, *(out / need for need in needs), out / part)


def ship(part: str, out: Path, sure: bool) -> int:
    """Put results and cards into data/models, once all is measured and may be replaced."""
    from recipes.ship import write_cards
    from vidgen_lab.paths import data_dir

    models, ready = data_dir() / "models", out / part
    for source, target in SHIPPED[part].items():
        if not (out / source).is_dir():
            made_by = source.partition("/")[0]
            raise FileNotFoundError(f"{out / source} is missing: make {made_by} first")
        if (models / target).exists() and not sure:
            print(f"would replace {models / target} by {out / source}")
            sure_now = input("replace? [y/N] ") if sys.stdin.isatty() else ""
            if sure_now.strip().lower() != "y":
                print("nothing was changed; --yes replaces without asking")
                return 1
    shutil.rmtree(ready, ignore_errors=True)
    shutil.copytree(models / "toy-judge", ready / "toy-judge")  # ship-latte is judged by it too
    for source, target in SHIPPED[part].items():
        shutil.rmtree(ready / target, ignore_errors=True)
        shutil.copytree(out / source, ready / target)
    write_cards(part, out, ready)
    for target in SHIPPED[part].values():
        shutil.rmtree(models / target, ignore_errors=True)
        shutil.copytree(ready / target, models / target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
