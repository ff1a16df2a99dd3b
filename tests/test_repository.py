"""Promises about the repository as a whole: dependencies, floors, README, what it may hold."""

import os
import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from colab import canary
from tools import lint
from vidgen_lab import cli

BUILT = {"torch"}  # its version has a label, and its parts depend on the device
ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
HOSTS = ("pypi" + ".org", "python" + "hosted.org", "anaconda" + ".org", "download.py" + "torch.org")


def tracked_texts() -> list[Path]:
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split("\0")
    suffixes = {".py", ".md", ".toml", ".txt", ".yml", ".yaml", ".ipynb", ".cff", ".json", ""}
    paths = [ROOT / n for n in names if n and Path(n).suffix in suffixes]
    return [p for p in paths if p.is_file()]


# dependencies ----------------------------------------------------------------------------------


def pins() -> dict[str, Version]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pinned = [Requirement(line) for line in lines if line and not line.startswith("#")]
    for requirement in pinned:
        assert [s.operator for s in requirement.specifier] == ["=="], requirement
    return {canonicalize_name(r.name): Version(str(r.specifier)[2:]) for r in pinned}


def wanted() -> list[Requirement]:
    """What `make` installs: all that a chapter or a test needs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *(x for e in ("data", "workbook", "dev") for x in extras[e])]
    return [Requirement(line) for line in lines]


def test_every_requirement_is_pinned_and_only_lower_bounded():
    pinned = pins()
    for requirement in wanted():
        assert [s.operator for s in requirement.specifier] == [">="], requirement
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)])


def test_what_comes_along_is_pinned_too_and_nothing_else():
    """The lock is closed: every requirement of a pin is a pin, and every pin is required."""
    pinned, reached = pins(), set()
    todo = [(r.name, frozenset(r.extras)) for r in wanted()]
    while todo:
        name, extras = todo.pop()
        name = canonicalize_name(name)
        if (name, extras) in reached:
            continue
        reached.add((name, extras))
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            pytest.skip(f"{name} is not installed")
        for r in map(Requirement, lines):
            if not r.marker or any(r.marker.evaluate({"extra": e}) for e in ("", *extras)):
                todo.append((r.name, frozenset(r.extras)))
    if any(metadata.version(n) != str(v) for n, v in pinned.items() if n not in BUILT):
        pytest.skip("other versions than the pinned ones are installed")
    names = {name for name, _ in reached}
    assert set(pinned) - BUILT == names - BUILT


def test_colab_satisfies_every_lower_bound():
    freeze = canary.read_freeze((ROOT / "colab" / "freeze.txt").read_text(encoding="utf-8"))
    assert canary.problems(freeze) == []


def test_the_colab_check_finds_what_is_too_old_missing_or_superfluous():
    freeze = canary.read_freeze((ROOT / "colab" / "freeze.txt").read_text(encoding="utf-8"))
    old = freeze | {"torch": Version("2.0"), "av": Version("15.0")}
    del old["numpy"]
    found = "\n".join(canary.problems(old))
    assert "torch>=" in found
    assert "numpy is not preinstalled" in found
    assert "av is preinstalled" in found


def test_conda_installs_the_same_set():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert environment["dependencies"][-1] == {"pip": ["-r requirements.txt", "-e ."]}


# README and Makefile ---------------------------------------------------------------------------


def test_readme_commands_exist():
    targets = set(re.findall(r"^([a-z]+):", MAKEFILE, re.M))
    used = set(re.findall(r"\bmake ([a-z]+)\b(?=[`\s])", "\n".join(code_in(README))))
    assert {"chapter", "test"} <= used <= targets
    commands = set(cli.COMMANDS)
    used = set(re.findall(r"\bvidgen-lab ([a-z]+)", "\n".join(code_in(README))))
    assert "video" in used
    assert used <= commands


def code_in(markdown: str) -> list[str]:
    fenced = re.compile(r"^```[a-z]*\n(.*?)^```", re.M | re.S)
    return fenced.findall(markdown) + re.findall(r"`([^`\n]+)`", fenced.sub("", markdown))


def test_readme_links_and_pictures_exist():
    for target in re.findall(r"\]\(([^)#\s]+)", README) + re.findall(r'src="([^"]+)"', README):
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_nothing_is_left_to_be_measured():
    for page in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        assert "<!-- fill" not in text, f"{page} has places to fill in"


def test_ci_runs_what_the_readme_says():
    script = ROOT / ".ci" / "run"
    assert os.name == "nt" or os.access(script, os.X_OK)
    assert "make test" in script.read_text(encoding="utf-8")


# contents --------------------------------------------------------------------------------------


def test_no_private_paths_and_no_registry_hosts():
    own = {"tools/lint.py", "tests/tools/test_lint.py"}
    for path in tracked_texts():
        if path.relative_to(ROOT).as_posix() in own:
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        assert not lint.PRIVATE.search(text), f"{path}: {lint.PRIVATE.search(text)[0]}"
        assert not [h for h in HOSTS if h in text], path


def test_no_file_is_too_large_for_a_clone():
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split("\0")
    sizes = {n: (ROOT / n).stat().st_size for n in names if n and (ROOT / n).is_file()}
    assert max(sizes.values(), default=0) <= 16 * 2**20
    assert sum(sizes.values()) <= 60 * 2**20
