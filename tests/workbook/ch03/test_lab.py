"""What chapter 3 builds in view is what the package has."""

import ast

import nbformat
import numpy as np

from tests.workbook import built_here
from vidgen_lab.paths import notebooks_dir
from vidgen_lab.video.clip import Clip
from vidgen_lab.video.tensors import as_clip, as_tensor

MODULES = [
    f"vidgen_lab.latte.{name}"
    for name in (
        *("tokens", "attention", "conditioning", "blocks"),
        *("diffusion.schedule", "diffusion.losses", "diffusion.samplers"),
    )
]


# Simpler than the package's or not in it; the next cell compares the results, with the package or
# with diffusers.
PROVED_BY_RESULTS = {
    *("to_tensors", "decibels", "cut", "through_pca", "same", "halve", "double", "FrameGroupNorm"),
    *("reparameterize", "kl_divergence", "VideoVAEEncoder", "VideoVAEDecoder", "scores", "AdaLN"),
    *(
        "drop_prompts",
        "look",
        "looks_of",
        "view",
        "AttentionPanel",
        "patchify",
        "unpatchify",
        "rotate",
        "rotate_3d",
    ),
    *("CachedTemporalAttention", "AttentionCore", "SelfAttention", "CrossAttention"),
    "naive_attention",
    *("OverwritingBlock", "Latte", "coefficients", "add_noise", "shift_snr", "velocity"),
    *("no_signal_at_the_end", "clean_and_noise", "exact", "flow", "curved", "train", "ddim_step"),
    *("dpm_step", "walk_back", "guided", "as_velocity", "generate", "modulation_strength"),
}


# what is built in view
def test_what_the_notebook_builds_is_what_the_package_has():
    notebook = nbformat.read(notebooks_dir() / "03_latte_from_scratch.ipynb", as_version=4)
    cells = [c.source for c in notebook.cells if "build-it" in c.metadata.get("tags", [])]
    names = [name for cell in cells for name in built_here.bare(cell)]
    assert len(set(names)) == len(names)
    assert set(built_here.differing(cells, MODULES)) == PROVED_BY_RESULTS < set(names)


def test_a_changed_piece_is_noticed():
    right = "def modulate(x, shift, scale):\n    return x * (1 + scale) + shift"
    assert list(built_here.differing([right], MODULES)) == []
    wrong = [right.replace("1 + scale", "scale"), "def unknown(): pass"]
    assert list(built_here.differing(wrong, MODULES)) == ["modulate", "unknown"]


def test_words_types_and_checks_do_not_count():
    long = '''
class A(B):
    """Words."""

    size: int

    def f(self, x: Tensor, n: int = 3) -> Tensor:
        """More words."""
        require(n > 0, "n", "> 0", n)
        y: Tensor = x + n
        return y
'''
    bare = "class A(B):\n    def f(self, x, n=3):\n        y = x + n\n        return y"
    assert built_here.bare(long) == built_here.bare(bare)
    other = bare.replace("n=3", "n=4")
    assert built_here.bare(long) != built_here.bare(other)
    assert ast.parse(bare)


# compression
def test_clips_survive_the_way_to_tensors_and_back():
    frames = np.random.default_rng(0).integers(0, 256, (3, 8, 12, 3)).astype(np.uint8)
    x = as_tensor([Clip(frames, fps=8)])
    assert x.shape == (1, 3, 3, 8, 12) and x.min() >= -1 and x.max() <= 1
    assert np.array_equal(as_clip(x[0]).frames, frames)
