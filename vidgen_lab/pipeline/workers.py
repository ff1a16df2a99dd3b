"""Run one pure function over many tasks: here, in killable processes, or on a Ray cluster.

A task and its result are plain values, so all three give the same bytes. A worker is a process of
its own that is killed, with everything it started, when a task passes its limit or takes the worker
down: nothing inside Python can stop a decoder that does not return.
"""

import json
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

import psutil

from vidgen_lab.files import plain

EXECUTORS = ("serial", "process", "ray")
_RECYCLE = 200  # tasks after which a worker is replaced, so that leaks of libraries stay bounded
_LONGEST = 1e6  # seconds; a system call cannot wait for much more
_MOST = 60 if os.name == "nt" else 10_000  # workers: Windows waits for 63 pipes at a time
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

    An exception of the function is a result with an error, not an exception.

    Args:
        function: defined at the top of a module, takes and returns plain values.
        tasks: what the function takes, one call each.
        executor: "serial" works in this process, "process" in killable ones, "ray" on a cluster.
        workers: processes, by default one a core.
        limit: seconds a task may take unless it names a "limit" of its own; not enforced by
            "serial", where nothing could be killed.

    Raises:
        ValueError: the executor is unknown, or the limit is not above 0.
        ImportError: Ray is wanted and missing.
    """
    if executor not in EXECUTORS:
        raise ValueError(f"unknown executor {executor!r}; one of {', '.join(EXECUTORS)}")
    if limit <= 0:
        raise ValueError(f"the limit must be some seconds, not {limit}")
    workers = max(1, min(workers or os.cpu_count() or 1, len(tasks), _MOST))
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
        self.function, self.limit = pickle.dumps(function), limit
        self._process: Any = None
        self._done = 0

    def __call__(self, task: Task) -> Result:
        """Run one task; the process is started, replaced or killed as needed."""
        self.begin(task)
        return self.end()

    def begin(self, task: Task) -> None:
        """Hand a task over without waiting for it: `pipe` has something to read when it is done,
        `deadline` is the moment (of `time.monotonic`) at which it should be."""
        if self._process is None or not self._process.is_alive() or self._done >= _RECYCLE:
            self.close()
            self._start()
        self._done += 1
        self._seconds = min(float(task.get("limit", self.limit)), _LONGEST)
        self.deadline = time.monotonic() + self._seconds
        with suppress(OSError):  # a worker that died meanwhile is noticed at the end
            self.pipe.send(task)

    def end(self) -> Result:
        """What became of the task; one that is not done at its deadline is killed."""
        with suppress(OSError, EOFError):
            if not self.pipe.poll(max(0, self.deadline - time.monotonic())):
                self.close()
                return {"error": f"timeout: not finished within {self._seconds:g} s, killed"}
            return self.pipe.recv()
        self._process.join()
        code = self._process.exitcode
        if code in _FROM_OUTSIDE:
            return {"error": f"{KILLED}: signal {-code} from outside ended the worker"}
        return {"error": f"crash: the worker ended with code {code}"}

    def close(self) -> None:
        """End the process and what it started."""
        if self._process is not None and self._process.pid:  # none: interrupted while it started
            kill_tree(self._process.pid)
            self._process.join()
            self.pipe.close()
        self._process = None

    def _start(self) -> None:
        self.pipe, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(self.function, theirs), daemon=True)
        with _STARTING:
            # Spawning would run the user's script once more in every worker; tasks do not need it.
            main = vars(sys.modules["__main__"])
            hidden = {name: main[name] for name in ("__spec__", "__file__") if name in main}
            main.update(dict.fromkeys(hidden))
            try:
                self._process.start()
            finally:
                main.update(hidden)
        theirs.close()  # so that its end is noticed here
        self._done = 0


def _serve(function: bytes, tasks: Connection) -> None:
    """What a worker process does: take tasks and answer each, until nobody sends any.

    When the other end goes away, even by kill -9, so does this process and all it started.
    """
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C is for the process that handed out the work
    os.dup2(2, 1)  # what a library prints is no result of the command
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"}  # workers are parallel
    threading.Thread(target=_end_with_parent, daemon=True).start()
    call = pickle.loads(function)  # only now: the libraries it imports look at the environment
    with suppress(EOFError, OSError):
        while True:
            tasks.send(_attempt(call, tasks.recv()))


def _end_with_parent() -> None:
    wait([multiprocessing.parent_process().sentinel])
    kill_tree(os.getpid())


def kill_tree(pid: int) -> None:
    """Kill a process and all its descendants; those already gone are fine."""
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        family = [*parent.children(recursive=True), parent]
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
    todo, busy = enumerate(tasks), {}
    try:
        for worker, (number, task) in zip(pool, todo, strict=False):
            worker.begin(task)
            busy[worker] = number
        while busy:
            first = min(worker.deadline for worker in busy)
            ready = wait([worker.pipe for worker in busy], max(0, first - time.monotonic()))
            now = time.monotonic()
            for worker in [w for w in busy if w.pipe in ready or w.deadline <= now]:
                number, result = busy.pop(worker), worker.end()
                if following := next(todo, None):
                    busy[worker], task = following
                    worker.begin(task)
                yield number, result
    finally:  # also when the caller stops half-way or presses Ctrl-C
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


class _RayWorker(Worker):
    """An actor that hands its tasks to a killable process."""

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        result = super().__call__(json.loads(row["task"]))
        return {"number": row["number"], "result": json.dumps(result)}
