"""Would the workbook still run on Colab? Compare the package's needs with a list of Colab's.

``python colab/canary.py pip-freeze.gpu.txt > constraints.txt`` fails, naming each package, when
Colab has an older version than pyproject.toml asks for, or lacks one that colab/requirements.txt
does not bring. What it prints are Colab's versions of this project's packages, as constraints to
install and test with.
"""

import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
# Needed to run chapters from a command line, not to open one on Colab.
NOT_ON_COLAB = {"jupyterlab", "papermill"}


def read_freeze(text: str) -> dict[str, Version]:
    """Return the versions in the output of ``pip freeze``; local labels (+cu128) are dropped."""
    pairs = [line.split("==") for line in text.splitlines() if line.count("==") == 1]
    return {canonicalize_name(n): Version(Version(v.strip()).public) for n, v in pairs}


def requirements() -> list[Requirement]:
    """Return what the chapters need: the package's own requirements and two extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *extras["data"], *extras["workbook"]]
    return [Requirement(line) for line in lines]


def brought_along() -> set[str]:
    """Return what colab/requirements.txt installs."""
    lines = (ROOT / "colab" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return {canonicalize_name(Requirement(x).name) for x in lines if x and not x.startswith("#")}


def problems(freeze: dict[str, Version]) -> list[str]:
    """Return one sentence for every requirement that Colab does not meet."""
    found = []
    for requirement in requirements():
        name = canonicalize_name(requirement.name)
        if name in freeze:
            if not requirement.specifier.contains(freeze[name]):
                found.append(f"{requirement} is needed, Colab has {freeze[name]}")
            if name in brought_along():
                found.append(f"{name} is preinstalled: take it out of colab/requirements.txt")
        elif name not in brought_along() | NOT_ON_COLAB:
            found.append(f"{name} is not preinstalled: add it to colab/requirements.txt")
    return found


def main() -> int:
    freeze = read_freeze(Path(sys.argv[1]).read_text(encoding="utf-8"))
    found = problems(freeze)
    print("\n".join(found), file=sys.stderr)
    for requirement in requirements():
        name = canonicalize_name(requirement.name)
        if name in freeze:
            print(f"{name}=={freeze[name]}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
