"""A model's name -> a CogVideoXPipeline on the right device. One path for every model.

Embedded, local and hub models all end as a folder that is checked and then handed to plain
`CogVideoXPipeline.from_pretrained`.
"""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vidgen_lab.progress import quiet_loading
from vidgen_lab.settings.hardware import Probe, free_disk_gib, hub_cache_dir, probe
from vidgen_lab.settings.tiers import DTYPES, OFFLOAD_MODES, Tier, model_facts, resolve_tier
from vidgen_lab.settings.weights import check_model_folder, find_model

if TYPE_CHECKING:
    from diffusers import CogVideoXPipeline


class DownloadError(OSError):
    """The weights are not on this machine and could not be fetched."""


@dataclass(frozen=True)
class LoadedModel:
    """Where a pipeline came from; `pipe.loaded` of a pipeline made here.

    Attributes:
        name: embedded name, hub id (a former one brought up to date), or a folder's absolute path.
        revision: the hub's commit, or a hash of the folder; see `fingerprint`.
        dtype: what it calculates in, such as "bfloat16".
        offload: what was really switched on.
    """

    name: str
    revision: str
    dtype: str
    device: str
    offload: str


def load_pipeline(
    model: str | Path | None = None,
    tier: Tier | str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    download: bool = False,
) -> "CogVideoXPipeline":
    """Load a text-to-video pipeline, ready to be called; `pipe.loaded` is its `LoadedModel`.

    Args:
        model: embedded name ("toy-cogvideox"), folder or hub id; default: the tier's model.
        tier: memory options and precision come from it: one of ours or its name (default "tiny").
        device: "cpu", "cuda", "cuda:1", "mps"; default: CUDA where there is one, else the CPU.
            Apple's GPU is used only when asked for: not every operation here exists on it.
        dtype: "auto", "float32", "float16" or "bfloat16"; default: the tier's.
        download: whether a hub model that is not here may be fetched; without it the hub is not
            asked.

    Raises:
        ModelNotFoundError: there is no such folder or embedded model.
        BrokenModelError: the folder is no whole text-to-video pipeline; names the damaged file.
        DownloadError: the weights are not here, and may not or could not be fetched.
        ValueError: settings are unknown or do not go together.
    """
    import torch
    from diffusers import CogVideoXPipeline

    from vidgen_lab.generation.stock import DTYPE

    tier = tier if isinstance(tier, Tier) else resolve_tier(tier or "tiny").tier
    name = tier.model if model is None else str(model)
    machine = probe()
    device = device or ("cuda" if machine.device == "cuda" else "cpu")
    facts = model_facts(name)
    precision = pick_dtype(
        facts.dtype if facts else "float32", dtype or tier.dtype, device, machine, name
    )
    folder = locate(name, download)
    with quiet_loading(folder):
        pipe = CogVideoXPipeline.from_pretrained(
            folder,
            use_safetensors=True,  # the other formats may hold code
            local_files_only=True,
            **{DTYPE: getattr(torch, precision)},
        )
    pipe.set_progress_bar_config(disable=True)  # `generate` reports its steps to the caller
    offload = apply_memory_options(
        pipe, device, tier.offload, tiling=tier.vae_tiling, slicing=tier.vae_slicing
    )
    pipe.loaded = LoadedModel(
        name=str(folder.absolute()) if Path(name).is_dir() else facts.name if facts else name,
        revision=fingerprint(folder),
        dtype=precision,
        device=device,
        offload=offload,
    )
    return pipe


def locate(model: str, download: bool = False, *pipelines: str) -> Path:
    """The checked folder of a model, fetched from the hub if it is not here and may be.

    A model that is here is found without asking the hub, so it also loads offline. Raises
    ModelNotFoundError, BrokenModelError or DownloadError as `load_pipeline` does.

    Args:
        model: embedded name, folder or hub id.
        download: whether it may be fetched.
        pipelines: classes of diffusers it may be of; default: text to video.
    """
    facts = model_facts(model)
    folder = find_model(model, facts.also_known_as if facts else ())
    if folder is None:
        folder = _fetch(model, facts.download_gib if facts else 0.0, download)
    check_model_folder(folder, *pipelines)
    return folder


def _fetch(model: str, size_gib: float, allowed: bool) -> Path:
    from diffusers import CogVideoXPipeline

    size = f"{size_gib:g} GiB" if size_gib else "of a size that is not known here"
    if not allowed:
        raise DownloadError(
            f"The weights of {model} ({size}) are not on this machine, and nothing is fetched "
            "unasked. Allow it with --download (in Python download=True), or take the embedded "
            "toy-cogvideox, which is here."
        )
    free = free_disk_gib(hub_cache_dir())
    if free < size_gib:
        raise DownloadError(
            f"{model} needs {size_gib:g} GiB, but {hub_cache_dir()} has {free:.1f} GiB free. "
            "Free some space, or point HF_HOME to a larger disk."
        )
    logging.getLogger(__name__).info("Fetching %s (%s)", model, size)
    try:
        return Path(CogVideoXPipeline.download(model, use_safetensors=True))
    except Exception as error:  # offline, no such model, access refused: many unrelated classes
        raise DownloadError(
            f"{model} is neither a folder nor in the download cache, and it could not be fetched "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}). "
            "Check the name and the network, or take the embedded toy-cogvideox, which is here."
        ) from error


def pick_dtype(native: str, wanted: str, device: str, machine: Probe, model: str = "") -> str:
    """The precision to calculate in: a pure decision.

    CPUs and Apple's GPU calculate in float32 (the shipped 16-bit weights are widened).

    Args:
        native: what the model was published for.
        wanted: "auto" or an explicit choice, which is obeyed.
        device: as for `load_pipeline`; on CUDA `native` is the answer.
        machine: whose GPU has bfloat16 or not.
        model: its name, for the message.

    Raises:
        ValueError: there is no such dtype, or a bfloat16 model meets a GPU without bfloat16:
            squeezed into float16, as would fit there, CogVideoX-5B overflows to black frames.
    """
    if wanted not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, not {wanted!r}")
    if wanted != "auto":
        return wanted
    if not device.startswith("cuda"):
        return "float32"
    if native == "bfloat16" and not machine.has_bfloat16:
        raise ValueError(
            f"{model or 'This model'} is a bfloat16 model, and {machine.name} does not calculate "
            "in bfloat16 (compute capability 8.0 or higher does). Take zai-org/CogVideoX-2b, or "
            'insist with dtype="float32".'
        )
    return native


def apply_memory_options(
    pipe: "CogVideoXPipeline", device: str, offload: str = "none", *, tiling=False, slicing=False
) -> str:
    """Place the pipeline on a device with the memory options of a tier; returns the offload mode.

    Args:
        pipe: changed in place.
        device: as for `load_pipeline`.
        offload: "model" keeps one part of the pipeline on the accelerator at a time, "sequential"
            one layer at a time. Both need an accelerator; on the CPU there is nothing to offload
            from, so "none" is used and returned (diffusers itself would raise an error).
        tiling: decode large frames in overlapping tiles.
        slicing: decode a batch clip by clip, which changes nothing for one clip.
    """
    if tiling:
        pipe.vae.enable_tiling()
    if slicing:
        pipe.vae.enable_slicing()
    if device == "cpu" or offload == "none":
        pipe.to(device)
        return "none"
    if offload not in OFFLOAD_MODES:
        raise ValueError(f"offload must be {', '.join(OFFLOAD_MODES)}, not {offload!r}")
    getattr(pipe, f"enable_{offload}_cpu_offload")(device=device)
    return offload


def fingerprint(folder: Path) -> str:
    """Twelve characters that change with the model: the hub's commit, or a hash of the folder.

    Of weight files the size and both ends (1 MiB each) are hashed, so that it stays quick. What was
    measured of an embedded model, its report.json, is not the model.
    """
    folder = Path(folder)
    if folder.parent.name == "snapshots":
        return folder.name[:12]
    digest, end = hashlib.sha256(), 2**20
    files = (p for p in folder.rglob("*") if p.suffix in (".json", ".safetensors"))
    for path in sorted(p for p in files if p.name != "report.json"):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder).as_posix()} {size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(end))
            file.seek(max(0, size - end))
            digest.update(file.read(end))
    return digest.hexdigest()[:12]
