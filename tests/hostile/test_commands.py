"""Every other command and whatever its words may be. `prepare` has a file of its own."""

import json

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tests.hostile.checks import contents, ended, refused


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ((), "COMMAND"),
        (("nope",), "invalid choice"),
        (("--nope",), ""),
        (("words", "more"), "unrecognized"),
        (("tiers", "--tier", "nope"), "unknown tier 'nope'"),
        (("tiers", "--tier", ""), "unknown tier ''"),
        (("check", "more"), "unrecognized"),
        (("evaluate",), "FILE"),
        (("evaluate", "none.mp4"), "no video file"),
        (("evaluate", "nothing"), "is a folder"),
        (("evaluate", "."), "is a folder"),
        (("evaluate", ""), "is a folder"),
        (("evaluate", "empty.mp4"), "empty"),
        (("evaluate", "text.mp4"), "not a readable video"),
        (("evaluate", "data.json"), "not a readable video"),
        (("evaluate", "clip.mp4/a"), ""),
        (("evaluate", "a\0b.mp4"), ""),
        (("evaluate", "x" * 300), ""),
        (("evaluate", "http://127.0.0.1:9/a.mp4"), "no video file"),
        (("evaluate", "text.mp4", "--prompt", "a ball"), "not a readable video"),
        (("evaluate", "text.mp4", "--prompt", "a ball", "--json"), "not a readable video"),
        (("evaluate", "clip.mp4", "--prompt"), "expected one argument"),
        (("toyworld",), "DIR"),
        (("toyworld", "new", "--count", "0"), "--count must lie in"),
        (("toyworld", "new", "--count", "-3"), "--count must lie in"),
        (("toyworld", "new", "--count", "many"), "invalid int"),
        (("toyworld", "new", "--seed", "-1"), "--seed must lie in"),
        (("toyworld", "new", "--seed", str(2**70)), "--seed must lie in"),
        (("toyworld", "new", "--width", "0"), "--width must lie in"),
        (("toyworld", "new", "--width", "20000"), "--width must lie in"),
        (("toyworld", "new", "--height", "-64"), "--height must lie in"),
        (("toyworld", "new", "--frames", "0"), "--frames must lie in"),
        (("toyworld", "new", "--frames", "1000000000"), "--frames must lie in"),
        (("toyworld", "full"), "not empty"),
        (("toyworld", "data.json"), ""),
        (("toyworld", "data.json/new"), ""),
        (("toyworld", "new", "--raw", "--count", "3"), "at least"),
        (("toyworld", "new", "--raw", "--seed", "-1"), "--seed must lie in"),
        (("toyworld", "data.json", "--raw"), ""),
        (("toyworld", "data.json", "--sheet"), ""),
        (("chapter",), "N|FILE"),
        (("chapter", ""), "no chapter"),
        (("chapter", "0"), "no chapter '0'"),
        (("chapter", "-1"), ""),
        (("chapter", "99"), "no chapter"),
        (("chapter", "one"), "no chapter"),
        (("chapter", "1.5"), "no chapter"),
        (("chapter", "²"), "no chapter"),
        (("chapter", "none.ipynb"), "no notebook none.ipynb"),
        (("chapter", "clip.mp4"), "no chapter"),
        (("chapter", "1", "--tier", "nope"), "unknown tier 'nope'"),
        (("chapter", "1", "--tier", ""), "tier is empty"),
        (("chapter", "1", "-p", "tier", "[1, 2]"), "unknown tier"),
        (("chapter", "1", "-p", "tier", "5"), "unknown tier '5'"),
        (("chapter", "1", "-p", "prompt", ""), "prompt is empty"),
        (("chapter", "1", "-p", "prompt", "\u200b"), "prompt is empty"),
        (("chapter", "1", "-p", "prompt", "\udcff"), "no text"),
        (("chapter", "1", "-p", "promt", "a ball"), "promt"),
        (("chapter", "1", "-p", "seed", "-1"), "seed must be at least 0"),
        (("chapter", "1", "-p", "seed", "1.5"), "seed"),
        (("chapter", "1", "-p", "seed", "[1]"), "seed"),
        (("chapter", "1", "-p", "num_frames", "10001"), "num_frames=10001"),
        (("chapter", "1", "-p", "guidance_scale", ".inf"), "guidance_scale must be finite"),
        (("chapter", "1", "-p", "download", "perhaps"), "download"),
        (("chapter", "1", "-p", "prompt"), "expected 2 arguments"),
        (("chapter", "1", "-p", "out_dir", "full"), "not empty"),
        (("chapter", "1", "-f", "none.yaml"), "no such file"),
        (("chapter", "1", "-f", "nothing"), ""),
        (("chapter", "1", "--limit", "0"), "--limit must be"),
        (("chapter", "1", "--limit", "nan"), "--limit must be"),
        (("chapter", "1", "--limit", "inf"), "--limit must be"),
        (("chapter", "1", "--record", "--tier", "ci", "-p", "seed", "2"), "leave out seed"),
        (("chapter", "1", "--out", "data.json"), ""),
        (("chapter", "1", "--out", "data.json/run"), ""),
        (("prepare",), ""),
        (("prepare", "none", "out"), ""),
        (("prepare", "clip.mp4", "out"), ""),
        (("prepare", "nothing", "full"), ""),
        (("prepare", ".", "out"), "apart"),
        (("prepare", "nothing", "out", "nope=1"), ""),
        (("prepare", "nothing", "out", "--workers", "-3"), ""),
        (("prepare", "nothing", "out", "--config", "data.json"), ""),
    ],
    ids=lambda value: " ".join(map(ascii, value))[:60] if isinstance(value, tuple) else "",
)
def test_bad_words_are_refused(capsys, here, argv, says):
    refused(capsys, here, *argv, says=says)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"tier: [1]", "tier"),
        (b"tier: nope", "unknown tier"),
        (b"prompt: ''", "prompt is empty"),
        (b"seed: 2026-01-01", "seed"),
        (b"seed: true", "seed"),
        (b"nope: 1", ""),
        (b"1: 2", ""),
        (b"- a", "name: value"),
        (b"a: [", "not valid YAML"),
        (b"!!python/object/apply:os.system ['touch owned']", "not valid YAML"),
        (b"\xff\xfe", ""),
        (b"a: &a [*a]", ""),
    ],
    ids=lambda value: ascii(value)[:40] if isinstance(value, bytes) else "",
)
def test_a_sheet_of_parameters_that_is_refused(capsys, here, content, says):
    (here / "sheet.yaml").write_bytes(content)
    refused(capsys, here, "chapter", "1", "-f", "sheet.yaml", says=says)


def _copy(**changes) -> nbformat.NotebookNode:
    source = changes.pop("source", 'tier: str = "auto"\nout_dir: str | None = None')
    cells = [new_code_cell(source, metadata={"tags": ["parameters"]})]
    about = {"vidgen_lab": {"artefacts": ["a.csv"]}} | changes
    return new_notebook(cells=cells, metadata=about)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "is no notebook"),
        ("{", "is no notebook"),
        ("[]", "is no notebook"),
        ('{"cells": 3, "nbformat": 4, "nbformat_minor": 5, "metadata": {}}', "is no notebook"),
        ('{"nbformat": 99}', "is no notebook"),
        ("[" * 50_000, "is no notebook"),
        (new_notebook(), "declares no artefacts"),
        (_copy(vidgen_lab={"artefacts": 3}), ""),
        (_copy(vidgen_lab=[]), ""),
        (_copy(source="tier = ("), "not Python"),
        (_copy(source="tier = open('x')"), "only literals"),
        (_copy(source="import os"), "only literals"),
        (_copy(source="tier: open('x') = 1\nout_dir: str | None = None"), "is no type here"),
        (_copy(source="tier: Foo = 1\nout_dir: str | None = None"), "is no type here"),
        (_copy(source="tier: int[str] = 1\nout_dir: str | None = None"), "is no type"),
        (_copy(source="tier: str = 'auto'"), "needs the parameter 'out_dir'"),
    ],
    ids=lambda value: ascii(value)[:40] if isinstance(value, str) else "notebook",
)
def test_a_notebook_that_is_refused(capsys, here, content, says):
    text = content if isinstance(content, str) else json.dumps(content)
    (here / "mine.ipynb").write_text(text)
    refused(capsys, here, "chapter", "mine.ipynb", says=says)


def test_a_run_never_writes_over_the_notebook_it_runs(capsys, here):
    (here / "mine.ipynb").write_text(json.dumps(_copy()))
    refused(capsys, here, "chapter", "mine.ipynb", "--out", ".", says="is there already")


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("world.png", "--sheet"),
        ("truth.jsonl", "--raw"),
        ("videos", "--raw"),
        ("a.mp4", "--held-out"),
    ],
)
def test_toyworld_replaces_nothing(capsys, here, name, how):
    (here / "full" / name).write_text("mine")
    refused(capsys, here, "toyworld", "full", how)


@pytest.mark.parametrize("name", ["http:a.mp4", "tcp:a.mp4", "pipe:0.mp4", "Trip: day 1.mp4"])
def test_a_name_is_a_name(capsys, here, name):
    (here / "clip.mp4").rename(here / name)
    before = contents(here)
    assert ended("evaluate", name, "--json") == 0
    assert json.loads(capsys.readouterr().out)["num_frames"] == 9
    assert contents(here) == before


@pytest.mark.parametrize(
    "prompt", ["", "\u200b", "\udcff", "no ball", "ball " * 20_000, "<img src=x onerror=alert(1)>"]
)
def test_any_words_may_be_held_against_a_video(capsys, here, prompt):
    assert ended("evaluate", "clip.mp4", "--prompt", prompt) == 0
    out, err = capsys.readouterr()
    assert out.startswith("Prompt: ") and not err
