"""The prompt panel with a strength slider for every loaded adapter."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from vidgen_lab.generation.lora import set_scales
from vidgen_lab.generation.request import GenerationRequest
from vidgen_lab.workbook.panels.base import control
from vidgen_lab.workbook.panels.prompt import PromptPanel

if TYPE_CHECKING:
    from diffusers import CogVideoXPipeline


class AdapterPanel(PromptPanel):
    """Switch adapters on and off, turn each up and down, press Generate.

    pipe: with the files that `load_lora` loaded. names: what to call them, in that order.
    Attributes: `scales` (what the sliders say now; 0 for an adapter that is switched off).
    """

    def __init__(
        self,
        pipe: "CogVideoXPipeline",
        request: GenerationRequest,
        names: Sequence[str],
        ideas: Sequence[str] = (),
    ) -> None:
        self.names = list(names)
        start = [entry["scale"] for entry in pipe.adapters.values()]
        self.switches, self.sliders = [], []
        for name, scale in zip(self.names, start, strict=True):
            self.switches.append(w.Checkbox(scale != 0, description=name, indent=False))
            ends = {"min": min(0.0, scale), "max": max(1.5, scale)}
            strength = {"value": scale or 1.0, "step": 0.25} | ends
            self.sliders.append(control(w.FloatSlider, "strength", **strength))
        super().__init__(pipe, request, ideas)
        rows = [w.HBox(list(pair)) for pair in zip(self.switches, self.sliders, strict=True)]
        self.box.children = (*rows, *self.box.children)

    @property
    def scales(self) -> tuple[float, ...]:
        pairs = zip(self.switches, self.sliders, strict=True)
        return tuple(slider.value if switch.value else 0.0 for switch, slider in pairs)

    def summary(self) -> str:
        pairs = zip(self.names, self.scales, strict=True)
        return f"{super().summary()}; " + ", ".join(f"{name} {scale:g}" for name, scale in pairs)

    def _work(self, *given: Any) -> None:
        set_scales(self.pipe, *self.scales)
        super()._work(*given)
