"""Clips and buckets for the tests of training on prepared clips."""

from vidgen_lab.training.data.buckets import Bucket
from vidgen_lab.training.data.clips import ClipRecord

WIDE, TALL, LONG = Bucket(5, 32, 48), Bucket(5, 48, 32), Bucket(9, 32, 48)


def record(name="a", num_frames=16, height=64, width=96, weight=1.0):
    return ClipRecord(name, name, "words", num_frames, height, width, 8.0, weight)
