"""Concepts: cluster clips by their embeddings and even out how often each is seen.

The book's balancer (2.L15) cuts every concept to one cap, cannot run on fewer clips than concepts
and draws without a seed. Here k follows from the data, the shares are tempered instead of cut off,
rare concepts lose nothing, and duplicates are expected to be gone already.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vidgen_lab.config import Checked
from vidgen_lab.pipeline.manifest import Row


@dataclass(frozen=True)
class BalanceSettings(Checked, temperature=(0, 1), concepts=(1, math.inf), floor=(0, math.inf)):
    """How far concepts are evened out.

    Attributes:
        concepts: number of clusters; None: about the square root of half the clips, 2..10,000.
        temperature: 1 leaves the shares alone, 0 makes all concepts equal.
        floor: clips of a concept that are kept in any case.
        drop: really drop clips; without it only weights are given.
    """

    concepts: int | None = None
    temperature: float = 0.5
    floor: int = 8
    drop: bool = False


@dataclass(frozen=True)
class Balance:
    """What becomes of N clips in K concepts.

    Attributes:
        labels: int [N], concept of every clip; 0 is the largest.
        weights: float [N], how often to draw each clip: mean 1 of the kept ones, 0 of the others.
        keep: bool [N].
        before, after: entropy of the concepts in bits, of all clips and of kept ones by weight.
    """

    labels: np.ndarray
    weights: np.ndarray
    keep: np.ndarray
    before: float
    after: float
    counts_before: tuple[int, ...]
    counts_after: tuple[int, ...]


def balance_concepts(
    embeddings: np.ndarray,
    settings: BalanceSettings = BalanceSettings(),
    seed: int = 0,
) -> Balance:
    """Balance clips over concepts found by k-means (book listing 2.L15, repaired).

    `embeddings` are float [N, D], N >= 1, one row a clip; the same input gives the same result.

    Raises:
        ValueError: the table is empty or not finite.
    """
    from scipy.stats import entropy

    vectors = np.asarray(embeddings, np.float64)
    if vectors.ndim != 2 or not len(vectors) or not np.isfinite(vectors).all():
        raise ValueError(f"embeddings must be finite numbers [N, D], not {list(vectors.shape)}")
    labels = _cluster(vectors, settings.concepts, seed)
    counts = np.bincount(labels)
    tempered = counts.astype(float) ** settings.temperature
    keep = np.ones(len(labels), bool)
    if settings.drop:
        rng = np.random.default_rng(seed)
        scale = (counts / tempered).min()  # so that the smallest concepts stay whole
        wanted = np.maximum(np.ceil(tempered * scale), settings.floor).astype(int)
        for concept, number in enumerate(wanted):
            keep[rng.permutation(np.nonzero(labels == concept)[0])[number:]] = False
    after = np.bincount(labels[keep], minlength=len(counts))
    weights = np.where(keep, (tempered / np.maximum(after, 1))[labels], 0.0)
    weights *= keep.sum() / weights.sum()
    shares = np.bincount(labels, weights, minlength=len(counts))
    bits = (float(entropy(numbers, base=2)) + 0.0 for numbers in (counts, shares))
    return Balance(labels, weights, keep, *bits, tuple(counts.tolist()), tuple(after.tolist()))


def _cluster(vectors: np.ndarray, concepts: int | None, seed: int) -> np.ndarray:
    from sklearn.cluster import KMeans, MiniBatchKMeans

    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    distinct = len(np.unique(unit.round(9), axis=0))
    k = concepts or int(np.clip(round(np.sqrt(len(unit) / 2)), 2, 10_000))
    k = min(k, distinct)
    kind = KMeans if len(unit) <= 20_000 else MiniBatchKMeans
    means = kind(k, n_init=4, random_state=seed).fit(unit)
    # Numbered by size and place: names that do not hang on the random start.
    order = sorted(
        range(k), key=lambda c: (-(means.labels_ == c).sum(), *means.cluster_centers_[c])
    )
    return np.argsort(order)[means.labels_]


def balance_rows(
    rows: Sequence[Row], embeddings: np.ndarray, settings: BalanceSettings, seed: int = 0
) -> list[Row]:
    """Rows after the stage, with concept and weight; for `embeddings` see `balance_concepts`."""
    balance = balance_concepts(embeddings, settings, seed)
    out = []
    for number, row in enumerate(rows):
        concept = int(balance.labels[number])
        kept = row.to("balance", concept=concept, weight=float(balance.weights[number]))
        if not balance.keep[number]:
            before, after = balance.counts_before[concept], balance.counts_after[concept]
            kept = kept.rejected("balance", "over_represented", "concept_clips", before, after)
        out.append(kept)
    return out
