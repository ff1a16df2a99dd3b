"""The corner of the toy world that chapter 4's short runs learn: few clips, as mosaics, and a
network that is small enough to learn them in seconds."""

import itertools
import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from vidgen_lab.latte.conditioning import TimestepEmbedder
from vidgen_lab.toyworld import Scene, render
from vidgen_lab.video.clip import Clip
from vidgen_lab.video.tensors import as_tensor

SUBJECTS, COLOURS = ("ball", "star"), ("red", "yellow", "blue")
MOTIONS, PLACES = ("left", "right"), ("ocean", "desert")
WORDS = (*SUBJECTS, *COLOURS, *MOTIONS, *PLACES)
WIDTH, HEIGHT, FRAMES = 48, 32, 3  # pixels; every third frame of nine is kept
CELL, MEAN, SPREAD = 4, 0.1, 0.5  # pixels of a square of the mosaic; of the clips' values
WORD_SIZE = 32
PROMPTS = (
    Scene("ball", "red", "right", "ocean"),
    Scene("star", "yellow", "left", "desert"),
    Scene("ball", "blue", "left", "desert"),
    Scene("star", "red", "left", "ocean"),
    Scene("ball", "yellow", "right", "desert"),
    Scene("star", "blue", "right", "ocean"),
)


def encode(clips: Tensor, space: str = "mosaic") -> Tensor:
    """Clips [B, 3, T, H, W] as squares of a mosaic [B, 3, T, H/4, W/4] or as they are, centred and
    on the scale of noise."""
    if space == "mosaic":
        clips = nn.functional.interpolate(clips, scale_factor=(1, 1 / CELL, 1 / CELL), mode="area")
    return (clips - MEAN) / SPREAD


def decode(latents: Tensor, space: str = "mosaic") -> Tensor:
    pixels = latents * SPREAD + MEAN
    repeated = pixels.repeat_interleave(CELL, -1).repeat_interleave(CELL, -2)
    return repeated if space == "mosaic" else pixels


def scenes(held_out: bool = False) -> list[Scene]:
    """Every combination of words in two layouts; of those, each fourth combination is held out."""
    words = list(itertools.product(SUBJECTS, COLOURS, MOTIONS, PLACES))
    order = np.random.default_rng(0).permutation(len(words))
    chosen = order[: len(words) // 4] if held_out else order[len(words) // 4 :]
    return [Scene(*words[n], "cartoon", layout) for layout in (1, 2) for n in chosen]


def filmed(what: Sequence[Scene]) -> Tensor:
    """Clips of these scenes, [B, 3, FRAMES, HEIGHT, WIDTH] in -1 .. 1."""
    return as_tensor([render(each, WIDTH, HEIGHT, 3 * FRAMES).clip for each in what])[:, :, ::3]


def worded(what: Sequence[Scene]) -> Tensor:
    """What the model reads of a caption: a vector for each of its four words, [B, 4, WORD_SIZE]."""
    table = torch.randn(len(WORDS), WORD_SIZE, generator=torch.Generator().manual_seed(7))
    return table[torch.tensor([[WORDS.index(word) for word in _words(s)] for s in what])]


def _words(scene: Scene) -> tuple[str, ...]:
    return scene.subject, scene.colour, scene.motion, scene.background


@cache
def corner(space: str = "mosaic", held_out: bool = False, shrunk: bool = False) -> tuple:
    """Clips and words of one half of the world: [N, C, T, h, w] and [N, 4, WORD_SIZE]."""
    pixels = filmed(scenes(held_out))
    if shrunk:
        pixels = nn.functional.interpolate(pixels, scale_factor=(1, 0.5, 0.5), mode="area")
    return encode(pixels, space), worded(scenes(held_out))


def caption(scene: Scene) -> str:
    """The prompt of a sample, for people."""
    place = {"ocean": "over the ocean", "desert": "in the desert"}[scene.background]
    return f"a {scene.colour} {scene.subject} moving {scene.motion} {place}"


def words_found(clips: Sequence[Clip]) -> float:
    """The share of the words of PROMPTS that clips show; each is taken for the scene of the world
    that it is nearest to."""
    world = [*scenes(), *scenes(held_out=True)]
    apart = torch.cdist(encode(as_tensor(clips)).flatten(1), encode(filmed(world)).flatten(1))
    nearest = [world[n] for n in apart.argmin(1)]
    pairs = zip(PROMPTS, nearest, strict=True)
    return float(
        np.mean([a == b for p, q in pairs for a, b in zip(_words(p), _words(q), strict=True)])
    )


class SmallNet(nn.Module):
    """All values of a clip at once, through layers of `width`; what was put in also goes straight
    to the end, times a number that the timestep decides."""

    def __init__(self, shape: Sequence[int], width: int = 256, learn_sigma: bool = False) -> None:
        super().__init__()
        size, self.parts = math.prod(shape), 1 + learn_sigma
        self.into, self.out = nn.Linear(size, width), nn.Linear(width, self.parts * size)
        self.time, self.words = TimestepEmbedder(width), nn.Linear(4 * WORD_SIZE, width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(3))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.gain = nn.Linear(width, 1)
        for layer in (self.out, self.gain):
            nn.init.zeros_(layer.weight)

    def forward(self, x: Tensor, t: Tensor, text: Tensor, text_mask: Tensor) -> Tensor:
        told = self.time(t) + self.words(text.flatten(1))  # [B, width]
        h = self.into(x.flatten(1)) + told
        for norm, block in zip(self.norms, self.blocks, strict=True):
            h = h + block(nn.functional.silu(norm(h) + told))
        y, *variance = self.out(h).view(len(x), -1, *x.shape[2:]).chunk(self.parts, 1)
        y = y + self.gain(told).view(-1, 1, 1, 1, 1) * x
        return torch.cat([y, *variance], 1)  # [B, C or 2C, T, H, W]
