"""A calculator: what a fine-tuning takes on the reader's own GPU, and what would fit."""

from typing import Any

import ipywidgets as w
import pandas as pd

from vidgen_lab.finetuning.scaling import profile_for
from vidgen_lab.training.parallel.plan import TRANSFORMERS, TrainingPlan, plan_training
from vidgen_lab.workbook.panels.base import Panel, control

MODELS = [name for name in TRANSFORMERS if name.startswith("CogVideoX")]


class MemoryPanel(Panel):
    """Choose model, method, cards and memory; the forecast and the advice follow at once.

    memory_gib: of one card. Attribute: `plan` (the forecast for what the controls say now).
    """

    def __init__(self, memory_gib: float) -> None:
        menus = {  # label, choices, the one to begin with
            "model": ("model", MODELS, "CogVideoX-2B"),
            "method": ("method", ["lora", "sft"], "lora"),
            "rank": ("rank of LoRA", [4, 16, 64, 128, 256], 128),
            "gpus": ("GPUs", [1, 2, 4, 8], 1),
        }
        self.controls: dict[str, Any] = {
            name: control(w.Dropdown, label, options=choices, value=value)
            for name, (label, choices, value) in menus.items()
        }
        gib = control(w.BoundedFloatText, "GiB of each", value=memory_gib, min=1, max=288)
        ticked = w.Checkbox(True, description="gradient checkpointing", indent=False)
        self.controls |= {"memory": gib, "checkpointing": ticked}
        self.view = w.HTML()
        for each in self.controls.values():
            each.observe(lambda _: self._show(), names="value")
        c = list(self.controls.values())
        self.box = w.VBox([*(w.HBox(c[at : at + 2]) for at in (0, 2, 4)), self.view])
        self._show()

    @property
    def plan(self) -> TrainingPlan:
        c = {name: control.value for name, control in self.controls.items()}
        return plan_training(
            c["model"],
            rank=c["rank"] if c["method"] == "lora" else 0,
            checkpointing=c["checkpointing"],
            strategy="fsdp2" if c["gpus"] > 1 else "ddp",
            gpus=c["gpus"],
            tiling=True,
        )

    @property
    def fits(self) -> bool:
        return self.plan.fits(self.controls["memory"].value)

    def summary(self) -> str:
        c = {name: control.value for name, control in self.controls.items()}
        verdict = "fits" if self.fits else "does not fit"
        try:
            best = profile_for(c["memory"], c["gpus"], c["method"] == "sft").recipe
            advice = f"the largest recipe that fits: {best}"
        except ValueError as error:
            advice = str(error).partition(":")[0]
        return (
            f"{c['model']} by {c['method']} takes {self.plan.training_peak:.1f} GiB to train and "
            f"{self.plan.validation_peak:.1f} to look at a clip: it {verdict} {c['gpus']} x "
            f"{c['memory']:g} GiB; {advice}"
        )

    def _show(self) -> None:
        parts = {"training": self.plan.training, "validation": self.plan.validation}
        sizes = pd.DataFrame(parts).fillna(0.0).round(2)
        self.view.value = f"{sizes.to_html()}<p>{self.summary()}</p>"
