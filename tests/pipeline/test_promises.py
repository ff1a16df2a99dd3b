"""docs/data_pipeline.md names a test for each promise: it is there, runs, and can fail."""

import ast
import re
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "data_pipeline.md").read_text(encoding="utf-8")
PROMISES = re.findall(r"^\| (\d+) \| (.+?) \| (.+?) \|$", PAGE, re.M)
NEED_RAY = "test_ray_writes_the_same_bytes"  # runs where Ray is installed


@lru_cache
def functions(file: str) -> dict[str, ast.FunctionDef]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_promises_are_numbered():
    assert [int(number) for number, _, _ in PROMISES] == list(range(1, 22))


@pytest.mark.parametrize(("number", "promise", "proof"), PROMISES, ids=[p[0] for p in PROMISES])
def test_every_promise_has_tests_that_run_and_can_fail(number, promise, proof):
    named = re.findall(r"`(tests/[^`]+)::(\w+)`", proof)
    assert named, f"{promise} has no test"
    for file, name in named:
        function = functions(file).get(name)
        assert function is not None, f"no test {file}::{name}"
        text = ast.unparse(function)
        assert re.search(r"\bassert\b|pytest\.raises|pytest\.warns", text), f"{name} cannot fail"
        if name != NEED_RAY:
            assert not re.search(r"mark\.(skip\b|xfail)|pytest\.skip", text), f"{name} never runs"
