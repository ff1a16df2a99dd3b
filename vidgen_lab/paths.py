"""Where the shipped files are: beside the package in a checkout, inside it once installed."""

import subprocess
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def _shipped(name: str) -> Path:
    folder = (_PACKAGE.parent if _is_checkout() else _PACKAGE / "_shipped") / name
    if not folder.is_dir():
        raise FileNotFoundError(
            f"The folder {name!r} that comes with vidgen-lab is not in {folder.parent}. "
            "Reinstall the package, or work in a complete checkout."
        )
    return folder


def _is_checkout() -> bool:
    """By a marker: a stray "data" folder, or the repository of others around us, is not ours."""
    return (_PACKAGE.parent / "pyproject.toml").is_file()


def data_dir() -> Path:
    """Return the folder with everything that is shipped: models and recorded runs."""
    return _shipped("data")


def notebooks_dir() -> Path:
    """Return the folder with the chapter notebooks."""
    return _shipped("notebooks")


def model_dir(name: str) -> Path:
    """Return the folder of an embedded model such as ``"toy-cogvideox"``.

    Raises:
        FileNotFoundError: no embedded model has this name; names those there are.
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
    if not _is_checkout():
        return ""
    command = ["git", "-C", str(_PACKAGE), "describe", "--always", "--dirty=+"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return told.stdout.strip()
