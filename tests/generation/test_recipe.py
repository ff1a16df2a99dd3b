import errno
import json
import os

import numpy as np
import pytest

from vidgen_lab.generation import recipe as recipe_module
from vidgen_lab.generation.generate import generate
from vidgen_lab.generation.recipe import (
    OutputError,
    check_output,
    differences,
    free_name,
    read_recipe,
    recipe_path,
    reproduce,
    save_generation,
)
from vidgen_lab.generation.request import request_of
from vidgen_lab.video.reader import read_clip


@pytest.fixture
def generation(pipe, request_):
    return generate(pipe, request_.with_(seed=11))


def test_clip_and_recipe_lie_side_by_side(generation, request_, tmp_path):
    path = save_generation(generation, tmp_path / "new folder" / "clip.mp4")
    assert sorted(p.name for p in path.parent.iterdir()) == ["clip.json", "clip.mp4"]
    assert read_clip(path).num_frames == 17
    assert read_clip(path).fps == 8
    assert read_recipe(path) == read_recipe(recipe_path(path)) == generation.recipe
    request = request_of(read_recipe(path))
    assert request == request_.with_(seed=11, model=generation.recipe["model"])


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
    assert read_recipe(path)["prompt"] == "ein grüner Ball 球"


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "is no recipe"), ("[]", "JSON object"), ('{"prompt": "a"}', "it lacks fps")],
)
def test_a_file_that_is_no_recipe(tmp_path, content, message):
    file = tmp_path / "a.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_recipe(file)


def test_no_recipe_beside_the_clip(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a\.json"):
        read_recipe(tmp_path / "a.mp4")


def refuse(code):
    def fail(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.EACCES, "Permission denied. Choose another folder"),
        (errno.EROFS, "Read-only file system. Choose another folder"),
        (errno.ENOSPC, "No space left on device. .*or make room"),
    ],
)
def test_a_folder_that_takes_no_files(monkeypatch, tmp_path, code, said):
    monkeypatch.setattr(recipe_module.tempfile, "NamedTemporaryFile", refuse(code))
    with pytest.raises(OutputError, match=said) as caught:
        check_output(tmp_path / "clip.mp4")
    assert caught.value.errno == code


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes anywhere")
def test_a_read_only_folder(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(OutputError, match="Permission denied"):
        check_output(tmp_path / "clip.mp4")
    tmp_path.chmod(0o755)


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Cannot write"):
        check_output(tmp_path / "file" / "clip.mp4")


def test_a_nearly_full_disk_is_noticed_before_the_work(monkeypatch, tmp_path):
    monkeypatch.setattr(recipe_module, "free_disk_gib", lambda folder: 1e-5)
    with pytest.raises(OutputError, match="No space left"):
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
    with pytest.raises(OutputError, match="No space left"):
        save_generation(generation, path, crf=40)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_ctrl_c_while_writing_leaves_no_broken_file(monkeypatch, generation, tmp_path):
    def fsync(handle):
        raise KeyboardInterrupt

    monkeypatch.setattr(recipe_module.os, "fsync", fsync)
    with pytest.raises(KeyboardInterrupt):
        save_generation(generation, tmp_path / "clip.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_json_that_is_no_recipe_is_never_replaced(generation, tmp_path):
    (tmp_path / "data.json").write_text('{"mine": 1}')
    for keep in (False, True):
        if not keep:
            with pytest.raises(OutputError, match="is no recipe of a clip"):
                save_generation(generation, tmp_path / "data.mp4")
        else:
            written = save_generation(generation, tmp_path / "data.mp4", keep=True)
            assert written.name == "data-2.mp4"
        assert (tmp_path / "data.json").read_text() == '{"mine": 1}'
        assert not (tmp_path / "data.mp4").exists()


def test_a_video_that_no_generation_made_is_never_replaced(generation, tmp_path):
    (tmp_path / "holiday.mp4").write_bytes(b"mine")
    with pytest.raises(OutputError, match="without the recipe"):
        save_generation(generation, tmp_path / "holiday.mp4")
    assert (tmp_path / "holiday.mp4").read_bytes() == b"mine"


def test_a_clip_of_ours_is_replaced_unless_it_is_to_be_kept(generation, tmp_path):
    path = save_generation(generation, tmp_path / "clip.mp4")
    first = path.read_bytes()
    assert save_generation(generation, path, crf=40) == path
    assert path.read_bytes() != first
    assert save_generation(generation, path, keep=True).name == "clip-2.mp4"


def test_a_name_is_free_when_neither_clip_nor_recipe_has_it(tmp_path):
    (tmp_path / "a.json").touch()
    (tmp_path / "a-2.mp4").touch()
    assert free_name(tmp_path / "a.mp4").name == "a-3.mp4"


def test_who_comes_second_takes_another_name(generation, tmp_path, monkeypatch):
    """Between the look for a free name and the writing, another process takes it."""
    real = recipe_module.write_files

    def late(contents, new):
        if not (tmp_path / "clip.mp4").exists():
            (tmp_path / "clip.mp4").write_bytes(b"the other's")
        real(contents, new)

    monkeypatch.setattr(recipe_module, "write_files", late)
    assert save_generation(generation, tmp_path / "clip.mp4", keep=True).name == "clip-2.mp4"
    assert (tmp_path / "clip.mp4").read_bytes() == b"the other's"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clip-2.json", "clip-2.mp4", "clip.mp4"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"versions": None}, "versions None"),
        ({"versions": []}, r"versions \[\]"),
        ({"versions": ...}, "no versions"),
        ({"dtype": ...}, "no dtype"),
        ({"dtype": "int8"}, "dtype 'int8'"),
        ({"model": ""}, "model ''"),
        ({"offload": "sometimes"}, "offload 'sometimes'"),
        ({"lora": "a file"}, "lora 'a file'"),
        ({"lora": [{"file": "x"}]}, "lora"),
        ({"fps": 10**400}, "fps must be a number"),
    ],
)
def test_a_recipe_is_checked_whole_before_anything_is_made(generation, tmp_path, change, says):
    path = save_generation(generation, tmp_path / "clip.mp4")
    recipe = read_recipe(path) | change
    recipe = {name: value for name, value in recipe.items() if value is not ...}
    recipe_path(path).write_text(json.dumps(recipe))
    with pytest.raises(ValueError, match=says):
        reproduce(path, on_step=lambda step: pytest.fail("it began to generate"))


def test_a_recipe_nested_without_end(tmp_path):
    (tmp_path / "a.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="is no recipe"):
        read_recipe(tmp_path / "a.json")
