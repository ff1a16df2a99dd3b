"""The floors of the package: what stands on what, how large the rooms are, and who breaks the rule.

``python -m tools.floors`` prints the rooms from the ground up, and fails on an upward import, a
circle, a room that is too large, and a requirement that nothing imports (or an import that nothing
requires).
"""

import ast
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
# From the ground up; a room imports only from floors below its own.
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
OURS = {"vidgen_lab", "recipes", "tools", "tests", "colab"}
LINES, MODULES = 2500, 12  # of a room, its sub-rooms apart
TOOL_LINES = 2800  # of recipes/ and tools/ together; the goal is 2,200

# Which requirements a room may import at the top of a module; within a function, any.
EXTRAS = {"pipeline": ("data",), "workbook": ("data", "workbook"), "cli": ("data", "workbook")}
DISTRIBUTIONS = {
    "cv2": "opencv-python-headless",
    "cycler": "matplotlib",
    "PIL": "pillow",
    "scenedetect": "scenedetect-headless",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
# Required without an import of ours, and by whom.
CALLED = {
    "sentencepiece": "transformers, for the tokenizer of CogVideoX",
    "ipykernel": "every notebook's kernel",
    "jupyterlab": "make lab",
    "tensorboard": "torch.utils.tensorboard",
    "pyarrow": "pandas, for parquet",
    "deepspeed": "accelerate launch",
    "bitsandbytes": "diffusers and the trainer, by name",
    "ruff": "make lint",
    "pytest-timeout": "pytest",
    "datasets": "tests, if installed",
    "webdataset": "tests, if installed",
}


class Module:
    """A module of the package: its name, and what it imports at the top and anywhere."""

    def __init__(self, path: Path, root: Path) -> None:
        self.path = path
        self.parts = path.relative_to(root).with_suffix("").parts  # ("vidgen_lab", "latte", "vae")
        self.name = ".".join(self.parts).removesuffix(".__init__")
        self.room = self.parts[1]
        text = path.read_text(encoding="utf-8")
        self.lines, tree = text.count("\n"), ast.parse(text)
        self.anywhere = set(_imported(ast.walk(tree)))
        self.at_top = set(_imported(_at_import(tree.body)))

    @property
    def house(self) -> str:
        """The folder it stands in: a room or a sub-room; "" for the ground."""
        return ".".join(self.parts[1:-1])


def _at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """What runs when a module is imported; not what is there for type checkers alone."""
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        for inner in ("body", "orelse", "handlers"):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from _at_import(getattr(node, inner, []))


def _imported(nodes: Iterator[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def package_modules(root: Path = ROOT) -> list[Module]:
    """All modules of vidgen_lab but its own __init__."""
    paths = sorted((root / "vidgen_lab").rglob("*.py"))
    return [Module(p, root) for p in paths if p.parent.name != "vidgen_lab" or p.stem != "__init__"]


def floor(house: str) -> int:
    """The floor of a room or sub-room; ValueError for one that has none."""
    room = house.partition(".")[0]
    for number, names in enumerate(FLOORS):
        if room in names:
            return number
    raise ValueError(f"{room} has no floor; give it one in tools/floors.py")


def upward(modules: list[Module]) -> Iterator[str]:
    """Imports from the same floor or from above."""
    for module in modules:
        for name in sorted(module.anywhere):
            other = name.split(".")[1] if name.startswith("vidgen_lab.") else ""
            if other in ("", module.room, "__version__"):
                continue
            if floor(other) >= floor(module.room):
                yield f"{module.name} imports {name}, which is no floor below"


def circles(modules: list[Module]) -> Iterator[str]:
    """Modules that import each other, wherever in the file."""
    names = {m.name for m in modules}
    graph = {m.name: (m.anywhere & names) - {m.name, m.name.rpartition(".")[0]} for m in modules}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield "a circle: " + " -> ".join(error.args[1])


def rooms(modules: list[Module]) -> dict[str, tuple[int, int]]:
    """Lines and modules of every room and sub-room, by name."""
    lines, count = Counter(), Counter()
    for module in modules:
        lines[module.house] += module.lines
        count[module.house] += module.path.stem != "__init__"
    return {house: (lines[house], count[house]) for house in lines}


def too_large(modules: list[Module]) -> Iterator[str]:
    for house, (lines, count) in rooms(modules).items():
        if lines > LINES or count > MODULES:
            yield f"{house or 'the ground'} has {lines} lines in {count} modules"


def distributions(names: Iterable[str]) -> dict[str, str]:
    """What is to be installed for imports, by the first part of their names; not what comes with
    Python, nor what is ours."""
    tops = {name.partition(".")[0] for name in names} - sys.stdlib_module_names - OURS
    return {top: canonicalize_name(DISTRIBUTIONS.get(top, top)) for top in sorted(tops)}


def requirements(modules: list[Module], root: Path = ROOT) -> Iterator[str]:
    """Imports without a requirement, and requirements without an import."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lists = {"": project["dependencies"], **project["optional-dependencies"]}
    extras = {e: {canonicalize_name(Requirement(r).name) for r in rs} for e, rs in lists.items()}
    known, used = set().union(*extras.values()), set(CALLED)
    for module in modules:
        base = extras[""].union(*(extras[e] for e in EXTRAS.get(module.room, ())))
        for names, allowed in ((module.at_top, base), (module.anywhere, known)):
            found = distributions(names)
            used |= {*found.values()}
            for top in (top for top, name in found.items() if name not in allowed):
                yield f"{module.name} imports {top}, which its part of pyproject.toml lacks"
    for path in (p for folder in ("tests", "tools") for p in (root / folder).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        used |= {*distributions(_imported(ast.walk(tree))).values()}
    for name in sorted(known - used):
        yield f"nothing imports {name}"
    for name in sorted(set(CALLED) - known):
        yield f"{name} is not required any more: take it out of tools/floors.py"


def outside(root: Path = ROOT) -> Iterator[str]:
    paths = [p for folder in ("recipes", "tools") for p in (root / folder).rglob("*.py")]
    lines = sum(p.read_text(encoding="utf-8").count("\n") for p in paths)
    if lines > TOOL_LINES:
        yield f"recipes/ and tools/ have {lines} lines, more than {TOOL_LINES}"


def main() -> int:
    modules = package_modules()
    for house, (lines, count) in sorted(
        rooms(modules).items(), key=lambda x: floor(x[0] or "files")
    ):
        print(f"{house or 'the ground':<24} {lines:>5} lines in {count:>2} modules")
    print(f"{'together':<24} {sum(m.lines for m in modules):>5} lines in {len(modules)} modules")
    checks = (upward, circles, too_large, requirements)
    found = [*(said for check in checks for said in check(modules)), *outside()]
    print("\n".join(found), file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
