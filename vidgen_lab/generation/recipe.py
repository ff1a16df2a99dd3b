"""A generation on disk: the MP4 and, beside it, the JSON recipe that makes it again."""

import errno
import json
import os
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vidgen_lab.files import write_files
from vidgen_lab.generation.errors import OutputError
from vidgen_lab.generation.generate import Generation, generate
from vidgen_lab.generation.request import GenerationRequest, request_of
from vidgen_lab.settings.hardware import GIB, free_disk_gib
from vidgen_lab.settings.tiers import load_tiers

# An MP4 is far smaller than its raw frames; this much beside it is for the file system.
SPARE_BYTES = 2**20


def save_generation(generation: Generation, path: str | Path, crf: int = 18) -> Path:
    """Write the clip to `path` (.mp4) and its recipe to the same name with .json.

    Both appear together, or neither and what was there before stays.
    Raises OutputError for a folder that cannot be written and for a full disk.
    """
    from vidgen_lab.video.writer import encode_clip

    path = check_output(path)
    recipe = json.dumps(generation.recipe, indent=2, ensure_ascii=False) + "\n"
    contents = {path: encode_clip(generation.clip, crf), recipe_path(path): recipe}
    try:
        write_files(contents)
    except OSError as error:
        raise _output_error(error, path) from error
    return path


def recipe_path(path: str | Path) -> Path:
    """Where the recipe of a clip lies."""
    return Path(path).with_suffix(".json")


def check_output(path: str | Path, need_bytes: int = SPARE_BYTES) -> Path:
    """Make sure a clip can be written to `path`, before minutes of work go into it.

    Creates the folder. Raises OutputError when the name is not .mp4, when the folder cannot be
    made or written, or when the disk has less than `need_bytes` free.
    """
    path = Path(path)
    if path.suffix.lower() != ".mp4":
        raise OutputError(errno.EINVAL, f"The clip is written as .mp4; {path.name!r} is not")
    if path.is_dir():
        raise OutputError(errno.EISDIR, f"{path} is a folder; add a file name")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent):  # permissions alone do not tell
            pass
    except OSError as error:
        raise _output_error(error, path) from error
    if free_disk_gib(path.parent) * GIB < need_bytes:
        raise _output_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), path)
    return path


def read_recipe(path: str | Path) -> dict[str, Any]:
    """Read a recipe: the .json file, or the .mp4 it lies beside.

    Raises FileNotFoundError, or ValueError when the file is no recipe.
    """
    path = Path(path)
    file = recipe_path(path) if path.suffix.lower() == ".mp4" else path
    if not file.is_file():
        raise FileNotFoundError(f"There is no recipe {file}. It is written beside every clip.")
    try:
        recipe = json.loads(file.read_text(encoding="utf-8"))
        request_of(recipe)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{file} is no recipe of a clip: {error}") from None
    return recipe


def load_recipe(path: str | Path) -> GenerationRequest:
    """The request of a recipe; its `model` says what to load. See `reproduce` for all of it."""
    return request_of(read_recipe(path))


def reproduce(path: str | Path, download: bool = False, **options: Any) -> Generation:
    """Make a recipe's clip again: same model, precision and device kind, same request.

    options: passed to `generate`. Warns about whatever differs from the recorded run, since then
    the frames may differ, too: model revision, device, versions.
    """
    from vidgen_lab.generation.loading import load_pipeline

    recipe = read_recipe(path)
    tier = replace(
        load_tiers()["tiny"],
        offload=recipe.get("offload") or "none",
        vae_tiling=bool(recipe.get("vae_tiling")),
    )
    pipe = load_pipeline(recipe["model"], tier, dtype=recipe["dtype"], download=download)
    generation = generate(pipe, request_of(recipe), **options)
    if changed := differences(recipe, generation.recipe):
        warnings.warn(
            "Not the same conditions as recorded, the frames may differ: " + "; ".join(changed),
            stacklevel=2,
        )
    return generation


def differences(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two recipes among the things that can change the frames."""
    changed = []
    for name in ("model_revision", "scheduler", "dtype", "device_name", "vae_tiling"):
        if recorded.get(name) != now.get(name):
            changed.append(f"{name} {recorded.get(name)} -> {now.get(name)}")
    before, after = recorded.get("versions", {}), now.get("versions", {})
    for name in ("torch", "diffusers", "transformers"):
        if before.get(name) != after.get(name):
            changed.append(f"{name} {before.get(name)} -> {after.get(name)}")
    return changed


def _output_error(error: OSError, path: Path) -> OutputError:
    if error.errno == errno.ENOSPC:
        advice = "The disk is full. Free some space or choose another folder"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        advice = "The folder cannot be written. Choose another one"
    else:
        advice = error.strerror or type(error).__name__
    return OutputError(error.errno or errno.EIO, f"Cannot write {path}. {advice}")
