"""Run one pure function over many tasks: here, in killable processes, or on a Ray cluster.

A task and its result are plain values, so all three give the same bytes. A worker is a process of
its own that is killed, with everything it started, when a task passes its limit or takes the worker
down: nothing inside Python can stop a decoder that does not return.
"""

import importlib
import json
import multiprocessing
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from typing import Any

import psutil

from vidgen_lab.files import plain

EXECUTORS = ("serial", "process", "ray")
_RECYCLE = 200  # tasks after which a worker is replaced, so that leaks of libraries stay bounded
# Nothing that a task does to itself: a cluster that takes the machine back, a lack of memory.
_FROM_OUTSIDE = (-signal.SIGTERM, -getattr(signal, "SIGKILL", 9))
KILLED = "killed"  # begins the reason of a task that may well succeed another time
_SPAWN = multiprocessing.get_context("spawn")
_STARTING = threading.Lock()

Task = dict[str, Any]
Result = dict[str, Any]  # {"value": ...} or {"error": reason}
Function = Callable[[Task], Any]


def run_tasks(
    function: Function,
    tasks: Sequence[Task],
    executor: str = "process",
    workers: int | None = None,
    limit: float = 300.0,
) -> Iterator[tuple[int, Result]]:
    """Yield (number of the task, result) as tasks finish, in any order, each exactly once.

    function: defined at the top of a module, takes and returns plain values. workers: processes,
    by default one a core. limit: seconds a task may take unless it names a "limit" of its own; not
    enforced by "serial", where nothing could be killed. An exception of the function is a result
    with an error, not an exception. Raises ValueError for an unknown executor, ImportError when Ray
    is missing.
    """
    if executor not in EXECUTORS:
        raise ValueError(f"unknown executor {executor!r}; one of {', '.join(EXECUTORS)}")
    if limit <= 0:
        raise ValueError(f"the limit must be some seconds, not {limit}")
    workers = max(1, min(workers or os.cpu_count() or 1, len(tasks)))
    if not tasks:
        return
    if executor == "serial":
        yield from ((number, _attempt(function, task)) for number, task in enumerate(tasks))
    elif executor == "process":
        yield from _on_processes(function, tasks, workers, limit)
    else:
        yield from _on_ray(function, tasks, workers, limit)


class Worker:
    """A process that runs `function` on one task after another; start it by calling it."""

    def __init__(self, function: Function, limit: float) -> None:
        self.name = f"{function.__module__}:{function.__qualname__}"
        self.limit = limit
        self._process: Any = None
        self._ours: Connection | None = None
        self._done = 0

    def __call__(self, task: Task) -> Result:
        """Run one task; the process is started, replaced or killed as needed."""
        if self._process is None or not self._process.is_alive() or self._done >= _RECYCLE:
            self.close()
            self._start()
        self._done += 1
        with suppress(OSError, EOFError):
            self._ours.send(task)
            limit = float(task.get("limit", self.limit))
            if not self._ours.poll(limit):
                self.close()
                return {"error": f"timeout: not finished within {limit:g} s, killed"}
            return self._ours.recv()
        self._process.join()
        code = self._process.exitcode
        if code in _FROM_OUTSIDE:
            return {"error": f"{KILLED}: signal {-code} from outside ended the worker"}
        return {"error": f"crash: the worker ended with code {code}"}

    def close(self) -> None:
        """End the process and what it started."""
        if self._process is not None:
            kill_tree(self._process.pid)
            self._process.join()
            self._ours.close()
            self._process = None

    def _start(self) -> None:
        self._ours, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(self.name, theirs), daemon=True)
        with _main_left_alone():
            self._process.start()
        theirs.close()  # so that its end is noticed here
        self._done = 0


@contextmanager
def _main_left_alone() -> Iterator[None]:
    """Spawning would run the user's script once more in every worker; tasks do not need it."""
    main, hidden = sys.modules["__main__"], {}
    with _STARTING:
        for name in ("__spec__", "__file__"):
            if hasattr(main, name):
                hidden[name] = getattr(main, name)
                setattr(main, name, None)
        try:
            yield
        finally:
            vars(main).update(hidden)


def _serve(name: str, tasks: Connection) -> None:
    """What a worker process does: take tasks and answer each, until nobody sends any.

    When the other end goes away, even by kill -9, so does this process and all it started.
    """
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C is for the process that handed out the work
    os.dup2(2, 1)  # what a library prints is no result of the command
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"}  # workers are parallel
    threading.Thread(target=_end_with_parent, daemon=True).start()
    module, _, function = name.partition(":")
    call = getattr(importlib.import_module(module), function)
    with suppress(EOFError, OSError):
        while True:
            tasks.send(_attempt(call, tasks.recv()))


def _end_with_parent() -> None:
    wait([multiprocessing.parent_process().sentinel])
    for child in psutil.Process().children(recursive=True):
        kill_tree(child.pid)
    os._exit(0)


def kill_tree(pid: int) -> None:
    """Kill a process and all its descendants; those already gone are fine."""
    try:
        parent = psutil.Process(pid)
        family = [*parent.children(recursive=True), parent]
    except psutil.NoSuchProcess:
        return
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family[:-1], timeout=5)


def _attempt(function: Function, task: Task) -> Result:
    try:
        return {"value": plain(function(task))}
    except Exception as error:  # a task must never take the others down
        return {"error": f"{type(error).__name__}: {error}"}


def _on_processes(
    function: Function, tasks: Sequence[Task], workers: int, limit: float
) -> Iterator[tuple[int, Result]]:
    pool = [Worker(function, limit) for _ in range(workers)]
    free: queue.Queue[Worker] = queue.Queue()
    for worker in pool:
        free.put(worker)

    def one(task: Task) -> Result:
        worker = free.get()
        try:
            return worker(task)
        finally:
            free.put(worker)

    threads = ThreadPoolExecutor(workers)
    try:
        numbers = {threads.submit(one, task): number for number, task in enumerate(tasks)}
        for future in as_completed(numbers):
            yield numbers.pop(future), future.result()
    finally:  # also when the caller stops half-way or presses Ctrl-C
        threads.shutdown(wait=False, cancel_futures=True)
        for worker in pool:
            worker.close()


def _on_ray(
    function: Function, tasks: Sequence[Task], workers: int, limit: float
) -> Iterator[tuple[int, Result]]:
    try:
        import ray
    except ImportError as error:
        raise ImportError("the Ray executor needs Ray: pip install vidgen-lab[cluster]") from error
    from ray.data import ActorPoolStrategy

    rows = [{"number": n, "task": json.dumps(task)} for n, task in enumerate(tasks)]
    made = ray.data.from_items(rows, override_num_blocks=min(len(rows), 4 * workers)).map(
        _RayWorker,
        fn_constructor_args=(function, limit),
        compute=ActorPoolStrategy(size=workers),
    )
    for row in made.iter_rows():
        yield int(row["number"]), json.loads(row["result"])


class _RayWorker:
    """An actor that hands its tasks to a killable process."""

    def __init__(self, function: Function, limit: float) -> None:
        self._worker = Worker(function, limit)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        result = self._worker(json.loads(row["task"]))
        return {"number": row["number"], "result": json.dumps(result)}
