import pytest

from vidgen_lab.pipeline.runner import plain_reason


@pytest.mark.parametrize("path", ["/home/me/a.mp4", r"C:\Users\me\a.mp4", "/home/me/caf\udce9.mp4"])
def test_a_reason_names_no_folder_however_python_writes_it(path):
    error = FileNotFoundError(2, "No such file", path)
    reason = plain_reason(f"{type(error).__name__}: {error}", {"path": path})
    assert reason == "FileNotFoundError: [Errno 2] No such file: 'the file'"
