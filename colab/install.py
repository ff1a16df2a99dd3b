"""Install what Colab lacks, and nothing else: no preinstalled package may change.

Run by the first cell of every chapter on Colab. A changed numpy or torch would need a restart of
the runtime, so everything that is installed already is a constraint.
"""

import subprocess
import sys
import tempfile
from pathlib import Path


def main() -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    frozen = subprocess.run([*pip, "freeze"], capture_output=True, text=True, check=True).stdout
    exact = [line for line in frozen.splitlines() if "==" in line and not line.startswith("-")]
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder, "constraints.txt")
        constraints.write_text("\n".join(exact), encoding="utf-8")
        wanted = Path(__file__).with_name("requirements.txt")
        subprocess.run([*pip, "install", "-q", "-r", wanted, "-c", constraints], check=True)


if __name__ == "__main__":
    main()
