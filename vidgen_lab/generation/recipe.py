"""A generation on disk: the MP4 and, beside it, the JSON recipe that makes it again."""

import errno
import itertools
import json
import os
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from vidgen_lab.files import write_files
from vidgen_lab.generation.generate import Generation, generate
from vidgen_lab.generation.lora import load_recorded
from vidgen_lab.generation.request import request_of
from vidgen_lab.settings.hardware import free_disk_gib
from vidgen_lab.settings.tiers import DTYPES, OFFLOAD_MODES, load_tiers

# An MP4 is far smaller than its raw frames; this much beside it is for the file system.
SPARE_GIB = 2**-10


class OutputError(OSError):
    """The clip or its recipe cannot be written there. Nothing half-written is left."""


def save_generation(
    generation: Generation, path: str | Path, crf: int = 18, keep: bool = False
) -> Path:
    """Write the clip to `path` (.mp4) and its recipe to the same name with .json.

    Both appear together, or neither and what was there before stays. Only a clip with its recipe is
    ever replaced. Returns the path that was written.

    Args:
        generation: LoRA files in the clip's folder, or below, are named from there on.
        path: its folder is made if need be.
        crf: x264's quality, 0 (lossless in luma) .. 51.
        keep: replace nothing at all, and take the next free name (clip-2.mp4) where another process
            was faster.

    Raises:
        OutputError: the folder cannot be written, the disk is full, or the files are not ours.
        ValueError: H.264 does not hold this size, rate or crf.
    """
    from vidgen_lab.video.writer import encode_clip

    path = check_output(free_name(path) if keep else path)
    adapters, here = generation.recipe.get("lora", []), path.parent.absolute()
    told = {"lora": [entry | {"file": _named_from(here, entry["file"])} for entry in adapters]}
    text = json.dumps(generation.recipe | told, indent=2, ensure_ascii=False) + "\n"
    recipe = text.encode("utf-8", "backslashreplace")  # a folder's name may hold bytes of no letter
    data = encode_clip(generation.clip, crf)
    while True:
        try:
            write_files({path: data, recipe_path(path): recipe}, new=keep)
            return path
        except FileExistsError:
            path = free_name(path)
        except OSError as error:
            raise _output_error(error, path) from error


def _named_from(folder: Path, file: str | None) -> str | None:
    """An adapter in the clip's folder, or below, from there on: both can be moved and shared."""
    inside = file and Path(file).is_relative_to(folder)
    return Path(file).relative_to(folder).as_posix() if inside else file


def free_name(path: str | Path) -> Path:
    """`path`, or the first of clip-2.mp4, clip-3.mp4 ... that neither clip nor recipe has."""
    path = Path(path)
    numbered = (path.with_stem(f"{path.stem}-{n}") for n in itertools.count(2))
    return next(p for p in itertools.chain([path], numbered) if not _taken(p))


def _taken(path: Path) -> bool:
    return os.path.lexists(path) or os.path.lexists(recipe_path(path))


def recipe_path(path: str | Path) -> Path:
    """Where the recipe of a clip lies."""
    return Path(path).with_suffix(".json")


def check_output(path: str | Path) -> Path:
    """Make sure a clip can be written to `path`, before minutes of work go into it.

    Creates the folder.

    Raises:
        OutputError: the name is not .mp4, the folder cannot be made or written, the disk is full,
            or a clip or a JSON of that name is there that was not made here.
    """
    path = Path(path)
    if path.suffix.lower() != ".mp4":
        raise OutputError(errno.EINVAL, f"The clip is written as .mp4; {path.name!r} is not")
    if "\0" in str(path):
        raise OutputError(errno.EINVAL, f"{str(path)!r} holds a zero byte; choose another name")
    if path.is_dir():
        raise OutputError(errno.EISDIR, f"{path} is a folder; add a file name")
    if _taken(path):
        _check_ours(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent):  # permissions alone do not tell
            pass
        with suppress(FileNotFoundError):
            recipe_path(path).lstat()  # the name may be too long
    except OSError as error:
        raise _output_error(error, path) from error
    if free_disk_gib(path.parent) < SPARE_GIB:
        raise _output_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), path)
    return path


def _check_ours(path: Path) -> None:
    """Refuse to replace what no generation wrote: a clip without recipe, a JSON of another kind."""
    recipe = recipe_path(path)
    try:
        read_recipe(recipe)
        return
    except FileNotFoundError:
        found = f"{path} is there already, without the recipe that is written beside every clip"
    except (OSError, ValueError):
        found = f"{recipe}, where the recipe would go, is there already and is no recipe of a clip"
    raise OutputError(errno.EEXIST, f"{found}. Choose another name; nothing is overwritten")


def read_recipe(path: str | Path) -> dict[str, Any]:
    """Read a recipe: the .json file, or the .mp4 it lies beside.

    Everything that `reproduce` needs is checked, not only the request; files of adapters are named
    from the root on.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no recipe.
    """
    path = Path(path)
    file = recipe_path(path) if path.suffix.lower() == ".mp4" else path
    if not file.is_file():
        raise FileNotFoundError(f"There is no recipe {file}. It is written beside every clip.")
    try:
        recipe = json.loads(file.read_text(encoding="utf-8"))
        request_of(recipe)
        _check_conditions(recipe)
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{file} is no recipe of a clip: {error}") from None
    for entry in recipe.get("lora", []):
        entry["file"] = entry["file"] and str(file.parent.absolute() / entry["file"])
    return recipe


def _check_conditions(recipe: Mapping[str, Any]) -> None:
    """ValueError when what a recipe says about its run is missing or makes no sense."""
    versions, adapters = recipe.get("versions"), recipe.get("lora", [])
    legal = {
        "model": isinstance(recipe.get("model"), str) and bool(recipe["model"].strip()),
        "dtype": recipe.get("dtype") in DTYPES[1:],
        "offload": recipe.get("offload") in (None, *OFFLOAD_MODES),
        "vae_tiling": recipe.get("vae_tiling", False) in (False, True),
        "versions": isinstance(versions, dict)
        and all(isinstance(v, str) for v in versions.values()),
        "lora": isinstance(adapters, list) and all(map(_is_adapter, adapters)),
    }
    if wrong := [name for name, fine in legal.items() if not fine]:
        said = (f"{n} {recipe[n]!r}" if n in recipe else f"no {n}" for n in wrong)
        raise ValueError(f"it has {', '.join(said)}")


def _is_adapter(entry: Any) -> bool:
    """Whether it is an entry of what `active_adapters` writes into a recipe."""
    if not isinstance(entry, dict) or "file" not in entry:
        return False
    kinds = {"file": str, "sha256": str, "scale": int | float}
    return entry["file"] is None or all(isinstance(entry.get(n), k) for n, k in kinds.items())


def reproduce(path: str | Path, download: bool = False, **options: Any) -> Generation:
    """Make a recipe's clip again: same model, adapters, precision, memory options and request.

    It runs on this machine's default device. Warns of whatever differs from the recorded run, since
    then the frames may differ, too: model revision, scheduler, device, versions.

    Args:
        path: of the recipe or of its clip.
        download: whether weights that are not here may be fetched.
        options: passed to `generate`.

    Raises:
        LoRAError: a LoRA file of the recipe is gone or another by now.
    """
    from vidgen_lab.generation.loading import load_pipeline

    recipe = read_recipe(path)
    tier = replace(
        load_tiers()["tiny"],
        offload=recipe.get("offload") or "none",
        vae_tiling=bool(recipe.get("vae_tiling")),
    )
    pipe = load_pipeline(recipe["model"], tier, dtype=recipe["dtype"], download=download)
    load_recorded(pipe, recipe.get("lora", []))
    generation = generate(pipe, request_of(recipe), **options)
    if changed := differences(recipe, generation.recipe):
        warnings.warn(
            "Not the same conditions as recorded, the frames may differ: " + "; ".join(changed),
            stacklevel=2,
        )
    return generation


def differences(recorded: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What can change the frames and differs between two recipes: ["dtype float16 -> float32"]."""
    names = ("model_revision", "scheduler", "dtype", "device_name", "vae_tiling")
    names += ("torch", "diffusers", "transformers")
    before, after = (recipe | recipe["versions"] for recipe in (recorded, now))
    return [
        f"{name} {before.get(name)} -> {after.get(name)}"
        for name in names
        if before.get(name) != after.get(name)
    ]


def _output_error(error: OSError, path: Path) -> OutputError:
    said = f"Cannot write {path}: {error.strerror or type(error).__name__}"
    advice = "Choose another folder, or make room in this one"
    return OutputError(error.errno or errno.EIO, f"{said}. {advice}")
