# On Colab: fetch the workbook and the few libraries Colab lacks. Elsewhere: nothing.
import sys

if "google.colab" in sys.modules:
    import subprocess
    from pathlib import Path

    home = Path("/content/vidgen-lab")
    if not home.exists():
        source = "https://github.com/vidgen-lab/vidgen-lab"
        subprocess.run(["git", "clone", "-q", "--depth", "1", source, str(home)], check=True)
    subprocess.run([sys.executable, str(home / "colab" / "install.py")], check=True)
    sys.path.insert(0, str(home))
