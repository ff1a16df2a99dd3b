import pytest
import torch
from diffusers import AutoencoderKL

from tests.latte.references import randomise
from vidgen_lab.latte import FrameVAE, LatteInputError

LAYOUTS = {
    "three levels": dict(block_out_channels=(8, 16, 16), layers_per_block=1, norm_num_groups=4),
    "no attention": dict(
        block_out_channels=(8, 16), layers_per_block=2, norm_num_groups=4,
        mid_block_add_attention=False,
    ),
    "sixteen channels": dict(
        block_out_channels=(8, 8, 8, 16), layers_per_block=1, norm_num_groups=8, latent_channels=16,
        scaling_factor=0.7,
    ),
}  # fmt: skip


def reference(layout="three levels"):
    settings = {"latent_channels": 4, "sample_size": 32, **LAYOUTS[layout]}
    levels = len(settings["block_out_channels"])
    blocks = dict(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
    )
    return randomise(AutoencoderKL(**settings, **blocks), std=0.2).eval()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_equal_to_autoencoder_kl_frame_by_frame(layout):
    theirs = reference(layout)
    ours = FrameVAE.from_diffusers(theirs)
    ours.chunk = 2
    x = torch.randn(2, 3, 5, 16, 24)
    with torch.no_grad():
        frames = x.transpose(1, 2).flatten(0, 1)
        expected = theirs.encode(frames).latent_dist
        mu, logvar = ours.moments(x)
        for given, right in ((mu, expected.mean), (logvar, expected.logvar)):
            gap = (given.transpose(1, 2).flatten(0, 1) - right).abs().max()
            assert right.std() > 0.01 and gap <= 1e-5
        z = ours.encode(x)
        torch.testing.assert_close(z, mu * theirs.config.scaling_factor)
        flat = z.transpose(1, 2).flatten(0, 1) / theirs.config.scaling_factor
        right = theirs.decode(flat).sample.unflatten(0, (2, 5)).transpose(1, 2)
        assert right.std() > 0.01 and (ours.decode(z) - right).abs().max() <= 1e-5


def test_from_a_folder_and_from_a_pipelines(tmp_path):
    theirs = reference()
    theirs.save_pretrained(tmp_path / "vae")
    x = torch.randn(1, 3, 2, 16, 24)
    expected = FrameVAE(theirs).encode(x)
    for folder in (tmp_path / "vae", tmp_path):
        assert torch.equal(FrameVAE.from_diffusers(folder).encode(x), expected)


def test_chunks_change_nothing():
    ours = FrameVAE.from_diffusers(reference())
    x = torch.randn(1, 3, 7, 8, 8)
    whole = ours.encode(x)
    for chunk in (1, 3, 100):
        ours.chunk = chunk
        torch.testing.assert_close(ours.encode(x), whole, rtol=0, atol=1e-6)


def test_published_size():
    """Stable Diffusion's: 83.65 million parameters, 256 -> 32."""
    with torch.device("meta"):
        vae = FrameVAE(
            AutoencoderKL(
                block_out_channels=(128, 256, 512, 512),
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                layers_per_block=2,
            )
        )
    assert sum(p.numel() for p in vae.parameters()) == 83_653_863
    assert vae.spatial_factor == 8 and vae.config.scaling_factor == 0.18215


def test_wrong_inputs():
    vae = FrameVAE(reference())
    with pytest.raises(LatteInputError, match="multiples of 4, given 6x8"):
        vae.encode(torch.zeros(1, 3, 1, 6, 8))
    with pytest.raises(LatteInputError, match="clip: expected 5 axes"):
        vae.encode(torch.zeros(1, 3, 8, 8))
    with pytest.raises(LatteInputError, match="shift_factor: expected None, given 0.1"):
        FrameVAE(AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, shift_factor=0.1))
