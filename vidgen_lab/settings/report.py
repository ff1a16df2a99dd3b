"""What this machine has and what it lacks, as plain data: ``vidgen-lab check`` and chapter 1."""

import platform
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from vidgen_lab.settings.hardware import Probe, free_disk_gib, probe
from vidgen_lab.settings.tiers import lacking, load_tiers, weights_at_hand

EXTRAS = ("", "data", "workbook")  # the base, and what the chapters need on top of it


def environment_report(machine: Probe | None = None) -> dict[str, Any]:
    """Return what there is to work with.

    Args:
        machine: a Probe; None looks at this one.

    Returns:
        A dict of python, platform, packages (name -> {installed, required, ok}), device (the probe
        as a dict, sizes in GiB), ffmpeg ({path, version} or None), free_disk_gib (current folder),
        tiers (name -> {model, weights_here, download_gib, lacks}).
    """
    machine = machine or probe()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "packages": package_versions(),
        "device": asdict(machine),
        "ffmpeg": find_ffmpeg(),
        "free_disk_gib": round(free_disk_gib(Path.cwd()), 1),
        "tiers": _tiers(machine),
    }


def package_versions() -> dict[str, dict[str, Any]]:
    """Compare what is installed with what package and chapters require, without importing any."""
    from packaging.requirements import Requirement

    try:
        lines = metadata.requires("vidgen-lab") or []
    except metadata.PackageNotFoundError:  # run from a folder without being installed
        return {}
    found = {}
    for requirement in map(Requirement, lines):
        marker = requirement.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in EXTRAS):
            continue
        try:
            installed = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            installed = None
        fits = installed is not None and requirement.specifier.contains(installed, prereleases=True)
        required = str(requirement.specifier)
        found[requirement.name] = {"installed": installed, "required": required, "ok": fits}
    return found


def find_ffmpeg() -> dict[str, str] | None:
    """Return {path, version} of the ffmpeg that imageio would use, or None."""
    try:
        import imageio_ffmpeg

        return {
            "path": imageio_ffmpeg.get_ffmpeg_exe(),
            "version": imageio_ffmpeg.get_ffmpeg_version(),
        }
    except (ImportError, RuntimeError, OSError):
        return None


def _tiers(machine: Probe) -> dict[str, dict[str, Any]]:
    rows = {}
    for tier in load_tiers().values():
        here = weights_at_hand(tier.model)
        fetch = 0.0 if here else tier.download_gib
        lacks = list(lacking(tier, machine, fetch))
        if not here and not fetch:
            lacks.append(f"the model {tier.model}, which belongs in data/models")
        rows[tier.name] = {
            "model": tier.model, "weights_here": here, "download_gib": fetch, "lacks": lacks,
        }  # fmt: skip
    return rows


def describe_report(report: dict[str, Any]) -> str:
    """Write an environment report for people, with the next step for everything that is missing."""
    device = report["device"]
    memory = f", {device['vram_gib']} GiB" if device["vram_gib"] else ""
    ffmpeg = report["ffmpeg"]
    lines = [
        f"Python      {report['python']} on {report['platform']}",
        f"Device      {device['device']}: {device['name']}{memory}",
        f"Memory      {device['ram_gib']} GiB, {device['cores']} cores",
        f"Free disk   {report['free_disk_gib']} GiB here, {device['disk_gib']} GiB for downloads",
        f"ffmpeg      {ffmpeg['version'] if ffmpeg else 'not found: pip install imageio-ffmpeg'}",
        "Packages    " + _packages_line(report["packages"]),
        "",
        "Tier      weights           still lacks",
    ]
    for name, tier in report["tiers"].items():
        fetch = tier["download_gib"]
        weights = "here" if tier["weights_here"] else f"{fetch:g} GiB download" if fetch else "no"
        lines.append(f"{name:<9} {weights:<17} {'; '.join(tier['lacks']) or 'nothing'}")
    return "\n".join(lines)


def _packages_line(packages: dict[str, dict[str, Any]]) -> str:
    if not packages:
        return "not checked: vidgen-lab is not installed here (make setup, or pip install -e .)"
    bad = {name: p for name, p in packages.items() if not p["ok"]}
    if bad:
        found = "; ".join(f"{name} {p['installed'] or 'missing'}" for name, p in bad.items())
        wanted = " ".join(f'"{name}{p["required"]}"' for name, p in bad.items())
        return f"too old or missing: {found}\n            next: pip install {wanted}"
    main = ("torch", "diffusers", "transformers", "peft")
    return f"all {len(packages)} as required; " + ", ".join(
        f"{name} {packages[name]['installed']}" for name in main if name in packages
    )
