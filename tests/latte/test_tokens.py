import pytest
import torch
from diffusers.models.embeddings import (
    PatchEmbed,
    get_1d_sincos_pos_embed_from_grid,
    get_2d_sincos_pos_embed,
)

from tests.workbook.test_built import built
from vidgen_lab.latte import tokens
from vidgen_lab.latte.tokens import VideoPatchEmbed, sincos_1d, sincos_2d


@pytest.fixture(scope="module")
def cut():
    """What chapter 3 builds, in both orders."""
    return built(3, "c043")


@pytest.mark.parametrize(
    ("rows", "cols", "base", "scale"),
    [(4, 4, 4, 1), (16, 16, 16, 1), (5, 7, 4, 1), (4, 9, 32, 2), (1, 3, 8, 1)],
)
def test_2d_positions_equal_diffusers_to_the_last_bit(rows, cols, base, scale):
    expected = get_2d_sincos_pos_embed(
        24, (rows, cols), base_size=base, interpolation_scale=scale, output_type="pt"
    ).float()
    assert torch.equal(sincos_2d(24, rows, cols, base, scale), expected)


def test_1d_positions_equal_diffusers_to_the_last_bit():
    expected = get_1d_sincos_pos_embed_from_grid(32, torch.arange(17), output_type="pt").float()
    assert torch.equal(sincos_1d(32, torch.arange(17)).float(), expected)


def test_first_half_of_the_channels_is_the_column():
    codes = sincos_2d(32, 3, 5).view(3, 5, 32)
    assert torch.equal(codes[0, :, :16], codes[2, :, :16])  # same columns in every row
    assert torch.equal(codes[:, 0, 16:], codes[:, 4, 16:])  # same rows in every column
    assert not torch.equal(codes[0, 0, :16], codes[0, 1, :16])


@pytest.mark.parametrize("order", ["ppc", "cpp"])
@pytest.mark.parametrize("patch", [1, 2, 4])
def test_unpatchify_undoes_patchify(cut, order, patch):
    x = torch.randn(2, 3, 5, 8, 12)
    patches = cut.patchify(x, patch, order)
    assert patches.shape == (2, 5, (8 // patch) * (12 // patch), patch * patch * 3)
    assert torch.equal(cut.unpatchify(patches, patch, 8 // patch, 12 // patch, order), x)
    if order == "ppc":
        assert torch.equal(tokens.unpatchify(patches, patch, 8 // patch, 12 // patch), x)


def test_token_order_is_row_by_row(cut):
    x = torch.zeros(1, 1, 1, 4, 6)
    x[..., 2:, 4:] = 1  # the patch in row 1, column 2
    assert cut.patchify(x, 2)[0, 0].sum(-1).tolist() == [0, 0, 0, 0, 0, 4]


def test_embedding_is_a_matrix_on_patches(cut):
    """A matrix and a strided convolution are one thing (its weight is channels first)."""
    layer, x = VideoPatchEmbed(2, 4, 24, 8), torch.randn(2, 4, 3, 8, 8)
    by_hand = cut.patchify(x, 2, "cpp") @ layer.proj.weight.flatten(1).T + layer.proj.bias
    torch.testing.assert_close(layer(x), by_hand + sincos_2d(24, 4, 4))


@pytest.mark.parametrize(("height", "width"), [(8, 8), (8, 12), (4, 16)])
def test_embedding_equals_diffusers(height, width):
    theirs = PatchEmbed(height=8, width=8, patch_size=2, in_channels=4, embed_dim=24)
    ours = VideoPatchEmbed(2, 4, 24, 8)
    ours.proj.load_state_dict(theirs.proj.state_dict())
    x = torch.randn(2, 4, 3, height, width)
    expected = theirs(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (2, 3))
    assert torch.equal(ours(x), expected)


def test_positions_are_neither_trained_nor_saved():
    layer = VideoPatchEmbed(2, 4, 24, 8)
    assert [n for n, _ in layer.named_parameters()] == ["proj.weight", "proj.bias"]
    assert set(layer.state_dict()) == {"proj.weight", "proj.bias"}
