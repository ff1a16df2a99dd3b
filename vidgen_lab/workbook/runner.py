"""Run a chapter from start to end and keep what it made: papermill with the checks it lacks.

Every run has a folder of its own, ``runs/<chapter>/<time>/``, with the executed notebook, an HTML
copy to read in a browser, the verdicts on the exercises, and ``artefacts/``, whose path the
notebook receives as the parameter ``out_dir``. A run counts only if the artefacts that the notebook
declares are there and sound.
"""

import json
import logging
import os
import re
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

import nbformat

from vidgen_lab.files import write_files
from vidgen_lab.generation.loading import locate
from vidgen_lab.generation.memory import peak_memory
from vidgen_lab.generation.request import (
    GenerationRequest,
    ModelLimits,
    check_text,
    validate_request,
    visible,
)
from vidgen_lab.paths import notebooks_dir
from vidgen_lab.progress import Progress
from vidgen_lab.settings.hardware import free_disk_gib
from vidgen_lab.settings.tiers import resolve_tier, weights_at_hand
from vidgen_lab.workbook.artefacts import check_artefacts, declared_artefacts
from vidgen_lab.workbook.exercises import results_in
from vidgen_lab.workbook.parameters import Parameter, check_parameters, read_parameters

OUT_DIR = "out_dir"
VERDICTS = "exercises.json"
ROOM_GIB = 0.0625  # notebook, HTML and videos of a run; checked before minutes of work go into it
SAVE_EVERY = 5.0  # seconds, of the executed notebook
HEADING = re.compile(r"^#+ +(.+)$", re.M)


class ChapterError(RuntimeError):
    """The chapter stopped, or left something missing or degenerate behind."""


@dataclass(frozen=True)
class ChapterRun:
    """What one run left behind; all paths absolute.

    Attributes:
        notebook: the executed copy.
        seconds: wall time.
        peak_memory_gib: resident memory of the runner and the notebook's kernel together.
    """

    folder: Path
    notebook: Path
    html: Path
    artefacts: list[Path]
    seconds: float
    peak_memory_gib: float

    @property
    def verdicts(self) -> dict[str, int]:
        """How many exercises are right, wrong and open."""
        results = json.loads((self.folder / VERDICTS).read_text(encoding="utf-8"))
        return dict(Counter(result["status"] for result in results))

    @property
    def videos(self) -> list[Path]:
        return [p for p in self.artefacts if p.suffix == ".mp4"]


def chapters() -> dict[int, Path]:
    """Return the chapter notebooks by number."""
    return {int(p.name[:2]): p for p in sorted(notebooks_dir().glob("[0-9][0-9]_*.ipynb"))}


def find_chapter(number: str) -> Path:
    """Return the notebook of a chapter, or a reader's own copy named by its file.

    Raises:
        ValueError: there is no such chapter; names those there are.
        FileNotFoundError: there is no such file.
    """
    if number.endswith(".ipynb"):
        if not Path(number).is_file():
            raise FileNotFoundError(f"There is no notebook {number}")
        return Path(number).absolute()
    known = chapters()
    if number.isdecimal() and int(number) in known:
        return known[int(number)]
    listed = ", ".join(f"{n} ({path.stem})" for n, path in known.items()) or "none"
    raise ValueError(
        f"there is no chapter {number!r}; chapters: {listed}; or name a copy of one, FILE.ipynb"
    )


def read_notebook(path: Path) -> nbformat.NotebookNode:
    """Read a notebook; ValueError says in one line what is wrong with the file."""
    try:
        node = nbformat.read(path, as_version=4)
        nbformat.validate(node)
        return node
    except (
        nbformat.ValidationError, ValueError, AttributeError, KeyError, TypeError, RecursionError,
    ) as error:  # fmt: skip
        said = getattr(error, "message", str(error))
        raise ValueError(f"{path} is no notebook: {said[:200]}") from None


def prepare(
    notebook: Path, parameters: Mapping[str, Any], from_file: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Check the parameters for a notebook and return them in their annotated types.

    Args:
        notebook: of a chapter, or a reader's copy of one.
        parameters: strings, as typed on a command line; they win over `from_file`. A path may be
            relative to the current folder, where the notebook does not run, if the parameter is
            None by default, such as a folder of videos.
        from_file: the content of a YAML file.

    Raises:
        ValueError: a parameter does not fit; the notebook declares no artefacts, or no OUT_DIR.
    """
    node = read_notebook(notebook)
    declared_artefacts(node)
    known = read_parameters(node)
    if OUT_DIR not in known:
        raise ValueError(f"{notebook.name} needs the parameter {OUT_DIR!r}: its artefact folder")
    typed = check_parameters(known, from_file, parameters)
    _check_meaning(known, typed)
    for name, value in typed.items():
        if known[name].default is None and isinstance(value, str) and value:
            path = os.path.abspath(os.path.expanduser(value))
            typed[name] = path if os.path.exists(path) else value
    return typed


def _check_meaning(known: Mapping[str, Parameter], given: Mapping[str, Any]) -> None:
    """Refuse what a chapter would refuse minutes later: a tier, empty words, impossible sizes."""
    for name, value in given.items():
        if isinstance(value, str):
            check_text(name, value)
            default = known[name].default
            if isinstance(default, str) and visible(default) and not visible(value):
                raise ValueError(f"{name} is empty; leave it out for {default!r}")
        elif isinstance(value, int) and known[name].default is None and value < 1:  # how many
            raise ValueError(f"{name} must be at least 1, not {value}")
    tier = resolve_tier(given.get("tier", "auto")).tier
    asked = {f.name for f in fields(GenerationRequest)}
    changes = {name: v for name, v in given.items() if name in asked and v is not None}
    request = GenerationRequest.for_tier(tier, **{"prompt": "a clip"} | changes)
    if {"num_frames", "height", "width"} & set(changes) and weights_at_hand(tier.model):
        validate_request(request, ModelLimits.from_folder(locate(tier.model)))


def run_notebook(
    notebook: Path,
    parameters: Mapping[str, Any],
    folder: Path | None = None,
    limit: float | None = None,
) -> ChapterRun:
    """Execute a notebook headless and check its artefacts.

    After an error, too, the executed copy as far as it got and its HTML are kept.

    Args:
        notebook: it is left as it is.
        parameters: as returned by `prepare`.
        folder: default ``runs/<chapter>/<time>`` under the current folder.
        limit: seconds that a cell may take; None waits for ever.

    Raises:
        ChapterError: a cell fails or takes too long, an artefact is missing or degenerate, the disk
            is full.
        FileExistsError: the folder holds artefacts, or files of names that the run would write.
    """
    if parameters.get(OUT_DIR):
        _check_empty(Path(parameters[OUT_DIR]))
    folder = _make_folder(notebook, folder)
    executed = folder / notebook.name
    artefacts = Path(parameters.get(OUT_DIR) or folder / "artefacts").absolute()
    artefacts.mkdir(parents=True, exist_ok=True)
    parameters = {**parameters, OUT_DIR: str(artefacts)}
    start = time.perf_counter()
    try:
        with peak_memory("cpu", interval=0.5, children=True) as peak:
            _execute(notebook, executed, parameters, limit)
    except BaseException:
        with suppress(OSError):  # a full disk must not hide what went wrong
            _export(executed)
        raise
    html = _export(executed)
    globs = declared_artefacts(nbformat.read(notebook, as_version=4))
    found, faults = check_artefacts(artefacts, globs)
    if faults:
        raise ChapterError(f"{notebook.stem} ran, but: {'; '.join(faults)}. See {html}")
    return ChapterRun(folder, executed, html, found, time.perf_counter() - start, peak.gib)


def _make_folder(notebook: Path, folder: Path | None) -> Path:
    place = Path(folder or Path("runs", notebook.stem)).absolute()
    free = free_disk_gib(place)
    if free < ROOM_GIB:
        raise ChapterError(
            f"the disk of {place} is full: {free * 1024:.0f} MiB are free, a run needs "
            f"{ROOM_GIB * 1024:.0f}. Free some space, or choose another folder with --out"
        )
    if folder is None:
        now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        for suffix in ("", *(f"~{n}" for n in range(2, 100))):  # several runs within a second
            with suppress(FileExistsError):
                (place / f"{now}{suffix}").mkdir(parents=True)
                return place / f"{now}{suffix}"
    _check_empty(place / "artefacts")
    for name in (notebook.name, f"{notebook.stem}.html", VERDICTS):
        if (place / name).exists():
            raise FileExistsError(f"{place / name} is there already; choose another folder")
    place.mkdir(parents=True, exist_ok=True)
    return place


def _check_empty(folder: Path) -> None:
    """What an earlier run left would pass for this run's work."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is not empty; choose another folder for the run")


def _execute(
    source: Path, target: Path, parameters: Mapping[str, Any], limit: float | None
) -> None:
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    papermill.engines.papermill_engines.register("saving in time", _engine_saving_in_time())
    # Nothing but the notebook's own words: no warning of the kernel's debugger, nor of papermill
    # about parameters it cannot parse; `prepare` has checked them.
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    logging.getLogger("papermill").setLevel(logging.ERROR)
    node = nbformat.read(source, as_version=4)
    sections = _section_of_each_cell(node)
    with Progress(len(node.cells), source.stem, "cell", even=False) as progress:

        def on_cell_executed(cell: Any, cell_index: int, **_: Any) -> None:
            # Papermill skips empty cells and puts one of its own in, so count by position.
            done = min(cell_index + 1, len(sections))
            progress.update(done - progress.n, sections[done - 1])

        try:
            papermill.execute_notebook(
                source,
                target,
                parameters=dict(parameters),
                engine_name="saving in time",
                kernel_name="python3",
                language="python",
                cwd=target.parent,
                progress_bar=False,
                store_widget_state=False,
                start_timeout=300,
                execution_timeout=limit,
                extra_arguments=["--IPKernelApp.log_level=50"],
                on_cell_executed=on_cell_executed,
            )
            return
        except papermill.PapermillExecutionError as error:
            what = error.evalue.strip().rstrip(".") or "no message"
            why = f" in cell {error.exec_count} with {error.ename}: {what}"
        except CellTimeoutError:
            section = sections[min(progress.n, len(sections) - 1)]
            why = f": a cell under {section!r} took longer than {limit:g} s"
        except DeadKernelError:
            why = (
                " because its process was ended, most often for lack of memory; close other "
                "programs or take a smaller tier"
            )
        except OSError as error:  # of a save on the way or at the end
            raise ChapterError(
                f"{source.stem} stopped because {target.parent} cannot be written any more: "
                f"{error.strerror or error}. Free some space, or choose another folder with --out"
            ) from None
        raise ChapterError(f"{source.stem} stopped{why}. Everything up to there is in {target}")


def _engine_saving_in_time() -> type:
    """Papermill's engine, but for its two saves for every cell: a tenth of a chapter's time."""
    from papermill.engines import NBClientEngine, NotebookExecutionManager

    class Engine(NBClientEngine):
        @classmethod
        def execute_managed_notebook(
            cls, nb_man: NotebookExecutionManager, *args: Any, **options: Any
        ) -> None:
            save = nb_man.save

            def save_in_time(**_: Any) -> None:
                if (nb_man.now() - nb_man.last_save_time).total_seconds() >= SAVE_EVERY:
                    save()

            nb_man.save = save_in_time
            try:
                super().execute_managed_notebook(nb_man, *args, **options)
            finally:
                nb_man.save = save  # papermill's last one, whatever happened, is not put off

    return Engine


def _section_of_each_cell(node: nbformat.NotebookNode) -> list[str]:
    """The heading above each cell: what a reader wants to see beside the progress."""
    sections, heading = [], ""
    for cell in node.cells:
        found = HEADING.findall(cell.source) if cell.cell_type == "markdown" else []
        heading = found[-1].strip() if found else heading
        sections.append(heading)
    return sections


def _export(executed: Path) -> Path:
    """Write the HTML copy and the verdicts; remove a notebook that a full disk cut short."""
    from nbconvert import HTMLExporter

    html = executed.with_suffix(".html")
    if executed.is_file():
        try:
            node = nbformat.read(executed, as_version=4)
        except (nbformat.reader.NotJSONError, nbformat.ValidationError):
            executed.unlink()
            return html
        body, _ = HTMLExporter().from_notebook_node(node, {"metadata": {"name": executed.stem}})
        verdicts = json.dumps(results_in(node), indent=2, ensure_ascii=False) + "\n"
        write_files({html: body, executed.with_name(VERDICTS): verdicts})
    return html
