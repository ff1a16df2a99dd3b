import subprocess
import sys

import pytest

from vidgen_lab import cli


def run(capsys, *argv: str) -> tuple[int, str, str]:
    try:
        code = cli.main(argv)
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_shows_an_example_that_parses(capsys, command):
    import shlex

    code, out, _ = run(capsys, command, "--help")
    assert code == 0
    _, example, *_ = cli.COMMANDS[command]
    assert f"example:\n  {example}" in out
    argv = shlex.split(example)[1:]
    assert cli._parser(argv[0]).parse_args(argv).command == command


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("nope",),
        ("video",),
        ("video", "a ball", "--steps", "many"),
        ("evaluate",),
        ("chapter", "99"),
        ("chapter", "one"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(capsys, argv):
    code, out, err = run(capsys, *argv)
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert out == ""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("bad\nvalue"), "error: bad value"),
        (OSError(28, "No space left on device", "a.mp4"), "error: No space left on device: a.mp4"),
        (PermissionError(13, "Permission denied", "x"), "error: Permission denied: x"),
        (MemoryError(), "error: not enough memory; close other programs or take a smaller tier"),
    ],
)
def test_expected_errors_are_one_line_and_exit_code_1(capsys, monkeypatch, error, line):
    def fail(args):
        raise error

    monkeypatch.delenv("VIDGEN_LAB_TRACEBACK", raising=False)
    command = "fail", "vidgen-lab fail", lambda parser: None, fail
    monkeypatch.setattr(cli, "COMMANDS", {"fail": command})
    assert run(capsys, "fail") == (1, "", line + "\n")


def test_help_and_import_load_no_heavy_library():
    code = (
        "import sys, pkgutil, vidgen_lab, vidgen_lab.cli\n"
        "for words in [['--help'], *([c, '--help'] for c in vidgen_lab.cli.COMMANDS)]:\n"
        "    try: vidgen_lab.cli.main(words)\n"
        "    except SystemExit: pass\n"
        "for m in pkgutil.iter_modules(vidgen_lab.__path__, 'vidgen_lab.'):\n"
        "    m.ispkg and __import__(m.name)\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'cv2', 'matplotlib', 'pandas', 'IPython'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_check_reports_versions_and_every_tier(capsys):
    import json

    from vidgen_lab.settings.tiers import load_tiers

    _, out, _ = run(capsys, "check", "--json")
    report = json.loads(out)
    assert set(report["tiers"]) == set(load_tiers())
    assert report["device"]["cores"] >= 1
    assert report["python"] == ".".join(map(str, sys.version_info[:3]))
