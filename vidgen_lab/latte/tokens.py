"""Latent video -> tokens -> latent video: patches, and positions.

A token is a continuous vector: a patch of latents times a matrix. Nothing is quantised and no
codebook exists. Positions follow the convention of DiT, Latte and diffusers (see `sincos_1d`).
"""

import torch
from torch import Tensor, nn


# ----- positions
def sincos_1d(dim: int, positions: Tensor) -> Tensor:
    """Sine and cosine codes of real-valued positions.

    omega_k = 10000^(-k / (dim/2)), k = 0 .. dim/2-1. DiT, Latte and diffusers lay the code out as
    [sin | cos]; "Attention is all you need" (and book listing 3.L02) takes turns, and weights
    trained with one order are useless with the other.

    Args:
        dim: width of the code, even.
        positions: [M], any dtype.

    Returns:
        [M, dim] float64 (the caller rounds once, at the end).
    """
    omega = torch.arange(dim // 2, dtype=torch.float64, device=positions.device)
    omega /= dim / 2.0
    omega = 1.0 / 10000**omega  # [dim/2]
    angle = torch.outer(positions.reshape(-1).double(), omega)  # [M, dim/2]
    return torch.cat([angle.sin(), angle.cos()], dim=1)  # [M, dim]


def sincos_2d(
    dim: int, rows: int, cols: int, base_size: int | None = None, interpolation_scale: float = 1.0
) -> Tensor:
    """Codes of a grid of patches, row by row: [rows*cols, dim] float32.

    The first half of the channels tells the column (x), the second half the row (y). Source:
    diffusers `get_2d_sincos_pos_embed`, exact.

    `base_size` is the side in patches of the grid the model was trained on; another grid is
    squeezed or stretched onto it, each axis by itself, so that any height and width works (None:
    the grid as it is). `interpolation_scale` divides the positions once more.
    """
    base_h, base_w = base_size or rows, base_size or cols
    # single precision up to here because the reference does so: the last bit is part of the parity
    y = torch.arange(rows, dtype=torch.float32) / (rows / base_h) / interpolation_scale  # [rows]
    x = torch.arange(cols, dtype=torch.float32) / (cols / base_w) / interpolation_scale  # [cols]
    code_x = sincos_1d(dim // 2, x).repeat(rows, 1)  # [rows*cols, dim/2]
    code_y = sincos_1d(dim // 2, y).repeat_interleave(cols, 0)  # [rows*cols, dim/2]
    return torch.cat([code_x, code_y], dim=1).float()  # [rows*cols, dim]


# ----- patches
def unpatchify(tokens: Tensor, patch: int, rows: int, cols: int) -> Tensor:
    """Patches to frames: [B, T, rows*cols, p*p*C] -> [B, C, T, rows*p, cols*p].

    The output layer of DiT and Latte has the pixels of a patch first, and each pixel's channels
    together; a convolution's weight has it the other way round.
    """
    b, t, n, width = tokens.shape
    c = width // (patch * patch)
    x = tokens.reshape(b, t, rows, cols, patch, patch, c).permute(0, 6, 1, 2, 4, 3, 5)
    return x.reshape(b, c, t, rows * patch, cols * patch)


class VideoPatchEmbed(nn.Module):
    """Latents to tokens, with the place inside the frame added (book listing 3.L02, repaired).

    The frame number is *not* added here: Latte adds it once, before its first temporal block.
    Positions are computed for whatever grid arrives and are no parameters: nothing trains them,
    decays them or saves them.

    Args:
        patch_size: side p of a patch, in latent pixels.
        in_channels: channels C of the latents.
        embed_dim: width D of a token, a multiple of 4.
        sample_size: side of the frames that the positions are laid out for, in latent pixels.
    """

    def __init__(
        self, patch_size: int = 2, in_channels: int = 4, embed_dim: int = 768, sample_size: int = 32
    ) -> None:
        super().__init__()
        self.patch_size, self.base_size = patch_size, sample_size // patch_size
        self.in_channels, self.embed_dim = in_channels, embed_dim
        # diffusers squeezes grids above 64 latent pixels a side
        self.interpolation_scale = max(sample_size // 64, 1)
        # one matrix for every patch: a convolution that steps a whole patch at a time
        self.proj = nn.Conv2d(in_channels, embed_dim, kernel_size=patch_size, stride=patch_size)
        codes = self._codes(self.base_size, self.base_size)
        self.register_buffer("positions", codes, persistent=False)

    def _codes(self, rows: int, cols: int) -> Tensor:
        return sincos_2d(self.embed_dim, rows, cols, self.base_size, self.interpolation_scale)

    def grid(self, x: Tensor) -> tuple[int, int]:
        """Rows and columns of patches in one frame of x [B, C, T, H, W] (H/p, W/p)."""
        p, (h, w) = self.patch_size, x.shape[-2:]
        return h // p, w // p

    def forward(self, x: Tensor) -> Tensor:
        """Latents [B, C, T, H, W] -> tokens [B, T, N, D] with N = (H/p) * (W/p), row by row.

        H and W must be multiples of the patch size p; the model checks it at its border.
        """
        rows, cols = self.grid(x)  # x [B, C, T, H, W]
        frames = x.transpose(1, 2).flatten(0, 1)  # [B*T, C, H, W]
        tokens = self.proj(frames).flatten(2).transpose(1, 2)  # [B*T, N, D]
        # every later sum keeps the order in memory of what it adds to: a token's numbers together
        tokens = tokens.unflatten(0, (x.shape[0], x.shape[2])).contiguous()  # [B, T, N, D]
        if (rows, cols) == (self.base_size, self.base_size):
            positions = self.positions  # [N, D]
        else:
            positions = self._codes(rows, cols).to(self.positions)  # [N, D]
        return tokens + positions.to(tokens.dtype)  # [B, T, N, D]
