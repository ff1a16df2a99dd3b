"""Larger than one GPU: attention over a sequence that is cut, and what fits where."""
