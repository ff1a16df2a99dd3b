import subprocess
import sys
import time

import numpy as np

from vidgen_lab.generation.memory import peak_memory


def test_the_peak_is_seen_although_it_is_gone_again():
    with peak_memory("cpu", interval=0.001) as idle:
        pass
    with peak_memory("cpu", interval=0.001) as peak:
        block = np.ones(100 * 2**17)  # 100 MiB
        end = time.monotonic() + 20  # a busy machine may keep the watching thread waiting
        while peak.gib < idle.gib + 0.07 and time.monotonic() < end:
            time.sleep(0.01)
        del block
    assert peak.gib > idle.gib + 0.07


def test_children_count_on_request():
    hungry = [sys.executable, "-c", "block = bytearray(200 * 2**20); input()"]
    with (
        peak_memory("cpu", 0.01) as alone,
        peak_memory("cpu", 0.01, children=True) as family,
        subprocess.Popen(hungry, stdin=subprocess.PIPE) as child,
    ):
        while family.gib < alone.gib + 0.19 and child.poll() is None:
            time.sleep(0.01)
        child.communicate(b"\n")
    assert child.returncode == 0 and family.gib > alone.gib + 0.19
