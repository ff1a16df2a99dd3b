import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.latte.references import reference
from vidgen_lab.latte import Latte, LatteConfig, latte_config
from vidgen_lab.latte.attention import SelfAttention
from vidgen_lab.latte.measure import count_flops, saved_bytes


def test_flops_of_a_forward_pass_are_those_of_its_products():
    t, n, dim = 4, 16, 16
    x = torch.zeros(1, t, n, dim)
    for along, pairs in (("space", t * n**2), ("time", n * t**2), ("both", (t * n) ** 2)):
        layer = SelfAttention(dim, 2, along)
        with torch.no_grad():
            counted = count_flops(lambda layer=layer: layer(x))
        assert counted == 4 * pairs * dim + 2 * 4 * t * n * dim * dim


def test_flops_of_a_published_size_are_counted_without_computing_them():
    """1.6 % less than the original's, which runs AdaLN's matrices once per frame and per patch."""
    with torch.device("meta"):
        model, x = Latte(latte_config("S/2")), torch.zeros(1, 4, 16, 32, 32)
    assert round(count_flops(lambda: model(x, 0)) / 1e12, 3) == 0.184


def test_saved_bytes_counts_each_storage_once():
    x = torch.randn(1000, requires_grad=True)
    assert saved_bytes(lambda: x * x) == 4000  # both sides are the same storage
    assert saved_bytes(lambda: x * torch.ones(1000)) == 4000  # x needs no saving for 1's gradient


def test_we_keep_no_more_than_diffusers_for_backward():
    """S/2's width, with equal weights."""
    theirs = reference(
        "no cross-attention", num_attention_heads=6, attention_head_dim=64, sample_size=16,
        video_length=8,
    ).train()  # fmt: skip
    ours = Latte.from_diffusers(theirs)
    x, t, text = torch.randn(1, 4, 8, 16, 16), torch.tensor([5]), torch.zeros(1, 1, 12)
    a = saved_bytes(lambda: theirs(x, encoder_hidden_states=text, timestep=t).sample, theirs)
    b = saved_bytes(lambda: ours(x, t), ours)
    assert b <= a


def test_attention_written_out_keeps_more():
    model = Latte(LatteConfig(hidden_size=32, depth=2, num_heads=8, sample_size=16, num_frames=2))
    x = torch.randn(1, 4, 2, 16, 16)
    fused = saved_bytes(lambda: model(x, 5), model)
    with sdpa_kernel(SDPBackend.MATH):
        naive = saved_bytes(lambda: model(x, 5), model)
    assert naive > 1.3 * fused
