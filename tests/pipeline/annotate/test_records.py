import numpy as np
import pytest

from vidgen_lab.pipeline.annotate.records import (
    BadAnnotation,
    Word,
    align_transcript,
    check_annotation,
    decode_mask,
    encode_mask,
)

BOX = {"kind": "box", "frame": 3, "box": [1, 2, 30, 20], "label": "cat", "score": 0.5}
SPAN = {"kind": "span", "start": 0, "end": 10, "label": "running"}


def test_sound_annotations_pass():
    mask = {"kind": "mask", "frame": 0, "label": "cat", **encode_mask(np.ones((48, 64), bool))}
    for annotation in (BOX, SPAN, mask):
        check_annotation(annotation, num_frames=10, width=64, height=48)


@pytest.mark.parametrize(
    ("annotation", "change", "words"),
    [
        (BOX, {"kind": "circle"}, "one of box"),
        (BOX, {"label": "  "}, "without a label"),
        (BOX, {"score": 1.5}, "0..1"),
        (BOX, {"frame": 10}, "not in 10 frames"),
        (BOX, {"box": [1, 2, 0, 20]}, "no area"),
        (BOX, {"box": [40, 2, 30, 20]}, "leaves a picture"),
        (SPAN, {"end": 0}, "no span"),
        (SPAN, {"end": 11}, "no span"),
        ({**BOX, "kind": "mask"}, {"size": [48, 64], "runs": [3]}, "add up"),
        ({**BOX, "kind": "mask"}, {"size": [4, 4], "runs": [16]}, "the picture is"),
    ],
)
def test_mistakes_are_named(annotation, change, words):
    with pytest.raises(BadAnnotation, match=words):
        check_annotation({**annotation, **change}, num_frames=10, width=64, height=48)


def test_masks_survive_their_run_lengths():
    rng = np.random.default_rng(0)
    for mask in (rng.random((7, 5)) > 0.6, np.zeros((3, 4), bool), np.ones((3, 4), bool)):
        packed = encode_mask(mask)
        assert sum(packed["runs"]) == mask.size and (decode_mask(packed) == mask).all()


def test_words_go_to_the_scene_in_which_they_are_spoken():
    words = [Word("a", 0, 0.5), Word("b", 0.8, 1.1), Word("c", 0.95, 1.5), Word("d", 5, 6)]
    assert align_transcript(words, [(0, 1), (1, 2)]) == ["a b", "c"]
    assert align_transcript(words, []) == []
