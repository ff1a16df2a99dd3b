"""What holds for every test and every process a test starts: above all, there is no network."""

import os
import runpy
from pathlib import Path

OFFLINE = Path(__file__).parent / "offline"
NOWHERE = "http://127.0.0.1:9"  # for libraries that do not go through Python's sockets

os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(OFFLINE), os.environ.get("PYTHONPATH")])
)
os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "HTTP_PROXY": NOWHERE,
    "HTTPS_PROXY": NOWHERE,
    "NO_PROXY": "localhost,127.0.0.1",
    "VIDGEN_LAB_TRACEBACK": "",
    "OMP_WAIT_POLICY": "passive",  # where others compute, waiting in a loop takes most of the time
}
runpy.run_path(str(OFFLINE / "sitecustomize.py"))


def pytest_configure(config):
    """Without `-m gpu` the processor calculates on every machine: what must be equal is so there to
    the last bit, and two processes do not ask for two GPUs."""
    if config.option.markexpr != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
