"""Tiers: one name that chooses every hardware-dependent setting. The data is in tiers.yaml."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from vidgen_lab.config import Checked, ConfigError, load, read_yaml
from vidgen_lab.settings.hardware import Probe
from vidgen_lab.settings.weights import (
    BrokenModelError,
    ModelNotFoundError,
    check_model_folder,
    find_model,
)

TIERS_FILE = Path(__file__).with_name("tiers.yaml")
OFFLOAD_MODES = ("none", "model", "sequential")
DTYPES = ("auto", "float32", "float16", "bfloat16")


@dataclass(frozen=True)
class ModelFacts:
    """What is known about a model before any of it is loaded; the defaults are CogVideoX's.

    Attributes:
        dtype: the precision it was published for.
        fps: native frame rate; the files do not say it.
        guidance_scale: how much of it suits the model.
        parts: GiB of each part to download.
        also_known_as: former hub ids, under which an earlier download may lie in the cache.
    """

    name: str
    dtype: str = "auto"
    fps: float = 8.0
    guidance_scale: float = 6.0
    parts: dict[str, float] = field(default_factory=dict)
    also_known_as: tuple[str, ...] = ()
    embedded: bool = False

    @property
    def download_gib(self) -> float:
        return round(sum(self.parts.values()), 1)


@dataclass(frozen=True)
class Needs:
    """The least a tier runs on. Sizes in GiB, as `Probe` reports them; None asks for nothing."""

    device: str | None = None
    vram_gib: float = 0.0
    ram_gib: float = 0.0
    capability: tuple[int, int] | None = None


@dataclass(frozen=True)
class Tier(Checked, offload=OFFLOAD_MODES, dtype=DTYPES):
    """Every setting that depends on the hardware.

    Attributes:
        height, width: pixels.
        fps, guidance_scale: where tiers.yaml gives none, those of the model.
        dtype: "auto" (the model's own precision as far as the device calculates in it) or a name.
        offload: "none", "model" (one part of the pipeline on the GPU at a time) or "sequential"
            (one layer at a time); ignored without an accelerator.
        vae_tiling: decode frames larger than a tile piece by piece.
        vae_slicing: decode the clips of a batch one by one; it does nothing for a single clip.
        automatic: whether `auto` may choose it.
    """

    name: str
    summary: str
    model: str
    height: int
    width: int
    num_frames: int
    num_inference_steps: int
    guidance_scale: float
    fps: float
    needs: Needs = Needs()
    dtype: str = "auto"
    offload: str = "none"
    vae_tiling: bool = False
    vae_slicing: bool = False
    automatic: bool = True

    @property
    def download_gib(self) -> float:
        """GiB to fetch for its model, if that is not here."""
        return load_models()[self.model].download_gib


@dataclass(frozen=True)
class Choice:
    """A tier, why it was taken, and what else there is.

    Attributes:
        lacks: what this machine misses of the tier's needs (only when it was asked for by name).
        download_gib: to be fetched before `tier` can run; 0 when its weights are here.
        larger: the largest tier that would fit as well but whose weights are not here, or None.
    """

    tier: Tier
    reason: str
    lacks: tuple[str, ...] = ()
    download_gib: float = 0.0
    larger: Tier | None = None

    def describe(self) -> str:
        """A few lines for people: the tier, the reason, what is missing, what would be larger."""
        lines = [f"Tier {self.tier.name}: {self.tier.summary}.", f"Why: {self.reason}."]
        if self.lacks:
            lines.append("This machine lacks: " + "; ".join(self.lacks) + ".")
        if self.download_gib:
            lines.append(
                f"Needs a download of {self.download_gib:g} GiB ({self.tier.model}), which you "
                "allow with --download, or download=True in a notebook."
            )
        if self.larger:
            lines.append(
                f'Larger: tier="{self.larger.name}" fits this machine too and would download '
                f"{self.larger.download_gib:g} GiB ({self.larger.model})."
            )
        return "\n".join(lines)


@lru_cache
def _read(path: Path) -> tuple[dict[str, Tier], dict[str, ModelFacts]]:
    raw = read_yaml(path)
    models = {
        name: load(ModelFacts, {"name": name} | entry, where=f"{path}: models.{name}")
        for name, entry in raw["models"].items()
    }
    tiers = {}
    for name, entry in raw["tiers"].items():
        if entry.get("model") not in models:
            raise ConfigError(
                f"{path}: tiers.{name} names the unknown model {entry.get('model')!r}"
            )
        model = models[entry["model"]]
        given = {"name": name, "fps": model.fps, "guidance_scale": model.guidance_scale} | entry
        tiers[name] = load(Tier, given, where=f"{path}: tiers.{name}")
    return tiers, models


def load_tiers(path: Path = TIERS_FILE) -> dict[str, Tier]:
    """Read the tiers, smallest first. ConfigError names an unknown or missing field."""
    return dict(_read(path)[0])


def load_models() -> dict[str, ModelFacts]:
    """Read what is known of the published models, by name."""
    return dict(_read(TIERS_FILE)[1])


def model_facts(model: str) -> ModelFacts | None:
    """Facts of a model by its present or a former name; None for one that is not in the list."""
    return next((f for f in load_models().values() if model in (f.name, *f.also_known_as)), None)


def weights_at_hand(model: str) -> bool:
    """Whether a model can be loaded without the network."""
    facts = model_facts(model)
    with suppress(ModelNotFoundError, BrokenModelError):
        if folder := find_model(model, facts.also_known_as if facts else ()):
            check_model_folder(folder)
            return True
    return False


def lacking(tier: Tier, probe: Probe, download_gib: float = 0.0) -> tuple[str, ...]:
    """What a machine misses of a tier's needs or of disk to download, in words; () if it fits."""
    needs, other = tier.needs, tier.needs.device not in (None, probe.device)
    wanted, has = (
        ".".join(map(str, capability)) if capability else "none"
        for capability in (needs.capability, probe.capability)
    )
    older = needs.capability and (probe.capability or (0, 0)) < needs.capability
    memory = f"GPU memory: {needs.vram_gib:g} GiB (has {probe.vram_gib:.1f})"
    lacks = (
        (other, f"a {str(needs.device).upper()} GPU"),
        (not other and probe.vram_gib < needs.vram_gib, memory),
        (not other and older, f"compute capability {wanted} for bfloat16 (has {has})"),
        (probe.ram_gib < needs.ram_gib,
         f"host memory: {needs.ram_gib:g} GiB (has {probe.ram_gib:.1f})"),
        (probe.disk_gib < download_gib,
         f"free disk: {download_gib:g} GiB (has {probe.disk_gib:.1f})"),
    )  # fmt: skip
    return tuple(words for true, words in lacks if true)


def choose_tier(probe: Probe, tiers: Mapping[str, Tier], at_hand: Callable[[str], bool]) -> Choice:
    """Take the largest tier that fits the machine and whose weights are on it.

    Args:
        probe: what the machine has.
        tiers: smallest first.
        at_hand: of a model's name, whether its weights are here.

    Raises:
        RuntimeError: not even the smallest tier runs.
    """
    best = larger = None
    for tier in tiers.values():
        here = at_hand(tier.model)
        if not tier.automatic or lacking(tier, probe, 0.0 if here else tier.download_gib):
            continue
        best, larger = (tier, None) if here else (best, tier)
    if best is None:
        raise RuntimeError(
            "No tier runs on this machine without a download. "
            "`vidgen-lab tiers` shows what each one lacks; the embedded model may be missing."
        )
    reason = f"the largest tier that runs here without a download ({probe.describe()})"
    return Choice(best, reason, larger=larger)


def resolve_tier(name: str = "auto", machine: Probe | None = None) -> Choice:
    """Turn the parameter `tier` of a chapter into settings; never downloads anything.

    Args:
        name: "auto" or the name of a tier, which is then taken even if the machine lacks something
            (`Choice.lacks` says what).
        machine: None looks at this one.

    Raises:
        ValueError: no tier has this name.
        RuntimeError: "auto", and no tier runs here without a download.
    """
    from vidgen_lab.settings.hardware import probe

    tiers = load_tiers()
    if name != "auto" and name not in tiers:
        raise ValueError(f"unknown tier {name!r}; known: auto, {', '.join(tiers)}")
    machine = machine or probe()
    if name == "auto":
        return choose_tier(machine, tiers, weights_at_hand)
    tier = tiers[name]
    fetch = 0.0 if weights_at_hand(tier.model) else tier.download_gib
    return Choice(tier, "asked for by name", lacking(tier, machine, fetch), fetch)
