import math
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from vidgen_lab.pipeline import workers
from vidgen_lab.pipeline.workers import Worker, run_tasks


def work(task: dict) -> dict:
    """The task function of these tests: does what the task says."""
    match task["do"]:
        case "square":
            return {"value": task["x"] ** 2, "pair": (1, 0.1 + 0.2)}
        case "raise":
            raise ValueError("bad clip")
        case "print":
            print("noise on standard output")
            return "quiet"
        case "die":
            os._exit(3)
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":  # with a child of its own, as a stuck ffmpeg would be
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            with open(task["note"], "w", encoding="utf-8") as file:
                file.write(f"{os.getpid()} {child.pid}")
            time.sleep(600)
    return None


def results(tasks: list[dict], **options) -> list:
    found = dict(run_tasks(work, tasks, **options))
    assert sorted(found) == list(range(len(tasks)))
    return [found[n] for n in range(len(tasks))]


def gone(pid: int) -> bool:
    for _ in range(600):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def test_processes_give_the_same_as_serial():
    tasks = [{"do": "square", "x": x} for x in range(5)] + [{"do": "raise"}, {"do": "print"}]
    here = results(tasks, executor="serial")
    there = results(tasks, executor="process", workers=2)
    assert here == there
    assert here[3]["value"] == {"value": 9, "pair": [1, 0.3]}
    assert here[5]["error"] == "ValueError: bad clip"
    assert here[6]["value"] == "quiet"


def test_a_hanging_and_a_dying_task_stop_nobody_and_leave_no_orphan(tmp_path):
    note = tmp_path / "pids"
    tasks = [{"do": "square", "x": x} for x in range(3)]
    tasks[1:1] = [{"do": "hang", "note": str(note), "limit": 3}, {"do": "die"}]  # it has started
    found = results(tasks, executor="process", workers=1, limit=60)
    assert found[1]["error"].startswith("timeout")
    assert found[2]["error"] == "crash: the worker ended with code 3"
    assert [found[n]["value"]["value"] for n in (0, 3, 4)] == [0, 1, 4]
    assert all(gone(int(pid)) for pid in note.read_text().split())


@pytest.mark.skipif(os.name == "nt", reason="kill -9 is a POSIX thing")
def test_a_kill_from_outside_is_told_from_a_crash():
    (found,) = results([{"do": "killed"}], executor="process", workers=1)
    assert found["error"] == "killed: signal 9 from outside ended the worker"


def test_stopping_half_way_ends_the_workers():
    results([{"do": "square", "x": 1}], workers=1)  # Python's resource tracker stays
    before = {p.pid for p in psutil.Process().children(recursive=True)}
    run = run_tasks(work, [{"do": "square", "x": x} for x in range(4)], workers=1)
    next(run)
    run.close()
    left = [p for p in psutil.Process().children(recursive=True) if p.pid not in before]
    assert all(gone(p.pid) for p in left)


@pytest.mark.skipif(os.name == "nt", reason="kill -9 is a POSIX thing")
def test_killing_the_parent_ends_worker_and_grandchild(tmp_path):
    note = tmp_path / "pids"
    code = (
        "from tests.pipeline.test_workers import work\n"
        "from vidgen_lab.pipeline.workers import run_tasks\n"
        f"list(run_tasks(work, [{{'do': 'hang', 'note': {str(note)!r}}}], workers=1))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    for _ in range(2000):
        if note.exists() and len(note.read_text().split()) == 2:
            break
        time.sleep(0.05)
    pids = [int(pid) for pid in note.read_text().split()]
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert all(gone(pid) for pid in pids)


def test_ctrl_c_while_a_worker_starts_kills_nobody(monkeypatch):
    """A process without a number yet once stood for the caller itself: a notebook's kernel died."""

    def interrupted(process):
        raise KeyboardInterrupt

    killed = []
    monkeypatch.setattr(workers._SPAWN.Process, "start", interrupted)
    monkeypatch.setattr(workers, "kill_tree", killed.append)
    with pytest.raises(KeyboardInterrupt):
        list(run_tasks(work, [{"do": "square", "x": 1}], workers=1))
    assert killed == []


def test_no_limit_is_a_limit():
    (found,) = results([{"do": "square", "x": 2}], workers=1, limit=math.inf)
    assert found["value"]["value"] == 4


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="unknown executor"):
        list(run_tasks(work, [{}], executor="magic"))
    with pytest.raises(ValueError, match="limit"):
        list(run_tasks(work, [{}], limit=0))
    assert list(run_tasks(work, [])) == []


def test_a_worker_is_replaced_after_many_tasks(monkeypatch):
    monkeypatch.setattr("vidgen_lab.pipeline.workers._RECYCLE", 1)
    worker = Worker(work, limit=60)
    try:
        pids = []
        for x in range(2):
            assert worker({"do": "square", "x": x})["value"]["value"] == x**2
            pids.append(worker._process.pid)
        assert pids[0] != pids[1] and gone(pids[0])
    finally:
        worker.close()


@pytest.mark.slow
def test_ray_gives_the_same_as_serial(ray_node):
    tasks = [{"do": "square", "x": x} for x in range(4)] + [{"do": "raise"}, {"do": "die"}]
    found = results(tasks, executor="ray", workers=1)
    assert found[:5] == results(tasks[:5], executor="serial")
    assert found[5]["error"].startswith("crash")


def test_a_script_without_a_guard_is_not_run_by_its_workers(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from tests.pipeline.test_workers import work\n"
        "from vidgen_lab.pipeline.workers import run_tasks\n"
        "with Path(__file__).with_name('runs').open('a') as file:\n"
        "    file.write('run\\n')\n"
        "print([r['value']['value'] for _, r in run_tasks(work, [{'do': 'square', 'x': 3}])])\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=env)
    assert done.stdout == "[9]\n", done.stderr
    assert (tmp_path / "runs").read_text() == "run\n"
