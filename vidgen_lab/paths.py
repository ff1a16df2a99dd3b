"""Where the shipped files are: beside the package in a checkout, inside it once installed."""

import subprocess
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def _shipped(name: str) -> Path:
    checkout = _PACKAGE.parent
    for root in (checkout, _PACKAGE / "_shipped"):
        # A stray "data" folder in site-packages must not pass for ours, hence the marker file.
        if root == checkout and not (root / "pyproject.toml").is_file():
            continue
        if (root / name).is_dir():
            return root / name
    raise FileNotFoundError(
        f"The folder {name!r} that comes with vidgen-lab was found neither in {checkout} nor in "
        f"{_PACKAGE}. Reinstall the package, or work in a complete checkout."
    )


def data_dir() -> Path:
    """Return the folder with everything that is shipped: models and recorded runs."""
    return _shipped("data")


def notebooks_dir() -> Path:
    """Return the folder with the chapter notebooks."""
    return _shipped("notebooks")


def model_dir(name: str) -> Path:
    """Return the folder of an embedded model such as ``"toy-cogvideox"``.

    Raises FileNotFoundError naming the embedded models there are.
    """
    models = data_dir() / "models"
    folder = models / name
    if not folder.is_dir():
        known = sorted(p.name for p in models.glob("*") if p.is_dir())
        raise FileNotFoundError(
            f"There is no embedded model {name!r} in {models}. "
            f"Known: {', '.join(known) or 'none yet'}."
        )
    return folder


def code_version() -> str:
    """The commit of this checkout, with a plus where files differ from it; "" if it is none."""
    root = _PACKAGE.parent
    if not (root / "pyproject.toml").is_file():  # installed, perhaps inside another repository
        return ""
    command = ["git", "describe", "--always", "--dirty=+"]
    try:
        told = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return told.stdout.strip()
