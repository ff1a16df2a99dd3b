"""`vidgen-lab video`: a sentence, or the recipe of an earlier clip, becomes a video."""

import argparse
from dataclasses import fields
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
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
        ("--frames", "num_frames", int, "number of frames: 8N+1, or what the model takes"),
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
        help="strength of each LoRA file, given or in the recipe, in their order (default 1; 0 is "
        "the model without)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int | None:
    from vidgen_lab.generation.generate import generate
    from vidgen_lab.generation.loading import load_pipeline, locate
    from vidgen_lab.generation.lora import load_lora, load_recorded, set_scales
    from vidgen_lab.generation.recipe import (
        check_output,
        free_name,
        read_recipe,
        recipe_path,
        reproduce,
        save_generation,
    )
    from vidgen_lab.generation.request import (
        GenerationRequest,
        ModelLimits,
        request_of,
        validate_request,
    )
    from vidgen_lab.generation.words import words_note
    from vidgen_lab.progress import Progress
    from vidgen_lab.settings.tiers import ModelFacts, model_facts, resolve_tier

    names = {field.name for field in fields(GenerationRequest)}
    changes = {n: value for n, value in vars(args).items() if n in names and value is not None}
    if args.prompt is None and args.recipe is None:
        raise argparse.ArgumentError(
            None, "say what the video shows, or repeat one with --recipe FILE"
        )
    recipe = read_recipe(args.recipe) if args.recipe else {}
    recorded = [] if args.lora else recipe.get("lora", [])
    if args.lora_scale and len(args.lora_scale) != len(args.lora or recorded):
        raise argparse.ArgumentError(None, "give --lora-scale once for every LoRA file")

    repeat = recipe and not (changes or args.tier or args.lora or args.lora_scale)
    if not repeat:
        choice = resolve_tier("auto" if args.tier is None else args.tier)
        print(choice.describe())
    if recipe:
        request = request_of(recipe).with_(**changes)
    else:
        if args.model not in (None, choice.tier.model):  # the tier's sizes are for the tier's model
            limits = ModelLimits.from_folder(locate(args.model, args.download))
            own = dict(zip(("num_frames", "height", "width"), limits.native, strict=True))
            facts = model_facts(args.model) or ModelFacts(args.model)
            own |= {"fps": facts.fps, "guidance_scale": facts.guidance_scale}
            changes = own | changes
        request = GenerationRequest.for_tier(choice.tier, **changes)
    words = "".join(c if c.isalnum() else " " for c in request.prompt.lower()).split()
    named = ("-".join(words)[:60].rstrip("-") or "video") + ".mp4"
    out = check_output(args.out or free_name(named))
    keep = not out.exists()  # what another process puts there meanwhile stays
    if note := words_note(request.prompt, request.model, bool(args.lora or recipe.get("lora"))):
        print(note)
    if not repeat:
        pipe = load_pipeline(request.model, tier=choice.tier, download=args.download)
        validate_request(request, pipe)
        if args.lora:
            load_lora(pipe, *args.lora, scales=tuple(args.lora_scale))
        else:
            load_recorded(pipe, recorded)
            if args.lora_scale:
                set_scales(pipe, *args.lora_scale)

    with Progress(request.num_inference_steps, "Denoising") as progress:
        told = {"on_step": lambda _: progress.update()}
        if repeat:
            made = reproduce(args.recipe, download=args.download, **told)
        else:
            made = generate(pipe, request, **told)
    out = save_generation(made, out, keep=keep)
    print(f"Video   {out}\nRecipe  {recipe_path(out)}")
    return None
