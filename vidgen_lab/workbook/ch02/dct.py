"""A picture codec in forty lines: blocks, cosine transform, quantisation, and back.

What H.264 and its relatives do inside a frame, without the tricks: no prediction, no entropy coder;
bits are estimated by the entropy of the quantised numbers.
"""

from dataclasses import dataclass

import numpy as np
from scipy.fft import dctn, idctn

BLOCK = 8


@dataclass(frozen=True)
class Coded:
    """Quantised coefficients [rows, columns, 8, 8] of a grey picture, and its true size."""

    levels: np.ndarray
    step: float
    shape: tuple[int, int]

    @property
    def zeros(self) -> float:
        """Share of the coefficients that quantisation turned into nothing."""
        return float((self.levels == 0).mean())

    @property
    def bits_per_pixel(self) -> float:
        """Entropy of the levels, each frequency by itself."""
        total = 0.0
        for v in range(BLOCK):
            for u in range(BLOCK):
                _, counts = np.unique(self.levels[:, :, v, u], return_counts=True)
                shares = counts / counts.sum()
                total -= float((shares * np.log2(shares)).sum())
        return total / BLOCK**2 + 0.0


def weights(step: float) -> np.ndarray:
    """Quantiser steps [8, 8]: fine for broad shapes, coarse for fine detail, which eyes forgive."""
    v, u = np.mgrid[:BLOCK, :BLOCK]
    return step * (1 + 0.35 * (u + v))


def encode_picture(grey: np.ndarray, step: float) -> Coded:
    """uint8 [H, W] -> coefficients divided by their steps and rounded: the only loss there is."""
    height, width = grey.shape
    padded = np.pad(grey, ((0, -height % BLOCK), (0, -width % BLOCK)), mode="edge").astype(float)
    rows, columns = padded.shape[0] // BLOCK, padded.shape[1] // BLOCK
    blocks = padded.reshape(rows, BLOCK, columns, BLOCK).swapaxes(1, 2) - 128
    levels = np.rint(dctn(blocks, axes=(2, 3), norm="ortho") / weights(step)).astype(int)
    return Coded(levels, step, (height, width))


def decode_picture(coded: Coded) -> np.ndarray:
    """Back to uint8 [H, W]."""
    blocks = idctn(coded.levels * weights(coded.step), axes=(2, 3), norm="ortho") + 128
    rows, columns = blocks.shape[:2]
    whole = blocks.swapaxes(1, 2).reshape(rows * BLOCK, columns * BLOCK)
    height, width = coded.shape
    return np.clip(np.rint(whole[:height, :width]), 0, 255).astype(np.uint8)
