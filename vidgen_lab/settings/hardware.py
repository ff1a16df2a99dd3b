"""What machine is this? `probe` looks once; everything that decides works on its frozen answer."""

import os
import platform
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

GIB = 2**30


@dataclass(frozen=True)
class Probe:
    """What one look at a machine found. Sizes in GiB (2**30 bytes), as the tools report them.

    Attributes:
        device: "cuda", "mps" or "cpu": the best accelerator that PyTorch can use here.
        name: the accelerator's own name, else the processor's.
        capability: CUDA compute capability such as (7, 5); None without CUDA.
        vram_gib: memory of the accelerator; 0 without one (MPS shares the host's memory).
        ram_gib: host memory, or the container's limit where that is lower.
        disk_gib: free space where downloaded weights would go.
        cores: processor cores this process may use.
    """

    device: str
    name: str
    capability: tuple[int, int] | None
    vram_gib: float
    ram_gib: float
    disk_gib: float
    cores: int

    @property
    def has_bfloat16(self) -> bool:
        """Whether the accelerator calculates in bfloat16 itself.

        Decided by compute capability >= 8.0. `torch.cuda.is_bf16_supported()` also says yes on
        a T4 (7.5), where bfloat16 is emulated: slow, and some kernels are missing.
        """
        return self.device == "cuda" and self.capability is not None and self.capability >= (8, 0)

    def describe(self) -> str:
        """One line for people."""
        memory = f"{self.vram_gib:.1f} GiB GPU memory"
        parts = [self.name, {"cuda": memory, "mps": "Apple GPU"}.get(self.device, "no GPU")]
        if self.capability:
            parts.append("capability {}.{}".format(*self.capability))
        parts += [f"{self.ram_gib:.1f} GiB RAM", f"{self.cores} cores"]
        parts.append(f"{self.disk_gib:.0f} GiB free disk")
        return ", ".join(parts)


def probe() -> Probe:
    """Look at this machine; loads PyTorch, which alone knows what accelerator it was built for."""
    import psutil
    import torch

    device, name, capability, vram = "cpu", processor_name(), None, 0.0
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        device, name = "cuda", properties.name
        capability = (properties.major, properties.minor)
        vram = properties.total_memory / GIB
    elif torch.backends.mps.is_available():
        device = "mps"
    if hasattr(os, "sched_getaffinity"):  # containers and `taskset` hand out fewer cores
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    ram = min(psutil.virtual_memory().total, _container_memory_limit())
    return Probe(
        device=device,
        name=name,
        capability=capability,
        vram_gib=round(vram, 2),
        ram_gib=round(ram / GIB, 2),
        disk_gib=round(free_disk_gib(hub_cache_dir()), 1),
        cores=cores,
    )


def hub_cache_dir() -> Path:
    """The folder into which huggingface_hub downloads (HF_HOME and HF_HUB_CACHE respected)."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def free_disk_gib(folder: Path) -> float:
    """Free space in GiB on the disk that holds, or would hold, `folder`."""
    folder = Path(folder).absolute()
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    return shutil.disk_usage(existing).free / GIB


def _container_memory_limit() -> float:
    """The control group's memory limit in bytes; infinity where there is none."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # no such file, or the word "max"
            return float(Path(path).read_text(encoding="utf-8"))
    return float("inf")


def processor_name() -> str:
    """What the processor calls itself."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(x for x in lines if x.startswith("model name")).partition(":")[2].strip()
    return platform.processor() or platform.machine() or "unknown processor"
