import pytest
import torch
from torch.distributions import Normal, kl_divergence

from tests.latte.references import small_vae
from vidgen_lab.latte import LatteInputError
from vidgen_lab.latte.vae import PatchPCA, VideoVAEDecoder, VideoVAEEncoder, reparameterize
from vidgen_lab.latte.vae import kl_divergence as our_kl


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    return small_vae()


def clips(batch=1, frames=4, height=16, width=24, seed=0):
    """Smooth moving pictures in -1 .. 1, not noise: an autoencoder must have something to find."""
    g = torch.Generator().manual_seed(seed)
    x = torch.linspace(0, 1, width)[None, :]
    y = torch.linspace(0, 1, height)[:, None]
    out = torch.empty(batch, 3, frames, height, width)
    for b in range(batch):
        for c in range(3):
            fx, fy, speed, phase = torch.rand(4, generator=g) * 4
            for t in range(frames):
                out[b, c, t] = torch.sin(fx * x * 3 + fy * y * 3 + speed * t / 4 + phase)
    return out


def test_shapes(vae):
    posterior = vae.encoder(clips(2, 3))
    assert [tuple(v.shape) for v in posterior] == [(2, 4, 3, 2, 3)] * 3
    assert vae.decode(posterior.mu).shape == (2, 3, 3, 16, 24)
    assert VideoVAEEncoder(base_channels=16).conv2.kernel_size == (1, 4, 4)


def test_frames_are_independent(vae):
    x = clips()
    y = x.clone()
    y[:, :, 0] += 1
    z, w = vae.encode(x), vae.encode(y)
    assert (z - w)[:, :, 1:].abs().max() < 1e-6 and (z - w)[:, :, 0].abs().max() > 1e-3
    torch.testing.assert_close(vae.encode(x[:, :, :2]), z[:, :, :2])
    torch.testing.assert_close(vae.decode(z)[:, :, 1:3], vae.decode(z[:, :, 1:3]))


def test_sampling_and_the_deterministic_path(vae):
    x = clips()
    a, b = vae.encoder(x, torch.manual_seed(1)), vae.encoder(x, torch.manual_seed(2))
    assert not torch.equal(a.z, b.z) and torch.equal(a.mu, b.mu)
    assert torch.equal(vae.encoder.encode_to_latent(x), a.mu)
    assert torch.equal(vae.encoder(x, torch.manual_seed(1)).z, a.z)


def test_reparameterisation_has_the_right_spread_and_gradients():
    mu = torch.full((20000,), 2.0, requires_grad=True)
    logvar = torch.full((20000,), -1.0, requires_grad=True)
    z = reparameterize(mu, logvar, torch.manual_seed(0))
    assert z.mean().item() == pytest.approx(2, abs=0.02)
    assert z.std().item() == pytest.approx(torch.tensor(-0.5).exp().item(), abs=0.01)
    z.sum().backward()
    assert torch.equal(mu.grad, torch.ones(20000))
    torch.testing.assert_close(logvar.grad, 0.5 * (z - 2).detach())  # dz/dlogvar = eps sigma / 2


def test_kl_equals_torch():
    mu, logvar = torch.randn(2, 500)
    expected = kl_divergence(Normal(mu, (logvar / 2).exp()), Normal(0, 1)).mean()
    torch.testing.assert_close(our_kl(mu, logvar), expected)


def test_it_learns_to_reconstruct():
    torch.manual_seed(0)
    encoder, decoder = VideoVAEEncoder(base_channels=8), VideoVAEDecoder(base_channels=8)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=3e-3)
    x = clips(4)
    errors = []
    for _ in range(60):
        optimizer.zero_grad()
        posterior = encoder(x)
        error = (decoder(posterior.z) - x).abs().mean()
        (error + 1e-6 * our_kl(posterior.mu, posterior.logvar)).backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < 0.4 * errors[0]


def test_pca_is_the_best_linear_code():
    x = clips(4)
    errors = []
    for k in (1, 4, 16, 192):
        pca = PatchPCA(8, k).fit(x)
        z = pca.encode(x)
        assert z.shape == (4, k, 4, 2, 3)
        errors.append((pca.decode(z) - x).square().mean().item())
    assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-10
    # against torch's own decomposition, same number of components
    from vidgen_lab.latte.tokens import patchify

    rows = patchify(x, 8).flatten(0, 2).double()
    centred = rows - rows.mean(0)
    lost = torch.linalg.svdvals(centred)[4:].square().sum() / rows.numel()
    assert errors[1] == pytest.approx(lost.item(), rel=1e-4)
    with pytest.raises(LatteInputError, match="fit"):
        PatchPCA().encode(x)


def test_wrong_inputs(vae):
    with pytest.raises(LatteInputError, match=r"5 axes .*given 4 axes"):
        vae.encode(torch.zeros(3, 2, 16, 16))
    with pytest.raises(LatteInputError, match="multiples of 8, given 20x16"):
        vae.encode(torch.zeros(1, 3, 2, 20, 16))
