import time

import numpy as np

from vidgen_lab.generation.memory import PeakMemory


def test_the_peak_is_seen_although_it_is_gone_again():
    with PeakMemory("cpu", interval=0.001) as idle:
        pass
    with PeakMemory("cpu", interval=0.001) as peak:
        block = np.ones(100 * 2**17)  # 100 MiB
        time.sleep(0.2)
        del block
    assert peak.gib > idle.gib + 0.07
