"""Tasks that are done once: results come from the journal where they are known."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from vidgen_lab.config import Checked
from vidgen_lab.journal import FileHashes, Journal, key_of
from vidgen_lab.pipeline import tasks
from vidgen_lab.pipeline.workers import KILLED, Result, Task, run_tasks
from vidgen_lab.progress import Progress

_NO_MATTER = ("path", "out", "limit", "download")  # to the result of a task


@dataclass(frozen=True)
class Execution(Checked, workers=(1, math.inf)):
    """How work gets done: by one of `workers.EXECUTORS`, with so many `workers` (None: one a core);
    `retry_errors` does failed work again, `show` has a progress bar for every stage with work."""

    executor: str = "process"
    workers: int | None = None
    retry_errors: bool = False
    show: bool = False


class Lazy(Sequence[Any]):
    """Items of which each is read when it is looked at: a million would not fit into memory."""

    def __init__(self, count: int, read: Callable[[int], Any]) -> None:
        self._numbers, self._read = range(count), read

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, number: int) -> Any:
        return self._read(self._numbers[number])


class TaskRunner:
    """Runs the functions of `tasks` by their names and remembers the results in `folder`.

    Args:
        limit: seconds a task may take unless it names a "limit" of its own.
        shard: (i, n) of a run that shares the folder with others.
    """

    def __init__(
        self, folder: Path, execution: Execution, limit: float, shard: tuple[int, int] | None = None
    ) -> None:
        self.folder, self.execution, self.limit = folder, execution, limit
        self._name = f"{shard[0]}-of-{shard[1]}" if shard else "0-of-1"
        self.sha256 = FileHashes(folder / "hashes", self._name)

    def run(
        self,
        stage: str,
        todo: Sequence[Task],
        contents: Sequence[str],
        intact: Callable[[Task, Any], bool] = lambda task, value: True,
        before: Callable[[Sequence[Task]], None] = lambda tasks: None,
    ) -> Sequence[Result]:
        """One result a task, in their order; what is not known yet is done.

        The key of a result is made of the content, of the task without its paths, and of how it is
        made; equal work is done once. An error is remembered until the limit or `download` changes
        or errors are retried; that of a worker killed from outside is not.

        Args:
            stage: name of a function in `tasks`.
            todo: what this function takes.
            contents: what a task's input is (a hash).
            intact: whether a remembered value still holds.
            before: called with the tasks to be done, even if there are none.
        """
        journal = Journal(self.folder / stage, self._name)
        keys = [
            key_of(
                stage, tasks.made_by(stage, task), content,
                {name: value for name, value in task.items() if name not in _NO_MATTER},
            )
            for content, task in zip(contents, todo, strict=True)
        ]  # fmt: skip
        distinct = dict(zip(keys, todo, strict=True))
        missing = {
            key: task
            for key, task in distinct.items()
            if (known := journal.get(key)) is None or not self._holds(known, task, intact)
        }
        before(list(missing.values()))
        batches, passing = _batches(stage, missing), {}
        work = run_tasks(
            getattr(tasks, stage), [task for _, task in batches],
            self.execution.executor, self.execution.workers, self.limit,
        )  # fmt: skip
        with Progress(
            len(missing), stage, "task", disable=not missing or not self.execution.show
        ) as bar:
            for number, found in work:
                of_batch = batches[number][0]
                apart = stage in tasks.TOGETHER and "error" not in found
                each = found["value"] if apart else [found] * len(of_batch)
                for key, result in zip(of_batch, each, strict=True):
                    if error := result.get("error", ""):
                        reason = plain_reason(error, missing[key])
                        result = {"error": reason, "under": self._under(missing[key])}
                    if error.startswith(KILLED):  # it may well succeed the next time
                        passing[key] = result
                    else:
                        journal.add(key, result)
                bar.update(len(of_batch))
        return Lazy(len(keys), lambda n: passing.get(keys[n]) or journal[keys[n]])

    def _holds(self, result: Any, task: Task, intact: Callable[[Task, Any], bool]) -> bool:
        if not isinstance(result, dict) or not {"value", "error"} & result.keys():
            return False  # the file was tampered with
        if "value" in result:
            return intact(task, result["value"])
        return result.get("under") == self._under(task) and not self.execution.retry_errors

    def _under(self, task: Task) -> list:
        """What changes no result, yet may turn an error into one."""
        return [self.limit, task.get("download", False)]


def _batches(stage: str, missing: Mapping[str, Task]) -> list[tuple[list[str], Task]]:
    """(keys, task) of what one worker does in one go: one task, or, at the stages of
    `tasks.TOGETHER`, the clips of one video, so that it is decoded once for all of them."""
    own = tasks.TOGETHER.get(stage)
    if own is None:
        return [([key], task) for key, task in missing.items()]
    in_order = sorted(missing, key=lambda key: (missing[key]["path"], missing[key]["frames"]))
    batches = []
    for _, video in groupby(in_order, key=lambda key: missing[key]["path"]):
        while keys := list(islice(video, tasks.CLIPS)):
            some = [missing[key] for key in keys]
            shared = {name: value for name, value in some[0].items() if name not in own}
            clips = [{name: task[name] for name in own} for task in some]
            limit = sum(task["limit"] for task in some)
            batches.append((keys, shared | {"clips": clips, "limit": limit}))
    return batches


def plain_reason(error: str, task: Task) -> str:
    """The error of a task without this machine's folders, so that it is the same everywhere."""
    for path in (task[name] for name in ("out", "path") if name in task):
        escaped = repr(path)[1:-1]  # as Python's own errors have it: \\ on Windows, \udce9
        error = error.replace(path, "the file").replace(escaped, "the file")
    return re.sub("^VideoError: ", "", " ".join(error.split()))
