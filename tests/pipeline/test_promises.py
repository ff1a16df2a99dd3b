"""docs/data_pipeline.md names a test for each of its promises; here they are looked up."""

import re
from pathlib import Path

from tools.book_map import _test

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "data_pipeline.md").read_text(encoding="utf-8")


def test_every_promise_names_tests_that_exist():
    lines = re.findall(r"^\| (\d+) \| (.+?) \| (.+?) \|$", PAGE, re.M)
    assert [int(number) for number, _, _ in lines] == list(range(1, 22))
    for number, promise, proof in lines:
        tests = re.findall(r"`(tests/[^`]+)`", proof)
        assert tests, f"{number}: {promise} has no test"
        assert all(_test(ROOT, test) for test in tests), f"{number}: {tests}"
