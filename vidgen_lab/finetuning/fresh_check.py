"""Run the models of some jobs with stock diffusers alone: a script for a process of its own.

    python -P fresh_check.py FOLDER

FOLDER/jobs.json lists the jobs: {"base": pipeline folder, "pipeline": class, "dtype": name,
"quantize": see `quantized`, "lora": file, "inputs": file, "out": file}. Written to `out`: the
transformer's output for `inputs` before the LoRA file is loaded, with it, and with it at scale 0.
Nothing of vidgen_lab is imported: what works here works for everybody.
"""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import diffusers
import torch
from packaging.version import Version
from safetensors.torch import load_file, save_file

DTYPE = "dtype" if Version(diffusers.__version__) >= Version("0.40.0") else "torch_dtype"


def quantized(kind: str, dtype: torch.dtype) -> dict[str, Any]:
    """What makes `from_pretrained` give weights of "int8" or "int4"; nothing for "none"."""
    if kind == "int8":
        from torchao.quantization import Int8WeightOnlyConfig

        return {"quantization_config": diffusers.TorchAoConfig(Int8WeightOnlyConfig())}
    if kind == "int4":
        four = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": dtype}
        return {"quantization_config": diffusers.BitsAndBytesConfig(load_in_4bit=True, **four)}
    return {}


def bits(transformer: torch.nn.Module) -> str:
    """The kind that a model was loaded as."""
    method = getattr(transformer, "quantization_method", None)  # set by diffusers
    return {None: "none", "torchao": "int8"}.get(method, "int4")


def run(job: dict[str, str]) -> None:
    nothing = {name: None for name in ("vae", "text_encoder", "tokenizer")}
    dtype = getattr(torch, job["dtype"])
    part = diffusers.CogVideoXTransformer3DModel.from_pretrained(
        Path(job["base"]) / "transformer", **{DTYPE: dtype}, **quantized(job["quantize"], dtype)
    )
    kind = getattr(diffusers, job["pipeline"])
    pipe = kind.from_pretrained(job["base"], transformer=part, **nothing, **{DTYPE: dtype})
    tensors = load_file(job["inputs"], str(part.device))
    rotary = [tensors.pop(name) for name in ("cos", "sin") if name in tensors]
    given = tensors | {"image_rotary_emb": tuple(rotary) or None, "return_dict": False}

    @torch.no_grad()
    def output() -> torch.Tensor:
        return pipe.transformer(**given)[0].float().cpu()

    found = {"base": output()}
    lora = Path(job["lora"])
    pipe.load_lora_weights(lora.parent, weight_name=lora.name, adapter_name="checked")
    found["reloaded"] = output()
    pipe.set_adapters(["checked"], [0.0])
    found["scale_0"] = output()
    save_file({name: tensor.contiguous() for name, tensor in found.items()}, job["out"])


def hide_torchao() -> None:
    """As vidgen_lab.generation.lora.hide_old_torchao: PEFT refuses an old one."""
    from peft import import_utils

    try:
        import_utils.is_torchao_available()
    except ImportError:
        before = sys.modules.get("torchao")
        sys.modules["torchao"] = None
        import_utils.is_torchao_available()
        del sys.modules["torchao"]
        if before is not None:
            sys.modules["torchao"] = before


def main() -> None:
    assert importlib.util.find_spec("torch") and "vidgen_lab" not in sys.modules
    hide_torchao()
    for job in json.loads((Path(sys.argv[1]) / "jobs.json").read_text(encoding="utf-8")):
        run(job)


if __name__ == "__main__":
    main()
