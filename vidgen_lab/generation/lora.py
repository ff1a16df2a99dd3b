"""LoRA files: what one holds, whether it loads with effect and why not, and loading it.

diffusers loads a file with foreign key names without a word, or with one warning, and the video is
the base model's; a lost alpha doubles or halves an adapter. `inspect_lora` reads the file before it
is loaded, and `load_lora` refuses what would have no effect.
"""

import json
import re
import sys
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from vidgen_lab.files import file_sha256
from vidgen_lab.settings.weights import IMAGE_TO_VIDEO, TEXT_TO_VIDEO, check_model_folder

if TYPE_CHECKING:
    from diffusers import CogVideoXPipeline, CogVideoXTransformer3DModel

Shape = tuple[int, ...]

PREFIX = "transformer."
WEIGHTS = "pytorch_lora_weights.safetensors"  # the name diffusers looks for in a folder
OWN_FACTS = "vidgen_lab"  # key of the file's header: what we know of the training, as JSON

_PAIR = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
_FOREIGN = {  # how other tools begin their keys -> who they are
    "base_model.model.": "PEFT's own save_pretrained",
    "transformer_blocks.": "a bare state dict, without the prefix transformer.",
    "diffusion_model.": "ComfyUI or the original code",
    "lora_unet_": "kohya's tools",
    "lora_transformer_": "kohya's tools",
    "unet.": "an image model with a U-Net",
}
_WIDTHS = {1920: "CogVideoX-2B", 3072: "CogVideoX-5B or 1.5-5B"}


class LoRAError(ValueError):
    """A LoRA file that does not load, or would load without effect. The message says why."""


@dataclass(frozen=True)
class LoRAFile:
    """What `inspect_lora` finds.

    modules: (rank, input width, output width) by adapted module. alpha: as the loader will take
    it. scale: alpha / rank, by which the loader multiplies. problems: why it does not load, or
    not with effect; empty when it does. notes: what else to know. facts: what our own export says
    about the training.
    """

    path: Path
    sha256: str
    bytes: int
    dtypes: tuple[str, ...] = ()
    modules: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    alpha: float | None = None
    scale: float | None = None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def loads(self) -> bool:
        return not self.problems

    @property
    def ranks(self) -> tuple[int, ...]:
        return tuple(sorted({rank for rank, _, _ in self.modules.values()}))

    @property
    def parameters(self) -> int:
        return sum(rank * (inside + outside) for rank, inside, outside in self.modules.values())

    @property
    def targets(self) -> dict[str, int]:
        """How many modules of each name: {"attn1.to_q": 30, ...}."""
        return dict(Counter(re.sub(r"^\w+\.\d+\.", "", name) for name in self.modules))

    def describe(self) -> str:
        """A screen for people."""
        lines = [f"{self.path}: {self.bytes / 2**20:.2f} MiB, sha256 {self.sha256[:12]}"]
        if self.modules:
            targets = ", ".join(f"{name} x{count}" for name, count in self.targets.items())
            ranks = " and ".join(map(str, self.ranks))
            widths = sorted({inside for _, inside, _ in self.modules.values()})
            made_for = next((_WIDTHS[width] for width in widths if width in _WIDTHS), "")
            lines += [
                f"Targets     {targets}",
                f"Rank        {ranks}, alpha {self.alpha:g}, so its strength is {self.scale:g}",
                f"Parameters  {self.parameters:,} in {', '.join(self.dtypes)}",
                f"Widths      {', '.join(map(str, widths))}{f' ({made_for})' if made_for else ''}",
            ]
        lines += [f"{name:<11} {value}" for name, value in self.facts.items()]
        lines += [f"Note: {note}" for note in self.notes]
        lines += [f"Problem: {problem}" for problem in self.problems]
        lines.append("It loads, with effect." if self.loads else "It does not load with effect.")
        return "\n".join(lines)


def find_lora(file: str | Path) -> Path:
    """The safetensors file meant: itself, or the one in a folder. LoRAError when there is none."""
    path = Path(file)
    if path.is_dir():
        found = [path / WEIGHTS] if (path / WEIGHTS).is_file() else sorted(path.glob("*.safeten*"))
        if len(found) != 1:
            raise LoRAError(f"{path} holds {len(found)} .safetensors files: name the one you mean")
        return found[0]
    if not path.is_file():
        raise LoRAError(f"there is no LoRA file {path}")
    if path.suffix != ".safetensors":
        raise LoRAError(
            f"{path.name} is no .safetensors file; other formats can run code when they are opened,"
            " so convert it where you trust it"
        )
    return path


def inspect_lora(
    file: str | Path, model: "CogVideoXTransformer3DModel | str | Path | None" = None
) -> LoRAFile:
    """What a LoRA file targets, its rank, and whether it will load with effect (book row 5.25).

    model: also check names and shapes against it; a transformer, or a pipeline's folder (only its
    configuration is read). Raises LoRAError when there is no such file, or it cannot be read.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    path = find_lora(file)
    try:
        with safe_open(path, "pt") as opened:
            header = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise LoRAError(f"{path} is damaged or no safetensors file: {error}") from None
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    modules, problems = _pairs(shapes)
    settings = _settings(header)
    ranks = {rank for rank, _, _ in modules.values()}
    if settings and not settings.get("rank_pattern"):
        said = settings.get("r")
        problems += tuple(
            f"its header says rank {said}, its tensors {rank}" for rank in ranks if rank != said
        )
    ups = [tensor for name, tensor in tensors.items() if ".lora_B." in name]
    if ups and not any(tensor.count_nonzero() for tensor in ups):
        problems += ("every lora_B is zero, so it changes nothing: it was never trained",)
    if broken := [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]:
        problems += (f"{len(broken)} tensors hold NaN or infinity, {broken[0]} first",)
    if modules and model is not None:
        problems += _mismatches(modules, linear_shapes(model))
    rank = settings.get("r") or max(ranks, default=None)
    alpha = settings.get("lora_alpha", rank)
    return LoRAFile(
        path,
        file_sha256(path),
        path.stat().st_size,
        tuple(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()})),
        modules,
        alpha,
        alpha / rank if rank else None,
        problems,
        _notes(header, settings),
        _json(header.get(OWN_FACTS)),
    )


def load_lora(
    pipe: "CogVideoXPipeline", *files: str | Path, scales: tuple[float, ...] = ()
) -> None:
    """Load LoRA files into a pipeline side by side, each at its scale (default 1).

    At scale 0 a file changes nothing, at 1 it has the strength it was trained with. The clips'
    recipes name the files from then on. Raises LoRAError, before any is loaded, when one does not
    fit the pipeline's model or would have no effect.
    """
    scales = scales or (1.0,) * len(files)
    if len(scales) != len(files):
        raise LoRAError(f"{len(files)} LoRA files and {len(scales)} scales: give one for each")
    found = [inspect_lora(file, pipe.transformer) for file in files]
    for one in found:
        if one.problems:
            raise LoRAError(f"{one.path} would have no effect: {'; '.join(one.problems)}")
    if not found:
        return
    hide_old_torchao()
    loaded = dict(getattr(pipe, "adapters", {}))
    for one, scale in zip(found, scales, strict=True):
        name = f"lora_{len(loaded)}"
        with warnings.catch_warnings():  # PEFT's, that several adapters are meant to be there
            warnings.filterwarnings("ignore", "Already found a `peft_config`")
            pipe.load_lora_weights(one.path.parent, weight_name=one.path.name, adapter_name=name)
        loaded[name] = {"file": str(one.path), "sha256": one.sha256, "scale": scale}
    pipe.adapters = loaded
    set_scales(pipe, *(entry["scale"] for entry in loaded.values()))


def set_scales(pipe: "CogVideoXPipeline", *scales: float) -> None:
    """Change the scales of what `load_lora` loaded, in its order, without loading anything anew.

    Raises LoRAError unless there is one for each.
    """
    adapters = getattr(pipe, "adapters", {})
    if len(scales) != len(adapters):
        raise LoRAError(f"{len(adapters)} LoRA files and {len(scales)} scales: give one for each")
    pipe.set_adapters(list(adapters), [float(scale) for scale in scales])
    pipe.adapters = {
        name: entry | {"scale": float(scale)}
        for (name, entry), scale in zip(adapters.items(), scales, strict=True)
    }


def active_adapters(pipe: Any) -> list[dict[str, Any]]:
    """What is loaded into a pipeline: file, sha256 and scale of each, in order.

    An adapter that somebody else loaded has its name and no file: nobody can say what it is.
    """
    known = getattr(pipe, "adapters", {})
    there = getattr(pipe.transformer, "peft_config", {})
    unknown = {"file": None, "sha256": None, "scale": None}
    return [known.get(name, {"name": name} | unknown) for name in there]


def load_recorded(pipe: "CogVideoXPipeline", adapters: list[dict[str, Any]]) -> None:
    """Load what a recipe says was loaded. LoRAError when a file is gone or has changed since."""
    for entry in adapters:
        if entry["file"] is None:
            raise LoRAError("the recipe's clip was made with an adapter that came from no file")
        if file_sha256(find_lora(entry["file"])) != entry["sha256"]:
            raise LoRAError(f"{entry['file']} is not the file that the recipe's clip was made with")
    scales = tuple(float(entry["scale"]) for entry in adapters)
    load_lora(pipe, *(entry["file"] for entry in adapters), scales=scales)


def hide_old_torchao() -> None:
    """Let PEFT work beside a torchao older than it supports, such as Colab's 0.10.

    PEFT raises ImportError for it even where nothing is quantised. It is asked once while torchao
    is hidden, and remembers the answer: torchao itself stays importable.
    """
    from peft import import_utils

    try:
        import_utils.is_torchao_available()
    except ImportError:
        with patch.dict(sys.modules, {"torchao": None}):
            import_utils.is_torchao_available()


def _pairs(shapes: Mapping[str, Shape]) -> tuple[dict[str, tuple[int, int, int]], tuple[str, ...]]:
    """(rank, in, out) by module, and what is wrong with the keys."""
    if not any("lora" in name for name in shapes):
        return {}, ("no key speaks of LoRA: these are a model's full weights, or something else",)
    sides: dict[str, dict[str, Shape]] = {}
    odd = []
    for name, shape in shapes.items():
        match = _PAIR.fullmatch(name.removeprefix(PREFIX))
        if name.startswith(PREFIX) and match and len(shape) in (2, 4):
            sides.setdefault(match["module"], {})[match["side"]] = shape
        else:
            odd.append(name)
    problems = (_odd_names(odd, bool(sides)),) if odd else ()
    modules = {}
    for module, pair in sides.items():
        if set(pair) != {"A", "B"}:
            problems += (f"{module} has only one of lora_A and lora_B",)
        elif not pair["A"][0] == pair["B"][1] > 0:
            problems += (f"{module}: lora_A has rank {pair['A'][0]}, lora_B {pair['B'][1]}",)
        else:
            modules[module] = pair["A"][0], pair["A"][1], pair["B"][0]
    return modules, problems


def _odd_names(odd: list[str], some_fit: bool) -> str:
    maker = next((who for start, who in _FOREIGN.items() if odd[0].startswith(start)), "")
    if any(name.endswith(".alpha") for name in odd):
        return f"{odd[0]} and others hold alpha as tensors (kohya's tools): diffusers refuses them"
    fate = "these are left out" if some_fit else "diffusers takes none of them and says nothing"
    return (
        f"{len(odd)} keys do not begin with {PREFIX!r} and end in .lora_A.weight or .lora_B.weight,"
        f" such as {odd[0]}{f' ({maker})' if maker else ''}: {fate}"
    )


def _settings(header: Mapping[str, str]) -> dict[str, Any]:
    """The adapter's LoraConfig as diffusers will read it: r, lora_alpha, rank_pattern, ..."""
    from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY

    saved = _json(header.get(LORA_ADAPTER_METADATA_KEY))
    found = {n.removeprefix(PREFIX): v for n, v in saved.items() if n.startswith(PREFIX)}
    for name in ("r", "lora_alpha"):
        if name in found and not _positive(found[name]):
            raise LoRAError(f"its header is damaged: {name} is {found[name]!r}")
    return found


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and value > 0


def _json(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except json.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _notes(header: Mapping[str, str], settings: Mapping[str, Any]) -> tuple[str, ...]:
    if settings:
        return ()
    if other := _json(header.get("lora_config")):
        r, alpha = other.get("r"), other.get("lora_alpha")
        if _positive(r) and _positive(alpha) and r != alpha:
            return (
                f"finetrainers wrote rank {r}, alpha {alpha} where diffusers does not look: "
                f"its trained strength is scale {alpha / r:g}",
            )
    return (
        "it does not say its alpha, and diffusers then takes alpha = rank. Trained by CogVideo's "
        "own trainer at its defaults (rank 128, alpha 64), its strength is scale 0.5, not 1",
    )


def linear_shapes(model: Any) -> dict[str, tuple[int, int]]:
    """(in, out) of every layer that can be adapted, whether adapters are on it or not.

    model: a transformer, or the folder of a pipeline (only its configuration is read).
    """
    import torch

    if isinstance(model, str | Path):
        from diffusers import CogVideoXTransformer3DModel

        check_model_folder(Path(model), TEXT_TO_VIDEO, IMAGE_TO_VIDEO)
        config = CogVideoXTransformer3DModel.load_config(Path(model) / "transformer")
        with torch.device("meta"):
            model = CogVideoXTransformer3DModel.from_config(config)
    shapes = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            shapes[name.removesuffix(".base_layer")] = module.in_features, module.out_features
        elif isinstance(module, torch.nn.Conv2d):
            shapes[name.removesuffix(".base_layer")] = module.in_channels, module.out_channels
    return shapes


def _mismatches(
    modules: Mapping[str, tuple[int, int, int]], layers: Mapping[str, tuple[int, int]]
) -> tuple[str, ...]:
    """Why a file does not fit a model, all of one kind in one line."""
    problems: tuple[str, ...] = ()
    if absent := [name for name in modules if name not in layers]:
        problems += (
            f"{len(absent)} of its {len(modules)} modules are not in this model, {absent[0]} first",
        )
    for name, (_, inside, outside) in modules.items():
        if name in layers and layers[name] != (inside, outside):
            of = _WIDTHS.get(inside, f"a model of width {inside}")
            has = "x".join(map(str, layers[name]))
            problems += (f"it was made for {of}: {name} is {inside}x{outside}, here {has}",)
            break
    return problems
