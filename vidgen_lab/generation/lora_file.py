"""LoRA files: what one holds, and whether it loads with effect or why not.

diffusers loads a file with foreign key names without a word, or with one warning, and the video is
the base model's; a lost alpha doubles or halves an adapter. `inspect_lora` reads the file before it
is loaded.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidgen_lab.files import file_sha256
from vidgen_lab.settings.weights import IMAGE_TO_VIDEO, TEXT_TO_VIDEO, check_model_folder

if TYPE_CHECKING:
    import torch
    from diffusers import CogVideoXTransformer3DModel

PREFIX = "transformer."
WEIGHTS = "pytorch_lora_weights.safetensors"  # the name diffusers looks for in a folder
SETTINGS = "lora_adapter_metadata"  # key of the file's header: the LoraConfig, as JSON
OWN_FACTS = "vidgen_lab"  # likewise: what we know of the training

_PAIR = re.compile(r"transformer\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
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

    Attributes:
        modules: (rank, input width, output width) by adapted module.
        alpha: as the loader will take it; None in a file without modules.
        scales: by what the loader multiplies the update of each module, mostly alpha / rank.
        problems: why it does not load, or not with effect; empty when it does.
        notes: what else to know.
        facts: what our own export says about the training.
    """

    path: Path
    sha256: str
    bytes: int
    dtypes: tuple[str, ...] = ()
    modules: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    alpha: float | None = None
    scales: Mapping[str, float] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def loads(self) -> bool:
        """Whether diffusers loads it, with effect."""
        return not self.problems

    @property
    def ranks(self) -> tuple[int, ...]:
        """All ranks of its modules, the lowest first."""
        return tuple(sorted({rank for rank, _, _ in self.modules.values()}))

    @property
    def parameters(self) -> int:
        """Numbers in it: rank * (input width + output width), over all modules."""
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
            strength = " and ".join(f"{scale:g}" for scale in sorted(set(self.scales.values())))
            widths = sorted({inside for _, inside, _ in self.modules.values()})
            made_for = next((_WIDTHS[width] for width in widths if width in _WIDTHS), "")
            lines += [
                f"Targets     {targets}",
                f"Rank        {ranks}, alpha {self.alpha:g}, so its strength is {strength}",
                f"Parameters  {self.parameters:,} in {', '.join(self.dtypes)}",
                f"Widths      {', '.join(map(str, widths))}{f' ({made_for})' if made_for else ''}",
            ]
        lines += [f"{name:<11} {value}" for name, value in self.facts.items()]
        lines += [f"Note: {note}" for note in self.notes]
        lines += [f"Problem: {problem}" for problem in self.problems]
        lines.append("It loads, with effect." if self.loads else "It does not load with effect.")
        return "\n".join(lines)


def find_lora(file: str | Path) -> Path:
    """The safetensors file meant: itself, or the one in a folder. LoRAError unless there is one."""
    path = Path(file)
    if path.is_dir():
        found = [path / WEIGHTS] if (path / WEIGHTS).is_file() else sorted(path.glob("*.safeten*"))
        if len(found) != 1:
            many = len(found) or "no"
            raise LoRAError(f"{path} holds {many} .safetensors files: name the one you mean")
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

    Args:
        file: a .safetensors file, or a folder with one.
        model: also check names and shapes against it; a transformer, or a pipeline's folder (only
            its configuration is read).

    Raises:
        LoRAError: there is no such file, or it cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    path = find_lora(file)
    try:
        with safe_open(path, "pt") as opened:
            header = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise LoRAError(f"{path} is damaged or no safetensors file: {error}") from None
    modules, problems = _pairs(tensors)
    try:
        alpha, scales, wrong = _strengths(header, modules)
    except (ArithmeticError, AttributeError, TypeError, ValueError, re.error) as error:
        raise LoRAError(f"{path}: its header is damaged, or of a newer PEFT: {error}") from None
    problems += wrong
    ups = [tensor.float() for name, tensor in tensors.items() if ".lora_B." in name]
    if ups and not any(tensor.any() for tensor in ups):
        problems.append("every lora_B is zero, so it changes nothing: it was never trained")
    if broken := [n for n, tensor in tensors.items() if not tensor.float().isfinite().all()]:
        problems.append(f"{len(broken)} tensors hold NaN or infinity, {broken[0]} first")
    dtypes = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()})
    if whole := [dtype for dtype in dtypes if "float" not in dtype]:
        problems.append(
            f"its tensors are {' and '.join(whole)}: diffusers takes floating point only"
        )
    if modules and model is not None:
        problems += _mismatches(modules, linear_shapes(model))
    return LoRAFile(
        path,
        file_sha256(path),
        path.stat().st_size,
        tuple(dtypes),
        modules,
        alpha,
        scales,
        tuple(problems),
        _notes(header) if modules else (),
        _json(header.get(OWN_FACTS)),
    )


def _pairs(
    tensors: Mapping[str, "torch.Tensor"],
) -> tuple[dict[str, tuple[int, int, int]], list[str]]:
    """(rank, in, out) by module, and what is wrong with the keys."""
    if not any("lora" in name for name in tensors):
        return {}, ["no key speaks of LoRA: these are a model's full weights, or something else"]
    found = {name: _PAIR.fullmatch(name) for name, one in tensors.items() if one.ndim in (2, 4)}
    odd = [name for name in tensors if not found.get(name)]
    problems = [_odd_names(odd, len(odd) < len(tensors))] if odd else []
    sides: dict[str, dict[str, torch.Size]] = {}
    for name, match in found.items():
        if match:
            sides.setdefault(match["module"], {})[match["side"]] = tensors[name].shape
    modules = {}
    for module, pair in sides.items():
        if len(pair) < 2:
            problems.append(f"{module} has only one of lora_A and lora_B")
        elif not pair["A"][0] == pair["B"][1] > 0:
            problems.append(f"{module}: lora_A has rank {pair['A'][0]}, lora_B {pair['B'][1]}")
        else:
            modules[module] = pair["A"][0], pair["A"][1], pair["B"][0]
    return modules, problems


def _odd_names(odd: list[str], some_fit: bool) -> str:
    maker = next((who for start, who in _FOREIGN.items() if odd[0].startswith(start)), "")
    if alphas := [name for name in odd if name.endswith(".alpha")]:
        return f"{alphas[0]} holds an alpha as a tensor (kohya's tools), which diffusers cannot use"
    fate = "diffusers takes none of them and says nothing"
    return (
        f"{len(odd)} keys do not begin with {PREFIX!r} and end in .lora_A.weight or .lora_B.weight,"
        f" such as {odd[0]}{f' ({maker})' if maker else ''}: "
        f"{'without them the rest is another adapter' if some_fit else fate}"
    )


def _strengths(
    header: Mapping[str, str], modules: Mapping[str, tuple[int, int, int]]
) -> tuple[float | None, dict[str, float], list[str]]:
    """alpha, the scale of every module, and what is wrong with the ranks.

    All as PEFT reads the header, or as diffusers works it out where there is none. Many kinds of
    errors where it makes no sense.
    """
    from diffusers.utils.peft_utils import get_peft_kwargs
    from peft import LoraConfig
    from peft.utils.other import get_pattern_key

    if not modules:
        return None, {}, []
    if (text := header.get(SETTINGS)) is not None:
        saved = json.loads(text).items()
        config = LoraConfig(**{n.removeprefix(PREFIX): v for n, v in saved if PREFIX in n})
    else:
        ranks = {f"^{name}.lora_B.weight": rank for name, (rank, _, _) in modules.items()}
        config = LoraConfig(**get_peft_kwargs(ranks, None, modules))
    if not (isinstance(config.r, int) and _positive(config.r) and _positive(config.lora_alpha)):
        raise ValueError(f"r is {config.r!r}, lora_alpha is {config.lora_alpha!r}")
    if config.target_modules is None:
        raise ValueError("it names no target_modules, and diffusers needs them")

    def said(pattern: Mapping[str, Any], name: str, otherwise: float) -> Any:
        return pattern.get(get_pattern_key(pattern, name), otherwise)

    scales, unequal = {}, set()
    for name, (rank, _, _) in modules.items():
        alpha = said(config.alpha_pattern, name, config.lora_alpha)
        scales[name] = alpha / (math.sqrt(rank) if config.use_rslora else rank)
        if (told := said(config.rank_pattern, name, config.r)) != rank:
            unequal.add(f"its header says rank {told}, its tensors {rank}")
    return config.lora_alpha, scales, sorted(unequal)


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and value > 0


def _json(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _notes(header: Mapping[str, str]) -> tuple[str, ...]:
    if SETTINGS in header:
        return ()
    other = _json(header.get("lora_config"))
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

    Args:
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
) -> list[str]:
    """Why a file does not fit a model, all of one kind in one line."""
    problems, absent = [], [name for name in modules if name not in layers]
    if absent:
        problems.append(
            f"{len(absent)} of its {len(modules)} modules are not in this model, {absent[0]} first"
        )
    for name, (_, inside, outside) in modules.items():
        if name in layers and layers[name] != (inside, outside):
            of = _WIDTHS.get(inside, f"a model of width {inside}")
            has = "x".join(map(str, layers[name]))
            return [*problems, f"it was made for {of}: {name} is {inside}x{outside}, here {has}"]
    return problems
