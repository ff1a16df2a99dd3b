import errno
import json
import os

import numpy as np
import pytest

from vidgen_lab.generation import recipe as recipe_module
from vidgen_lab.generation.errors import OutputError
from vidgen_lab.generation.generate import generate
from vidgen_lab.generation.recipe import (
    check_output,
    differences,
    load_recipe,
    read_recipe,
    recipe_path,
    reproduce,
    save_generation,
)
from vidgen_lab.video.reader import read_clip


@pytest.fixture
def generation(pipe, request_):
    return generate(pipe, request_.with_(seed=11))


def test_clip_and_recipe_lie_side_by_side(generation, tmp_path):
    path = save_generation(generation, tmp_path / "new folder" / "clip.mp4")
    assert sorted(p.name for p in path.parent.iterdir()) == ["clip.json", "clip.mp4"]
    assert read_clip(path).num_frames == 17
    assert read_clip(path).fps == 8
    assert read_recipe(path) == read_recipe(recipe_path(path)) == generation.recipe
    assert load_recipe(path) == generation.request


def test_a_recipe_reproduces_its_clip(generation, tmp_path, recwarn):
    path = save_generation(generation, tmp_path / "clip.mp4")
    again = reproduce(path)
    np.testing.assert_array_equal(again.clip.frames, generation.clip.frames)
    assert not [w for w in recwarn if "same conditions" in str(w.message)]


def test_other_conditions_are_told(generation, tmp_path):
    path = save_generation(generation, tmp_path / "clip.mp4")
    old = read_recipe(path)
    old["versions"]["torch"] = "1.0"
    old["model_revision"] = "else"
    recipe_path(path).write_text(json.dumps(old))
    with pytest.warns(UserWarning, match="model_revision else -> .*; torch 1.0 -> "):
        reproduce(path)
    assert differences(generation.recipe, generation.recipe) == []


def test_letters_of_any_language_survive(pipe, request_, tmp_path):
    request = request_.with_(prompt="ein grüner Ball 球")
    path = save_generation(generate(pipe, request), tmp_path / "größe 球.mp4")
    assert load_recipe(path).prompt == "ein grüner Ball 球"


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "is no recipe"), ("[]", "JSON object"), ('{"prompt": "a"}', "it lacks fps")],
)
def test_a_file_that_is_no_recipe(tmp_path, content, message):
    file = tmp_path / "a.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=message):
        load_recipe(file)


def test_no_recipe_beside_the_clip(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a\.json"):
        load_recipe(tmp_path / "a.mp4")


def refuse(code):
    def fail(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.EACCES, "cannot be written"),
        (errno.EROFS, "cannot be written"),
        (errno.ENOSPC, "full"),
    ],
)
def test_a_folder_that_takes_no_files(monkeypatch, tmp_path, code, advice):
    monkeypatch.setattr(recipe_module.tempfile, "NamedTemporaryFile", refuse(code))
    with pytest.raises(OutputError, match=advice) as caught:
        check_output(tmp_path / "clip.mp4")
    assert caught.value.errno == code


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes anywhere")
def test_a_read_only_folder(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(OutputError, match="cannot be written"):
        check_output(tmp_path / "clip.mp4")
    tmp_path.chmod(0o755)


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Cannot write"):
        check_output(tmp_path / "file" / "clip.mp4")


def test_a_nearly_full_disk_is_noticed_before_the_work(monkeypatch, tmp_path):
    monkeypatch.setattr(recipe_module, "free_disk_gib", lambda folder: 1e-5)
    with pytest.raises(OutputError, match="disk is full"):
        check_output(tmp_path / "clip.mp4")


@pytest.mark.parametrize("name", ["clip.avi", "clip"])
def test_another_format(tmp_path, name):
    with pytest.raises(OutputError, match=r"as \.mp4"):
        check_output(tmp_path / name)


def test_the_output_check_leaves_nothing(tmp_path):
    check_output(tmp_path / "clip.mp4")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failing_write", [1, 2], ids=["video", "recipe"])
def test_a_disk_that_fills_up_leaves_no_broken_file(
    monkeypatch, generation, tmp_path, failing_write
):
    path = save_generation(generation, tmp_path / "clip.mp4")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    calls = []

    def fsync(handle):
        calls.append(handle)
        if len(calls) == failing_write:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(recipe_module.os, "fsync", fsync)
    with pytest.raises(OutputError, match="disk is full"):
        save_generation(generation, path, crf=40)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_ctrl_c_while_writing_leaves_no_broken_file(monkeypatch, generation, tmp_path):
    def fsync(handle):
        raise KeyboardInterrupt

    monkeypatch.setattr(recipe_module.os, "fsync", fsync)
    with pytest.raises(KeyboardInterrupt):
        save_generation(generation, tmp_path / "clip.mp4")
    assert list(tmp_path.iterdir()) == []
