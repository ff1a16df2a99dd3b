"""Settings of a Latte, and the four published sizes."""

from dataclasses import dataclass

from vidgen_lab.latte.checks import require, require_one_of


@dataclass(frozen=True)
class LatteConfig:
    """Everything that decides the shape of a Latte.

    Attributes:
        sample_size: side in latent pixels of the frames that the positions are laid out for, a
            multiple of patch_size (other sizes run too).
        num_frames: T, frames of a clip; a single frame is accepted too.
        in_channels: C, channels of the latents.
        patch_size: p, side of a patch in latent pixels.
        hidden_size: D, width of a token, a multiple of 4 and of num_heads.
        depth: blocks as the paper counts them, spatial and temporal ones together, hence even.
        num_heads: heads of every attention, each D / num_heads wide.
        modulation: "block" (paper) or "single" (diffusers' text-to-video model).
        condition: "none", "class" (with num_classes) or "text" (cross-attention in the spatial
            blocks; with text_dim).
        num_classes: classes 0 .. num_classes-1; the number num_classes itself means none.
        text_dim: width of the text features.
        learn_sigma: twice the output channels, the second half for the variance.
        qkv_bias: biases on query, key and value (the output always has one).
        causal: along time, frame i sees frames 0 .. i only.
    """

    sample_size: int = 32
    num_frames: int = 16
    in_channels: int = 4
    patch_size: int = 2
    hidden_size: int = 1152
    depth: int = 28
    num_heads: int = 16
    modulation: str = "block"
    condition: str = "none"
    num_classes: int = 0
    text_dim: int | None = None
    learn_sigma: bool = True
    qkv_bias: bool = True
    causal: bool = False

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if type(value) is int and name != "num_classes":
                require(value > 0, name, "at least 1", value)
        require_one_of(self.modulation, ("block", "single"), "modulation")
        require_one_of(self.condition, ("none", "class", "text"), "condition")
        heads, patch, condition = self.num_heads, self.patch_size, self.condition
        fits = self.hidden_size % heads == 0 and self.hidden_size % 4 == 0
        for name, holds, expected in (
            ("depth", self.depth % 2 == 0, "an even number of blocks"),
            ("hidden_size", fits, f"a multiple of 4 and of {heads} heads"),
            ("sample_size", self.sample_size % patch == 0, f"a multiple of the patch size {patch}"),
            ("num_classes", condition != "class" or self.num_classes > 0, "> 0 for classes"),
            ("text_dim", condition != "text" or bool(self.text_dim), "> 0 for text"),
        ):
            require(holds, name, expected, repr(getattr(self, name)))

    @property
    def out_channels(self) -> int:
        return self.in_channels * (2 if self.learn_sigma else 1)

    @property
    def pairs(self) -> int:
        """Spatial-temporal pairs: `num_layers` in diffusers."""
        return self.depth // 2


# depth (spatial and temporal blocks together), width, heads: book table 3-1 has these right, not
# its parameters
SIZES = {"S": (12, 384, 6), "B": (12, 768, 12), "L": (24, 1024, 16), "XL": (28, 1152, 16)}


def latte_config(name: str, **overrides) -> LatteConfig:
    """Settings of a published size, "S/2", "B/2", "L/2" or "XL/2", or of another patch: "S/4",
    with further fields of `LatteConfig` as `overrides`, which win over the size's own."""
    size, _, patch = name.partition("/")
    known = size in SIZES and patch.isdecimal() and int(patch) > 0
    sizes = f"one of {', '.join(f'{s}/2' for s in SIZES)} (or another patch size after the slash)"
    require(known, "Latte size", sizes, repr(name))
    depth, hidden_size, num_heads = SIZES[size]
    named = {"depth": depth, "hidden_size": hidden_size, "num_heads": num_heads}
    return LatteConfig(**(named | {"patch_size": int(patch)} | overrides))
