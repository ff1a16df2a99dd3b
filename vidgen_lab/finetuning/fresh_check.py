"""Run the models of some jobs with stock diffusers alone: a script for a process of its own.

    python -P fresh_check.py FOLDER

FOLDER/jobs.json lists the jobs: {"base": pipeline folder, "pipeline": class, "dtype": name, "lora":
file, "inputs": file, "out": file}. Written to `out`: the transformer's output for `inputs` before
the LoRA file is loaded, with it, and with it at scale 0. Nothing of vidgen_lab is imported: what
works here works for everybody.
"""

import importlib.util
import json
import sys
from pathlib import Path

import diffusers
import torch
from packaging.version import Version
from safetensors.torch import load_file, save_file

DTYPE = "dtype" if Version(diffusers.__version__) >= Version("0.40.0") else "torch_dtype"


def run(job: dict[str, str]) -> None:
    nothing = {name: None for name in ("vae", "text_encoder", "tokenizer")}
    dtype = getattr(torch, job["dtype"])
    kind = getattr(diffusers, job["pipeline"])
    pipe = kind.from_pretrained(job["base"], **nothing, **{DTYPE: dtype})
    tensors = load_file(job["inputs"])
    rotary = [tensors.pop(name) for name in ("cos", "sin") if name in tensors]
    given = tensors | {"image_rotary_emb": tuple(rotary) or None, "return_dict": False}

    @torch.no_grad()
    def output() -> torch.Tensor:
        return pipe.transformer(**given)[0].float()

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
