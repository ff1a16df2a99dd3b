"""Promises about the repository as a whole: dependencies, floors, README, what it may hold."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from colab import canary
from tools import lint
from vidgen_lab import cli

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "vidgen_lab"
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
FLOORS = (
    {"paths", "files"},
    {"config", "journal", "progress", "seeds"},
    {"settings", "video"},
    {"toyworld"},
    {"metrics"},
    {"pipeline", "generation", "latte"},
    {"training"},
    {"finetuning"},
    {"workbook"},
    {"cli"},
    {"__main__"},
)
SOURCES = sorted(PACKAGE.rglob("*.py"))
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


def test_every_requirement_is_pinned_and_only_lower_bounded():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    pinned, required = pins(), set()
    for requirement in map(Requirement, wanted):
        required.add(canonicalize_name(requirement.name))
        assert [s.operator for s in requirement.specifier] == [">="], requirement
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)])
    assert set(pinned) == required


def test_everything_imported_is_required():
    modules = {
        "cv2": "opencv-python-headless",
        "cycler": "matplotlib",  # comes with it
        "PIL": "pillow",
        "scenedetect": "scenedetect-headless",
        "skimage": "scikit-image",
        "sklearn": "scikit-learn",
        "yaml": "pyyaml",
    }
    required = {canonicalize_name(r.name) for r in canary.requirements()}
    optional = {"ray", "deepspeed", "bitsandbytes", "google"}
    for path in SOURCES:
        for module in imports(path):
            top = module.partition(".")[0]
            if top in sys.stdlib_module_names or top in optional | {"vidgen_lab"}:
                continue
            assert canonicalize_name(modules.get(top, top)) in required, f"{path}: {module}"


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


# floors ----------------------------------------------------------------------------------------


def imports(path: Path) -> set[str]:
    """Every module a file imports, wherever in the file, with relative imports resolved."""
    found = set()
    package = ["vidgen_lab", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names]
            found |= set(names) if module == "vidgen_lab" else {module}
    return found


def floor(room: str) -> int:
    return next(i for i, rooms in enumerate(FLOORS) if room in rooms)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_room_imports_only_from_floors_below(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own == "__init__":
        assert not any(m.startswith("vidgen_lab") for m in imports(path))
        return
    for module in imports(path):
        parts = module.split(".")
        if parts[0] != "vidgen_lab" or parts[1:2] in ([], [own], ["__version__"]):
            continue
        assert floor(parts[1]) < floor(own), f"{own} imports {module}"


def test_latte_needs_torch_alone():
    for path in (PACKAGE / "latte").glob("*.py"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        modules = [n.module for n in body if isinstance(n, ast.ImportFrom) and not n.level]
        modules += [a.name for n in body if isinstance(n, ast.Import) for a in n.names]
        tops = {m.partition(".")[0] for m in modules} - sys.stdlib_module_names
        assert tops <= {"torch", "vidgen_lab"}, path
        assert all(m.startswith("vidgen_lab.latte") for m in modules if "vidgen_lab" in m), path


# README and Makefile ---------------------------------------------------------------------------


def test_readme_commands_exist():
    targets = set(re.findall(r"^([a-z]+):", MAKEFILE, re.M))
    used = set(re.findall(r"\bmake ([a-z]+)\b(?=[`\s])", "\n".join(code_in(README))))
    assert {"chapter", "test"} <= used <= targets
    commands = {c.name for c in cli.COMMANDS}
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
