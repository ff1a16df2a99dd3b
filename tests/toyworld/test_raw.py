import hashlib

import numpy as np
import pytest

from vidgen_lab.toyworld import raw
from vidgen_lab.video.reader import VideoError, probe_video, read_clip


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    folder = raw.write_raw(tmp_path_factory.mktemp("raw"), count=len(raw.SHARES))
    return folder / "videos", raw.read_truth(folder)


def test_every_defect_is_planted_and_every_file_has_its_truth(collection):
    folder, truth = collection
    assert {p.kind for p in truth} == set(raw.SHARES)
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert files == {p.file for p in truth}


def test_what_is_planted_is_really_there(collection):
    folder, truth = collection
    by_kind = {p.kind: p for p in truth}

    def info(kind):
        return probe_video(folder / by_kind[kind].file)

    assert info("tiny").height < 64 <= info("clean").height
    assert info("short").duration < 1
    assert info("rotated").rotation == 90 and info("variable_rate").variable_fps
    assert info("odd_sound").has_audio
    still = read_clip(folder / by_kind["frozen"].file).frames
    assert abs(still[0].astype(int) - still[-1]).max() < 12
    grain = read_clip(folder / by_kind["grainy_still"].file).frames.astype(float)
    apart = abs(grain[0] - grain[-1]).mean()
    assert apart > 1 and abs(grain[:12].mean(0) - grain[-12:].mean(0)).mean() < 0.5 * apart
    burnt = read_clip(folder / by_kind["over_exposed"].file).frames.min(axis=-1)
    assert (burnt >= 250).mean() > 0.4
    with pytest.raises(VideoError):
        info("text")
    cuts = by_kind["film"].cuts
    film = read_clip(folder / by_kind["film"].file).frames.astype(int)
    changes = abs(film[1:] - film[:-1]).mean((1, 2, 3))
    assert cuts and min(changes[c - 1] for c in cuts) > sorted(changes)[len(changes) // 2]


def test_duplicates_name_their_original(collection):
    folder, truth = collection
    originals = {p.group: p for p in truth if p.kind == "clean"}
    copy = next(p for p in truth if p.kind == "exact_duplicate")
    digest = [
        hashlib.sha256((folder / p.file).read_bytes()).digest()
        for p in (copy, originals[copy.group])
    ]
    assert digest[0] == digest[1] and copy.file != originals[copy.group].file
    assert all(p.group in originals for p in truth if p.reason == "duplicate")


def test_the_shots_of_a_film_are_in_different_places_and_no_scene_is_shown_twice(
    collection, monkeypatch, tmp_path
):
    shown = []
    render = raw.render

    def watched(scene, *size):
        shown.append(scene)
        return render(scene, *size)

    monkeypatch.setattr(raw, "render", watched)
    maker = raw._Maker(tmp_path, np.random.default_rng(0))
    for _ in range(6):
        before = len(shown)
        maker.make("film")
        places = [scene.background for scene in shown[before:]]
        assert all(a != b for a, b in zip(places, places[1:], strict=False))
    looks = [tuple(scene.visible.values()) for scene in shown]
    assert len(set(looks)) == len(looks)


def test_there_is_no_truth_without_its_files(tmp_path, monkeypatch):
    """Chapter 2 takes a truth.jsonl for a sign that the collection is complete."""

    def interrupted(*_):
        raise OSError("the disk is gone")

    monkeypatch.setattr(raw.Path, "rename", interrupted)
    with pytest.raises(OSError, match="gone"):
        raw.write_raw(tmp_path, count=len(raw.SHARES))
    assert not list(tmp_path.iterdir())


def test_two_runs_at_once_do_not_mix(tmp_path, monkeypatch):
    """The second, which is done first, is whole; the first says that its place is taken."""
    make = raw._Maker.make
    inside = []

    def meanwhile(maker, kind):
        if kind == "text" and not inside:
            inside.append(True)
            raw.write_raw(tmp_path, len(raw.SHARES), seed=1)
        make(maker, kind)

    monkeypatch.setattr(raw._Maker, "make", meanwhile)
    with pytest.raises(OSError):
        raw.write_raw(tmp_path, len(raw.SHARES), seed=0)
    files = {p.relative_to(tmp_path / "videos").as_posix() for p in tmp_path.rglob("videos/**/*.*")}
    assert files == {p.file for p in raw.read_truth(tmp_path)}
    assert {p.name for p in tmp_path.iterdir()} == {"videos", "truth.jsonl"}


def test_shares_fill_any_size():
    for count in range(len(raw.SHARES), raw.MOST_FILES):
        numbers = raw._numbers(count)
        assert sum(numbers.values()) == count and min(numbers.values()) >= 1


def test_wrong_use_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least"):
        raw.write_raw(tmp_path, count=3)
    with pytest.raises(ValueError, match="at most 5000"):
        raw.write_raw(tmp_path, count=20_000)
    (tmp_path / "videos").mkdir()
    with pytest.raises(FileExistsError):
        raw.write_raw(tmp_path)
