"""LoRA files in a pipeline: loading what has an effect, its strength, and what is at work.

What a file holds, and why it would have no effect, says `lora_file.inspect_lora`.
"""

import itertools
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidgen_lab.files import file_sha256
from vidgen_lab.generation.lora_file import LoRAError, find_lora, inspect_lora

if TYPE_CHECKING:
    from diffusers import CogVideoXPipeline


def load_lora(
    pipe: "CogVideoXPipeline", *files: str | Path, scales: tuple[float, ...] = ()
) -> None:
    """Load LoRA files into a pipeline side by side, each at its scale; without `scales`, at 1.

    A file is a .safetensors file, or a folder with one. At scale 0 it changes nothing, at 1 it has
    the strength it was trained with. What was loaded before stays, at its scales. The clips'
    recipes name the files from then on.

    Raises:
        LoRAError: before any is loaded: a file does not fit the pipeline's model or would have no
            effect, or there is not one finite scale for each.
    """
    from vidgen_lab.generation.stock import hide_old_torchao

    wanted = _one_each(len(files), scales or (1.0,) * len(files))
    found = [inspect_lora(file, pipe.transformer) for file in files]
    for one in found:
        if one.problems:
            raise LoRAError(f"{one.path} would have no effect: {'; '.join(one.problems)}")
    if not found:
        return
    hide_old_torchao()
    loaded = _still_loaded(pipe)
    before = [entry["scale"] for entry in loaded.values()]
    for one in found:
        taken = getattr(pipe.transformer, "peft_config", {})
        name = next(n for n in map("lora_{}".format, itertools.count()) if n not in taken)
        with warnings.catch_warnings():  # PEFT's, that several adapters are meant to be there
            warnings.filterwarnings("ignore", "Already found a `peft_config`")
            pipe.load_lora_weights(one.path.parent, weight_name=one.path.name, adapter_name=name)
        # from the root on, so that a recipe can be repeated in any working directory
        loaded[name] = {"file": str(one.path.absolute()), "sha256": one.sha256}
    pipe.transformer.eval()  # the dropout of a new adapter is not, where its file asks for one
    pipe.adapters = loaded
    set_scales(pipe, *before, *wanted)


def set_scales(pipe: "CogVideoXPipeline", *scales: float) -> None:
    """Change the scales of what `load_lora` loaded, in its order, without loading anything anew.

    What was fused into the weights is taken out first: it would stay there at its old scale.

    Raises:
        LoRAError: there is not one finite scale for each.
    """
    loaded = _still_loaded(pipe)
    by_name = dict(zip(loaded, _one_each(len(loaded), scales), strict=True))
    if any(getattr(layer, "merged", False) for layer in pipe.transformer.modules()):
        pipe.unfuse_lora()
    pipe.set_adapters(list(by_name), list(by_name.values()))
    pipe.adapters = {name: loaded[name] | {"scale": scale} for name, scale in by_name.items()}


def _one_each(files: int, scales: Sequence[float]) -> list[float]:
    if len(scales) != files:
        raise LoRAError(f"{files} LoRA files and {len(scales)} scales: give one for each")
    if not all(map(math.isfinite, scales)):
        raise LoRAError(f"a scale must be finite: {', '.join(map(str, scales))}")
    return [float(scale) for scale in scales]


def _still_loaded(pipe: Any) -> dict[str, dict[str, Any]]:
    """What `load_lora` loaded and nobody has unloaded since, by adapter."""
    there = getattr(pipe.transformer, "peft_config", {})
    return {name: entry for name, entry in getattr(pipe, "adapters", {}).items() if name in there}


def active_adapters(pipe: Any) -> list[dict[str, Any]]:
    """What is at work in a pipeline: file, sha256 and scale of each, in order.

    The scale is read off the layers, whoever set it. An adapter that somebody else loaded, or that
    was unloaded while it was fused, has its name and no file: nobody can say what it is.
    """
    known, found, there = _still_loaded(pipe), {}, getattr(pipe.transformer, "peft_config", {})
    nothing = {"file": None, "sha256": None, "scale": None}
    for layer in pipe.transformer.modules():
        if getattr(layer, "disable_adapters", True):  # it has none, or they are switched off
            continue
        for name in set(layer.active_adapters) & set(layer.scaling) - set(found):
            if name not in known:
                found[name] = {"name": name} | nothing
                continue
            root = 0.5 if there[name].use_rslora else 1
            at_one = layer.lora_alpha[name] / layer.r[name] ** root
            found[name] = known[name] | {"scale": round(layer.scaling[name] / at_one, 9)}
    stuck = sorted(set(getattr(pipe, "fused_loras", ())) - set(there))
    return [found[name] for name in there if name in found] + [{"name": n} | nothing for n in stuck]


def load_recorded(pipe: "CogVideoXPipeline", adapters: list[dict[str, Any]]) -> None:
    """Load what a recipe says was loaded. LoRAError when a file is gone or has changed since."""
    for entry in adapters:
        if entry["file"] is None:
            raise LoRAError("the recipe's clip was made with an adapter that came from no file")
        if file_sha256(find_lora(entry["file"])) != entry["sha256"]:
            raise LoRAError(f"{entry['file']} is not the file that the recipe's clip was made with")
    scales = tuple(float(entry["scale"]) for entry in adapters)
    load_lora(pipe, *(entry["file"] for entry in adapters), scales=scales)
