"""Words that a model of the toy world cannot follow are named, for those models alone."""

import pytest

from vidgen_lab.generation.words import ignored_words, words_note


@pytest.mark.parametrize(("model", "ignored"), [
    ("toy-cogvideox", {"cat": "car", "skateboard": None}),
    ("zai-org/CogVideoX-2b", {}),
    ("a/folder", {}),
    (None, {}),
])  # fmt: skip
def test_only_embedded_models_ignore_words(model, ignored):
    found = ignored_words("a cat on a skateboard", model)
    assert set(found) == set(ignored)
    assert bool(words_note("a cat on a skateboard", model)) == bool(ignored)


def test_the_note_names_typos_and_what_is_kept_for_later():
    note = words_note("a red robot with a bal", "toy-cogvideox")
    assert "Kept for chapter 5: robot." in note and "bal (ball?)" in note
    assert words_note("a red ball moving left", "toy-cogvideox") == ""
    assert "chapter 5" not in words_note("a red robot", "toy-cogvideox", adapted=True)


def test_the_note_says_what_no_clip_of_this_model_shows():
    note = words_note("two red balls and a cube, not blue", "toy-cogvideox")
    assert "Not for this model: negation (not blue); number (two); second subject (cube)." in note
    assert "in the negative prompt" in note
    assert "No subject of its world is named; it draws ball, cube" in words_note(
        "the moon over a city", "toy-cogvideox"
    )
