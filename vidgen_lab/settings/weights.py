"""Which weights are on this machine? Looks at folders and at the hub's cache, never at the net."""

import json
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from vidgen_lab.paths import model_dir

MODEL_INDEX = "model_index.json"
TEXT_TO_VIDEO, IMAGE_TO_VIDEO = "CogVideoXPipeline", "CogVideoXImageToVideoPipeline"
_KINDS = {1: "text-to-video CogVideoX", 2: "CogVideoX"}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class ModelNotFoundError(FileNotFoundError):
    """There is no such model folder, nor an embedded model of that name."""


class BrokenModelError(ValueError):
    """The folder is there but is no complete diffusers pipeline."""


def find_model(model: str | Path, also_known_as: Iterable[str] = ()) -> Path | None:
    """Return the local folder of a model, or None if it would have to be downloaded.

    A download that broke off counts as not there; other folders are not looked into.

    Args:
        model: a folder, the name of an embedded model ("toy-cogvideox") or a hub id ("owner/name").
            An existing folder wins.
        also_known_as: former hub ids to look for as well.

    Raises:
        ModelNotFoundError: the folder or the embedded name does not exist.
    """
    name = str(model)
    if not name.strip():
        raise ModelNotFoundError(
            'The model has no name. Give a folder, an embedded model ("toy-cogvideox") or a hub id.'
        )
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if isinstance(model, str) and _HUB_ID.fullmatch(name):
        return _find_in_hub_cache((name, *also_known_as))
    if isinstance(model, Path) or len(folder.parts) > 1:
        raise ModelNotFoundError(
            f"There is no model folder {name!r}. Give the folder that holds {MODEL_INDEX}, the "
            'name of an embedded model ("toy-cogvideox"), or a hub id ("owner/name").'
        )
    try:
        return model_dir(name)
    except FileNotFoundError as error:
        raise ModelNotFoundError(str(error)) from None


def _find_in_hub_cache(names: Iterable[str]) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    for name in names:
        index = try_to_load_from_cache(name, MODEL_INDEX)
        if isinstance(index, str):
            with suppress(BrokenModelError):  # a download that broke off
                check_model_folder(Path(index).parent, TEXT_TO_VIDEO, IMAGE_TO_VIDEO)
                return Path(index).parent
    return None


def check_model_folder(folder: Path, *pipelines: str) -> None:
    """Check in milliseconds that a pipeline folder is complete, without reading its weights.

    Args:
        folder: with MODEL_INDEX and a folder for each part.
        pipelines: classes it may be of; default TEXT_TO_VIDEO.

    Raises:
        ModelNotFoundError: there is no such folder.
        BrokenModelError: it is incomplete, damaged or of another class; names the file at fault.
    """
    if not folder.is_dir():
        raise ModelNotFoundError(f"There is no model folder {str(folder)!r}.")
    if not (folder / MODEL_INDEX).is_file():
        hint = ""
        if (folder / "config.json").is_file():
            hint = " It looks like one part of a pipeline: give the folder above it."
        raise BrokenModelError(f"{folder} holds no {MODEL_INDEX}, so it is no pipeline.{hint}")
    index = _read_json(folder / MODEL_INDEX)
    pipelines = pipelines or (TEXT_TO_VIDEO,)
    if index.get("_class_name") not in pipelines:
        raise BrokenModelError(
            f"{folder / MODEL_INDEX} describes a {index.get('_class_name')}, not a "
            f"{' or '.join(pipelines)}; only {_KINDS[len(pipelines)]} models are loaded here."
        )
    for part, entry in index.items():
        if part.startswith("_") or not isinstance(entry, list):  # settings of the pipeline
            continue
        if len(entry) != 2 or {type(name) for name in entry} not in ({str}, {type(None)}):
            raise BrokenModelError(
                f"{folder / MODEL_INDEX} is damaged: {part!r} should name a library and a class, "
                f"not {entry!r}. Copy or download the model again."
            )
        if entry[0] is not None:
            _check_part(folder / part)


def _check_part(folder: Path) -> None:
    if not folder.is_dir() or not any(folder.iterdir()):
        raise BrokenModelError(
            f"{folder.parent} lacks its part {folder.name!r}. Copy or download the model again."
        )
    if not (folder / "config.json").is_file():
        return  # a tokenizer or a scheduler: no weights
    _read_json(folder / "config.json")
    indexes = list(folder.glob("*.safetensors.index.json"))
    names = _shards(indexes[0]) if indexes else sorted(p.name for p in folder.glob("*.safetensors"))
    if not names:
        raise BrokenModelError(
            f"{folder} holds no .safetensors weights. Copy or download the model again."
        )
    for name in names:
        check_safetensors(folder / name)


def _shards(index: Path) -> list[str]:
    """The weight files that the index of a large model names, all of them in its own folder."""
    places = _read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise BrokenModelError(f"{index} is damaged: no weight_map. Download the model again.")
    names = set(places.values()) if all(isinstance(n, str) for n in places.values()) else {""}
    if wrong := [n for n in names if Path(n).name != n or not n.endswith(".safetensors")]:
        raise BrokenModelError(
            f"{index} is damaged: it names {wrong[0]!r}, no .safetensors file beside it."
        )
    return sorted(names)


def check_safetensors(path: Path) -> None:
    """Check that a .safetensors file is as long as its own header says; its data are not read.

    Raises:
        BrokenModelError: it is missing, cut off, damaged or a Git LFS pointer; names the file.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise BrokenModelError(f"The weight file {path} is missing. Download the model again.")
    with path.open("rb") as file:
        if file.read(8) == b"version ":
            raise BrokenModelError(
                f"{path} is a Git LFS pointer, not the weights. Run `git lfs pull`."
            )
    try:
        with safe_open(path, "np"):
            pass
    except SafetensorError as error:
        raise BrokenModelError(
            f"The weight file {path} is cut off or damaged ({path.stat().st_size:,} bytes; "
            f"{error}). Copy or download it again."
        ) from None


def _read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise BrokenModelError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise BrokenModelError(f"{path} should hold a JSON object.")
    return content
