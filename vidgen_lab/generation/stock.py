"""Stock diffusers, whatever its version; and as a script what it alone makes of LoRA files.

    python -P stock.py FOLDER

FOLDER/jobs.pt lists the jobs: {"base": pipeline folder, "pipeline": class, "dtype": of the base,
"quantize": see `quantized`, "lora": file, "inputs": of the transformer}. Written to FOLDER/found.pt
for each: what it says before the LoRA file is loaded, with it, and with it at scale 0.
Nothing of vidgen_lab is imported: what works here works for everybody.
"""

import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import diffusers
import torch
from accelerate.utils import send_to_device
from packaging.version import Version

# 0.40 renamed it; each version warns about, or ignores, the other.
DTYPE = "dtype" if Version(diffusers.__version__) >= Version("0.40.0") else "torch_dtype"


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


def quantized(kind: str, dtype: torch.dtype) -> dict[str, Any]:
    """What makes `from_pretrained` give "int8" weights, or "int4" computing in `dtype`; else {}."""
    if kind == "int8":
        from torchao.quantization import Int8WeightOnlyConfig

        return {"quantization_config": diffusers.TorchAoConfig(Int8WeightOnlyConfig())}
    if kind == "int4":
        four = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": dtype}
        return {"quantization_config": diffusers.BitsAndBytesConfig(load_in_4bit=True, **four)}
    return {}


def run(job: dict[str, Any]) -> dict[str, torch.Tensor]:
    """What diffusers' own pipeline computes with a LoRA file.

    That is the transformer's output, float32 [B, T, C, h, w], with the "base" alone, with the file
    "reloaded", and with it at "scale_0".

    Args:
        job: base (folder of the pipeline), pipeline (its class), lora (file), dtype, quantize, and
            inputs, the arguments of the transformer.
    """
    nothing = {name: None for name in ("vae", "text_encoder", "tokenizer")}
    dtype = {DTYPE: job["dtype"]}
    part = diffusers.CogVideoXTransformer3DModel.from_pretrained(
        Path(job["base"]) / "transformer", **dtype, **quantized(job["quantize"], job["dtype"])
    )
    kind = getattr(diffusers, job["pipeline"])
    pipe = kind.from_pretrained(job["base"], transformer=part, **nothing, **dtype)
    given = send_to_device(job["inputs"], part.device)

    @torch.no_grad()
    def output() -> torch.Tensor:
        return pipe.transformer(**given, return_dict=False)[0].float().cpu()

    found = {"base": output()}
    lora = Path(job["lora"])
    pipe.load_lora_weights(lora.parent, weight_name=lora.name, adapter_name="checked")
    found["reloaded"] = output()
    pipe.set_adapters(["checked"], [0.0])
    return found | {"scale_0": output()}


if __name__ == "__main__":
    assert "vidgen_lab" not in sys.modules
    hide_old_torchao()
    folder = Path(sys.argv[1])
    jobs = torch.load(folder / "jobs.pt", weights_only=True)
    torch.save([run(job) for job in jobs], folder / "found.pt")
