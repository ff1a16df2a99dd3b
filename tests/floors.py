"""The floors of the package: what stands on what, how large rooms are, and who breaks the rule."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import pandas as pd
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
# From the ground up; a room imports only from floors below its own.
FLOORS = (
    {"__init__", "paths", "files"},
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
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
LINES, MODULES = 2500, 12  # of a room, its sub-rooms apart
TOOL_LINES = 2200  # of recipes/ and tools/ together

# Which requirements a room may import at the top of a module; within a function, any.
EXTRAS = {"pipeline": ("data",), "workbook": ("data", "workbook"), "cli": ("data", "workbook")}
# A requirement that nothing of ours imports says in pyproject.toml who needs it.
NOT_IMPORTED = re.compile(r'^ *"([\w-]+)[^"\n]*", *# for ', re.M)
OURS = {"vidgen_lab", "recipes", "tools", "tests", "colab"}
INSTALLED = packages_distributions()  # "cv2" comes with opencv-python-headless


class Module:
    """A module: where it stands, and what it imports at the top and anywhere."""

    def __init__(self, path: Path, root: Path) -> None:
        parts = path.relative_to(root).with_suffix("").parts  # ("vidgen_lab", "latte", "vae")
        self.name = ".".join(parts).removesuffix(".__init__")
        self.room, self.house = parts[1], ".".join(parts[1:-1]) or "the ground"  # or a sub-room
        self.floor = FLOOR.get(self.room, len(FLOORS))
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        self.lines, self.modules = text.count("\n"), int(parts[-1] != "__init__")
        self.at_top, self.anywhere = {*_imports(tree, at_top=True)}, {*_imports(tree)}


def _imports(node: ast.AST, at_top: bool = False) -> Iterator[str]:
    """The names that code imports; at_top: when it is imported itself, so neither in a function nor
    for type checkers alone."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and not node.level:
        yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
    typing = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    if at_top and (typing or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
        return
    for part in ast.iter_child_nodes(node):
        yield from _imports(part, at_top)


def modules_in(*folders: str, root: Path = ROOT) -> list[Module]:
    return [Module(p, root) for f in folders for p in sorted((root / f).rglob("*.py"))]


def upward(modules: list[Module]) -> Iterator[str]:
    """Imports from the same floor or from above, and rooms that have no floor."""
    for room in sorted({m.room for m in modules} - FLOOR.keys()):
        yield f"{room} has no floor; give it one in tests/floors.py"
    for module in modules:
        rooms = {n.split(".")[1] for n in module.anywhere if n.startswith("vidgen_lab.")}
        for room in sorted(rooms - {module.room}):
            if FLOOR.get(room, 0) >= module.floor:
                yield f"{module.name} imports {room}, which is no floor below"


def circles(modules: list[Module]) -> Iterator[str]:
    """Modules that import each other, wherever in the file."""
    names = {m.name for m in modules}
    graph = {m.name: (m.anywhere & names) - {m.name, m.name.rpartition(".")[0]} for m in modules}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield "a circle: " + " -> ".join(error.args[1])


def sizes(modules: list[Module]) -> pd.DataFrame:
    """Lines and modules of every room and sub-room, from the ground up."""
    table = pd.DataFrame(map(vars, sorted(modules, key=lambda module: module.floor)))
    return table.groupby("house", sort=False)[["lines", "modules"]].sum()


def too_large(modules: list[Module], root: Path = ROOT) -> Iterator[str]:
    for house, size in sizes(modules).iterrows():
        if size.lines > LINES or size.modules > MODULES:
            yield f"{house} has {size.lines} lines in {size.modules} modules"
    outside = sum(m.lines for m in modules_in("recipes", "tools", root=root))
    if outside > TOOL_LINES:
        yield f"recipes/ and tools/ have {outside} lines, more than {TOOL_LINES}"


def requirements(modules: list[Module], root: Path = ROOT) -> Iterator[str]:
    """Imports without a requirement, and requirements without an import."""
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    lists = {"": project["dependencies"], **project["optional-dependencies"]}
    extras = {e: {canonicalize_name(Requirement(r).name) for r in rs} for e, rs in lists.items()}
    known, used = set().union(*extras.values()), {*NOT_IMPORTED.findall(text)}
    for module in modules:
        base = extras[""].union(*(extras[e] for e in EXTRAS.get(module.room, ())))
        missing = _to_install(module.at_top) - base | _to_install(module.anywhere) - known
        for name in sorted(missing):
            yield f"{module.name} imports {name}, which its part of pyproject.toml lacks"
    for module in (*modules, *modules_in("tests", "tools", root=root)):
        used |= _to_install(module.anywhere)
    yield from (f"nothing imports {name}" for name in sorted(known - used))


def _to_install(names: set[str]) -> set[str]:
    """What brings imported names: not what comes with Python, nor what is ours."""
    tops = {name.partition(".")[0] for name in names} - sys.stdlib_module_names - OURS
    return {canonicalize_name(INSTALLED.get(top, [top])[0]) for top in tops}
