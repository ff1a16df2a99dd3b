"""What every command promises of bad input: exit code, one line, nothing left, nothing lost."""

import hashlib
from pathlib import Path

from vidgen_lab import cli


def contents(folder: Path) -> dict[str, str | None]:
    """Every path below a folder, and of files a hash of what they hold."""
    return {
        p.relative_to(folder).as_posix(): (
            hashlib.sha256(p.read_bytes()).hexdigest() if p.is_file() else None
        )
        for p in folder.rglob("*")
    }


def ended(*argv: object) -> int:
    """The exit code of `vidgen-lab ARGV`, run in this process."""
    try:
        return cli.main([str(word) for word in argv])
    except SystemExit as stop:  # argparse leaves in this way
        return stop.code


def refused(capsys, folder: Path, *argv: object, says: str = "") -> str:
    """Run a command that has to be refused; returns its one line."""
    before = contents(folder)
    code = ended(*argv)
    out, err = capsys.readouterr()
    assert code in (1, 2), f"exit code {code}: {out}{err}"
    lines = [line for line in err.splitlines() if not line.startswith("note: ")]
    assert len(lines) == 1 and lines[0].startswith("error: "), err
    assert "Traceback" not in out + err
    assert says.lower() in lines[0].lower(), lines[0]
    assert contents(folder) == before, "the command left or lost something"
    return lines[0]
