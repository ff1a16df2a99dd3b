"""What learns of a CogVideoX transformer: a LoRA through PEFT, and a layer for first frames.

The adapter goes on with diffusers' `add_adapter` and never with `get_peft_model`, whose keys no
pipeline finds again (erratum E03).
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from vidgen_lab.config import check_ranges
from vidgen_lab.generation.lora_file import linear_shapes

if TYPE_CHECKING:
    from diffusers import CogVideoXTransformer3DModel

ADAPTER = "default"  # the name under which diffusers' own helpers look for a trained adapter
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")


@dataclass(frozen=True)
class CogVideoLoRAConfig:
    """Where a LoRA sits and how large it is (book listing 5.L01).

    Attributes:
        rank: of the update B A.
        alpha: the update is scaled by alpha / rank; None makes it the rank, so that the strength is
            1 whatever the rank, in every loader.
        targets: the ends of the names of the linear layers to adapt.
        dropout: share of the adapter's input that is dropped while training.

    Raises:
        ValueError: the numbers make no adapter, or there are no targets.
    """

    rank: int = 64
    alpha: float | None = None
    targets: tuple[str, ...] = ATTENTION
    dropout: float = 0.0

    def __post_init__(self) -> None:
        some = 1e-9  # at alpha 0, or where all is dropped, nothing is learned
        check_ranges(self, rank=(1, math.inf), alpha=(some, math.inf), dropout=(0, 1 - some))
        if not self.targets:
            raise ValueError("targets names no layer")


@dataclass(frozen=True)
class Trainable:
    """How much of a model is trained: numbers of parameters, and of adapted layers."""

    trained: int
    total: int
    layers: int = 0

    def __str__(self) -> str:
        of = f" in {self.layers} layers" if self.layers else ""
        share = 100 * self.trained / max(1, self.total)
        return f"{self.trained:,} of {self.total:,} parameters are trained{of} ({share:.2f} %)"


def apply_lora_to_model(
    transformer: "CogVideoXTransformer3DModel",
    config: CogVideoLoRAConfig,
    seed: int = 0,
) -> Trainable:
    """Put a new adapter on a transformer and freeze all else (book listing 5.L02).

    A begins as small random numbers drawn from `seed`, the same on every device, and B as zeros, so
    the model still gives what it gave. The adapter's weights are float32 whatever the base is in:
    in bfloat16 a step of Adam is often smaller than the last digit.

    Raises:
        ValueError: a target matches no layer of this model, or it has such an adapter already.
    """
    from peft import LoraConfig
    from peft.tuners.lora import Linear

    from vidgen_lab.generation.stock import hide_old_torchao

    hide_old_torchao()
    layers, block = linear_shapes(transformer), "transformer_blocks.0."
    missing = (t for t in config.targets if not any(f".{n}".endswith(f".{t}") for n in layers))
    if unmatched := list(missing):
        there = [name.removeprefix(block) for name in layers if name.startswith(block)]
        raise ValueError(
            f"no layer of this model is called {' or '.join(unmatched)}; it has {', '.join(there)}"
        )
    transformer.requires_grad_(False)
    settings = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha or config.rank,
        target_modules=list(config.targets),
        lora_dropout=config.dropout,
    )
    transformer.add_adapter(settings, adapter_name=ADAPTER)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in transformer.named_parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
        if parameter.requires_grad and ".lora_A." in name:
            start = torch.empty(parameter.shape)
            nn.init.kaiming_uniform_(start, a=math.sqrt(5), generator=generator)
            parameter.data.copy_(start)
    for module in transformer.modules():
        if isinstance(module, Linear) and ADAPTER in module.lora_A:
            module.lora_variant[ADAPTER] = InOnePass
            module.cast_input_dtype_enabled = False  # InOnePass does it where it is needed
    return count_trainable(transformer)


class InOnePass:
    """PEFT's sum, result + B(A(x)) * scale, as one operation on the layer's output.

    Without the scale it is equation 3 of Hu et al. 2021, LoRA. PEFT goes over the output twice more
    each way, once to scale and once to add. Here the few numbers between A and B are scaled, and
    the product with B adds the rest: the same numbers but for rounding, for a tenth of a step less.
    In 16 bits without autocast, as a pipeline calculates, it is PEFT's own to the last bit. PEFT
    also widens to float32 what A reads, and autocast narrows it again, for an eighth of a step:
    here it is widened without autocast alone, where it must be. What PEFT asks of a LoraVariant.
    """

    @staticmethod
    def forward(
        module: Any, active_adapter: str, x: torch.Tensor, result: torch.Tensor, **_: Any
    ) -> torch.Tensor:
        """`result` [..., D_out], the layer's answer to x [..., D_in], with the adapter's update."""
        down, up = module.lora_A[active_adapter], module.lora_B[active_adapter]
        scale, mixed = module.scaling[active_adapter], torch.is_autocast_enabled(x.device.type)
        x = x if mixed else x.to(down.weight.dtype)
        inner = down(module.lora_dropout[active_adapter](x))  # [..., rank]
        plain = result.dtype == up.weight.dtype and result.dtype.itemsize > 2
        if not (plain or mixed):
            return result + up(inner) * scale
        flat = torch.addmm(result.flatten(0, -2), scale * inner.flatten(0, -2), up.weight.T)
        return flat.view_as(result)  # [..., D]

    @staticmethod
    def merge_safe(module: Any, active_adapter: str, orig_weight: torch.Tensor) -> torch.Tensor:
        """The layer's weight [D_out, D_in] with the update in it, as a new tensor."""
        return orig_weight + module.get_delta_weight(active_adapter).to(orig_weight)

    @staticmethod
    def merge_unsafe(module: Any, active_adapter: str, orig_weight: torch.Tensor) -> None:
        """Add the update to the layer's weight [D_out, D_in] in place."""
        orig_weight.data += module.get_delta_weight(active_adapter).to(orig_weight)

    @staticmethod
    def unmerge(module: Any, active_adapter: str, orig_weight: torch.Tensor) -> torch.Tensor:
        """The weight [D_out, D_in] as it was before the update, but for rounding."""
        return orig_weight - module.get_delta_weight(active_adapter).to(orig_weight)


def count_trainable(model: nn.Module) -> Trainable:
    """Parameters with a gradient and all others; an adapter's own do not count to the total."""
    sizes = [(n, p.numel(), p.requires_grad) for n, p in model.named_parameters()]
    layers = sum(".lora_A." in name and trained for name, _, trained in sizes)
    base = sum(size for name, size, _ in sizes if ".lora_" not in name)
    return Trainable(sum(size for _, size, trained in sizes if trained), base, layers)


def input_layer(transformer: nn.Module) -> nn.Module:
    """The layer that reads latents: what must be learned beside a LoRA to use the first frame."""
    return transformer.patch_embed.proj


def widen(transformer: "CogVideoXTransformer3DModel") -> None:
    """Let a text-to-video model read twice the channels: noisy latents, then the first frame's.

    As CogVideoX-5B-I2V was made: the new weights begin as zeros, so that before the first step the
    model says what it said, whatever the picture.
    """
    layer = input_layer(transformer)
    # [D, C, p, p], or [D, C*p_t*p*p] where frames are joined: channels come first in both
    layer.weight = nn.Parameter(torch.cat([layer.weight, torch.zeros_like(layer.weight)], dim=1))
    width = "in_channels" if isinstance(layer, nn.Conv2d) else "in_features"
    setattr(layer, width, 2 * getattr(layer, width))
    transformer.register_to_config(in_channels=2 * transformer.config.in_channels)
