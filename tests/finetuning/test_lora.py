import sys
from importlib import metadata

import pytest
import torch
from peft.utils import get_peft_model_state_dict

from tests.finetuning.trained import old_torchao, trained_transformer
from tests.tiny_models import tiny_pipeline
from vidgen_lab.finetuning.export import probe_inputs
from vidgen_lab.finetuning.lora import (
    ATTENTION,
    CogVideoLoRAConfig,
    apply_lora_to_model,
    count_trainable,
)
from vidgen_lab.finetuning.specification import CogVideoXSpec
from vidgen_lab.generation.lora_file import linear_shapes


@pytest.fixture
def spec(folders):
    return CogVideoXSpec.from_folder(folders["2b"])


@torch.no_grad()
def output(transformer, spec, dtype=torch.float32):
    return transformer(**probe_inputs(spec, dtype), return_dict=False)[0]


def test_a_new_adapter_changes_nothing_and_alone_is_trained(spec):
    transformer = tiny_pipeline("2b").transformer.eval()
    before = output(transformer, spec)
    said = apply_lora_to_model(transformer, CogVideoLoRAConfig(rank=4))
    assert torch.equal(output(transformer, spec), before)
    trained = {name for name, p in transformer.named_parameters() if p.requires_grad}
    assert trained and all(".lora_" in name for name in trained)
    # 2 blocks x 4 projections of 32x32, each 4 * (32 + 32)
    assert (said.trained, said.layers) == (2 * 4 * 4 * 64, 8)
    assert said.total == sum(p.numel() for p in tiny_pipeline("2b").transformer.parameters())
    assert str(said) == "2,048 of 35,616 parameters are trained in 8 layers (5.75 %)"


@pytest.mark.parametrize("heads,layers,rank,millions", [(30, 30, 128, 59.0), (48, 42, 128, 132.1)])
def test_published_sizes(heads, layers, rank, millions):
    from diffusers import CogVideoXTransformer3DModel

    with torch.device("meta"):
        model = CogVideoXTransformer3DModel(
            num_attention_heads=heads, num_layers=layers, use_rotary_positional_embeddings=True
        )
    widths = [pair for name, pair in linear_shapes(model).items() if name.endswith(ATTENTION)]
    count = sum(rank * (inside + outside) for inside, outside in widths)
    assert round(count / 1e6, 1) == millions  # model-anchors 2.4


def test_what_is_trained_is_float32_on_a_bfloat16_base(spec):
    transformer = tiny_pipeline("2b").transformer.to(torch.bfloat16)
    apply_lora_to_model(transformer, CogVideoLoRAConfig(rank=4))
    kinds = {p.requires_grad: p.dtype for p in transformer.parameters()}
    assert kinds == {True: torch.float32, False: torch.bfloat16}
    out = transformer(**probe_inputs(spec, torch.bfloat16), return_dict=False)[0]
    out.float().square().mean().backward()
    gradients = [p.grad for n, p in transformer.named_parameters() if ".lora_B." in n]
    assert all(g.dtype == torch.float32 and g.abs().sum() > 0 for g in gradients)


def test_what_an_adapter_reads_is_widened_only_where_autocast_does_not_narrow_it(spec):
    transformer = tiny_pipeline("2b").transformer.to(torch.bfloat16)
    apply_lora_to_model(transformer, CogVideoLoRAConfig(rank=4))
    layer, read = transformer.transformer_blocks[0].attn1.to_q.lora_A["default"], []
    layer.register_forward_pre_hook(lambda _, given: read.append(given[0].dtype))
    output(transformer, spec, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        output(transformer, spec, torch.bfloat16)
    output(transformer, spec, torch.bfloat16)
    assert read == [torch.float32, torch.bfloat16, torch.float32]


def test_the_start_depends_on_the_seed_alone(spec):
    def start(seed):
        transformer = tiny_pipeline("2b").transformer
        torch.manual_seed(seed + 17)
        apply_lora_to_model(transformer, CogVideoLoRAConfig(rank=4), seed=seed)
        return get_peft_model_state_dict(transformer)

    def same(one, other):
        return all(torch.equal(one[name], other[name]) for name in one)

    state = torch.get_rng_state()
    one = start(1)
    torch.set_rng_state(state)
    assert same(one, start(1)) and not same(one, start(2))


def test_alpha_is_the_rank_unless_said_and_scales_the_update(spec):
    for alpha, scale in ((None, 1.0), (2, 0.5)):
        layers = trained_transformer(rank=4, alpha=alpha).modules()
        assert {m.scaling["default"] for m in layers if hasattr(m, "scaling")} == {scale}
    base = output(tiny_pipeline("2b").transformer.eval(), spec)
    one, half = (trained_transformer(rank=4, alpha=alpha) for alpha in (4, 2))
    for layer in one.modules():
        if hasattr(layer, "scaling"):
            layer.scaling["default"] = 0.5
    assert torch.equal(output(one, spec), output(half, spec))
    assert not torch.equal(output(half, spec), base)


def test_targets_that_match_nothing_are_refused_naming_what_there_is():
    transformer = tiny_pipeline("2b").transformer
    with pytest.raises(ValueError, match=r"called query; it has .*attn1\.to_q"):
        apply_lora_to_model(transformer, CogVideoLoRAConfig(targets=("to_q", "query")))
    assert not hasattr(transformer, "peft_config")
    more = apply_lora_to_model(transformer, CogVideoLoRAConfig(4, targets=("to_q", "ff.net.2")))
    assert more.layers == 4


@pytest.mark.parametrize(
    "wrong", [dict(rank=0), dict(alpha=0.0), dict(dropout=1.0), dict(targets=())]
)
def test_impossible_numbers(wrong):
    with pytest.raises(ValueError):
        CogVideoLoRAConfig(**wrong)


def test_merged_is_the_same_model_without_an_adapter(spec):
    transformer = trained_transformer(rank=4, alpha=6)
    trained = output(transformer, spec)
    transformer.fuse_lora()
    transformer.unload_lora()
    assert not [name for name, _ in transformer.named_parameters() if "lora" in name]
    torch.testing.assert_close(output(transformer, spec), trained, rtol=1e-5, atol=1e-5)
    assert count_trainable(transformer).layers == 0


def test_the_sum_in_one_pass_is_pefts_own_forwards_backwards_and_taken_back(spec):
    transformer = trained_transformer(rank=4, alpha=6).double()
    layers = [m for m in transformer.modules() if getattr(m, "lora_variant", None)]
    assert len(layers) == 8
    found = []
    for _ in range(2):
        transformer.zero_grad()
        out = transformer(**probe_inputs(spec, torch.float64), return_dict=False)[0]
        out.square().mean().backward()
        learnt = {n: p.grad.clone() for n, p in transformer.named_parameters() if p.requires_grad}
        found.append({"out": out.detach()} | learnt)
        for layer in layers:
            layer.lora_variant.clear()
    assert len(found[0]) == 17
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-12)
    whole = trained_transformer(rank=4, alpha=6)
    before = whole.transformer_blocks[0].attn1.to_q.weight.clone()
    whole.fuse_lora()
    assert not torch.equal(whole.transformer_blocks[0].attn1.to_q.weight, before)
    whole.unfuse_lora()
    torch.testing.assert_close(whole.transformer_blocks[0].attn1.to_q.weight, before)


def test_works_beside_a_torchao_that_peft_refuses(monkeypatch, tmp_path, spec):
    """Colab has torchao 0.10; PEFT raises ImportError there for every adapter."""
    from peft.import_utils import is_torchao_available

    monkeypatch.syspath_prepend(old_torchao(tmp_path / "site"))
    is_torchao_available.cache_clear()
    try:
        assert metadata.version("torchao") == "0.10.0"
        with pytest.raises(ImportError, match="incompatible version of torchao"):
            is_torchao_available()
        trained_transformer(rank=4)
        import torchao

        assert torchao.__version__ == "0.10.0"
    finally:
        sys.modules.pop("torchao", None)
        is_torchao_available.cache_clear()
