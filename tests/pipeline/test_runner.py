import pytest

from vidgen_lab.pipeline.runner import plain_reason


@pytest.mark.parametrize("path", ["/videos/a.mp4", r"D:\videos\a.mp4", "/videos/caf\udce9.mp4"])
def test_a_reason_names_no_folder_however_python_writes_it(path):
    error = FileNotFoundError(2, "No such file", path)
    reason = plain_reason(f"{type(error).__name__}: {error}", {"path": path})
    assert reason == "FileNotFoundError: [Errno 2] No such file: 'the file'"
